import pytest
import yaml

from grokking_core.paper import experiments, profiles
from grokking_core.paper.experiments import EXPERIMENTS

PROFILES = ("smoke", "laptop", "overnight", "paper")


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_of_the_book_name_every_experiment(name):
    assert set(experiments.load_profile(name)) == set(EXPERIMENTS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fig9: {seeds: [1]}", "experiment 'fig9' is unknown; choose from fig1_grokking_curves"),
        ("fig1_grokking_curves: {sedes: [1]}", "no parameter 'sedes'; choose from operation, p, "),
        ("fig1_grokking_curves: {seeds: []}", r"seeds=\[\] is empty"),
        ("fig2_operations: {fractions: {}}", "fractions={} is empty"),
        ("fig2_operations: {fractions: {x+y: []}}", r"fractions={'x\+y': \[\]} is empty"),
        ("fig2_operations: {fractions: [0.5]}", "must be of type Mapping.str, Fractions."),
        ("fig2_operations: {fractions: {x+y: 0.5}}", "must be of type Mapping.str, Fractions."),
        ("fig6_outliers: {fractions: {many: [0.5]}}", "must be of type Mapping.int, Fractions."),
        ("fig6_outliers: {stop_at: x}", "stop_at='x' must be of type float | None"),
        ("fig1_grokking_curves: {seeds: 1}", "seeds=1 must be of type Sequence.int."),
        ("fig1_grokking_curves: {seeds: [a]}", r"seeds=\['a'\] must be of type Sequence.int."),
        ("fig1_grokking_curves: {p: 9.5}", "p=9.5 must be of type int"),
        ("fig1_grokking_curves: {p: true}", "p=True must be of type int"),
        ("fig1_grokking_curves: {lr: 1e-3}", "lr='1e-3' must be of type float; write 1.0e-3"),
        ("fig1_grokking_curves: {threshold: high}", "threshold='high' must be of type float"),
        ("fig1_grokking_curves: 5", "fig1_grokking_curves must map parameters to values"),
        ("[1, 2]", "must map experiments to parameters; it is a list"),
        ("a: [", "is not YAML"),
        ("fig1_grokking_curves: {lr: .nan}", "lr=nan must be of type float; it must be a finite number"),
        ("fig1_grokking_curves: {lr: -.inf}", "lr=-inf must be of type float; it must be a finite number"),
        ("fig1_grokking_curves: {lr: nan}", "lr='nan' must be of type float; it must be a finite number"),
        ("fig1_grokking_curves: {lr: 1.0e+999}", "lr=inf must be of type float; it must be a finite number"),
        ("fig1_data_fraction: {train_fractions: [0.5, .nan]}", "nan is not float"),
        ("fig1_grokking_curves: {seeds: [0, 1, 0]}", r"seeds=\[0, 1, 0\] has 0 twice; name each value once"),
        ("fig1_data_fraction: {train_fractions: [0.5, 0.50]}", "has 0.5 twice"),
        ("fig2_operations: {fractions: {x+y: [0.3, 0.4, 0.3]}}", r"fractions\['x\+y'\]=.* has 0.3 twice"),
        ("fig3_embeddings: {weight_decays: [1, 1.0]}", "has 1.0 twice"),
        ("rounding: {precisions: [fp32, fp32]}", "has 'fp32' twice"),
        ("rounding: {precision: fp64}", "no parameter 'precision'"),
        ("fig2_optimizers: {lr: 0.01}", "no parameter 'lr'"),
        ("film: {p: 97, p: 23}", "is not YAML: (.|\n)*'p' is given twice"),
        ("[" * 5000, "is not YAML"),
    ],
)
def test_wrong_profile_names_file_key_and_what_is_allowed(tmp_path, text, said):
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}.*{said}"):
        experiments.load_profile(str(path))


def test_whole_numbers_are_floats_too(tmp_path):
    (tmp_path / "mine.yml").write_text("fig1_grokking_curves: {weight_decay: 1}")
    assert experiments.load_profile(str(tmp_path / "mine.yml"))["fig1_grokking_curves"] == {"weight_decay": 1}


def test_parameters_of_the_reading_decide_no_run(tmp_path):
    (tmp_path / "mine.yml").write_text(yaml.safe_dump({"fig1_grokking_curves": {"threshold": 0.9}}))
    assert experiments.load_profile(str(tmp_path / "mine.yml")) == {"fig1_grokking_curves": {}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("film: {}  # caf\xe9".encode("latin-1"), "is not UTF-8 text: byte 0xe9 at 15"),
        (b"\xff\xfe", "is not UTF-8 text: byte 0xff at 0"),
        (b"film: \x00", "is not YAML"),
    ],
)
def test_file_that_is_no_text_is_refused(tmp_path, content, said):
    (tmp_path / "mine.yml").write_bytes(content)
    with pytest.raises(ValueError, match=f"mine.yml {said}"):
        experiments.load_profile(str(tmp_path / "mine.yml"))


def test_profile_that_is_not_there_lists_those_that_are(tmp_path):
    with pytest.raises(ValueError, match=r"is unknown: .*choose from .*laptop, overnight, paper"):
        experiments.load_profile("large")
    with pytest.raises(ValueError, match=r"is unknown: no file .*mine.yml"):
        experiments.load_profile(str(tmp_path / "mine.yml"))
    with pytest.raises(ValueError, match=r"is unknown: .*choose from none"):
        profiles.path_of("laptop", tmp_path / "none")


def test_number_too_large_for_a_float_is_refused():
    with pytest.raises(ValueError, match="is not float"):
        profiles.fit(10**400, "float")


@pytest.mark.parametrize(
    ("value", "kind", "fitted"),
    [
        (1, "float", 1.0),
        ([1, 0.5], "list[float]", [1.0, 0.5]),
        ((0.9, 0.98), "list[float]", [0.9, 0.98]),
        (None, "float | None", None),
        (1, "float | None", 1.0),
        ("x/y", "str", "x/y"),
        (True, "bool", True),
        ({"a": 1}, "dict", {"a": 1}),
        ({"x+y": [0.3, 1]}, "dict[str, list[float]]", {"x+y": [0.3, 1.0]}),
        ({0: [0.3], 100: (0.5,)}, "dict[int, list[float]]", {0: [0.3], 100: [0.5]}),
        ({"x+y": None}, "dict[str, float | None]", {"x+y": None}),
    ],
)
def test_value_fits_type(value, kind, fitted):
    result = profiles.fit(value, kind)
    assert result == fitted
    assert type(result) is type(fitted)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0.5, "int"),
        (True, "int"),
        (True, "float"),
        (1, "bool"),
        ("1e-3", "float"),
        ([0, "1"], "list[int]"),
        (3, "list[int]"),
        (None, "float"),
        ("a", "float | None"),
        (5, "str"),
        (float("inf"), "float"),
        (float("nan"), "float"),
        ({"0": [0.3]}, "dict[int, list[float]]"),
        ({0: [0.3]}, "dict[str, list[float]]"),
        ({"x+y": 0.3}, "dict[str, list[float]]"),
        ([0.3], "dict[str, list[float]]"),
        ({"x+y": [0.3]}, "list[float]"),
    ],
)
def test_value_of_another_type_is_refused(value, kind):
    with pytest.raises(ValueError, match="is not"):
        profiles.fit(value, kind)


def test_kind_of_a_list_is_that_of_its_entries():
    assert profiles.kind_of([0, 1]) == "list[int]"
    assert profiles.kind_of([0.5, 1]) == "list[float]"
    assert profiles.kind_of([]) == "list"
    assert profiles.kind_of([[0, 1], [2]]) == "list[list[int]]"
    assert profiles.kind_of([[0], [0.5]]) == "list[list[float]]"
    assert profiles.kind_of([1, "a"]) == "list[int | str]"


def test_kind_of_a_dictionary_is_that_of_its_keys_and_values():
    assert profiles.kind_of({"x+y": [0.2, 0.3], "x/y": [1]}) == "dict[str, list[float]]"
    assert profiles.kind_of({0: [0.3], 100: [0.3]}) == "dict[int, list[float]]"
    assert profiles.kind_of({"a": 1, "b": 0.5}) == "dict[str, float]"
    assert profiles.kind_of({}) == "dict"
