"""What notebooks say of their parameters, what P and profiles say, and what stops a book before it runs."""

import re

import pytest
from small_book import make_book, write_notebook

from grokking_book.make import build, settings
from grokking_book.sources import parameters
from grokking_book.sources.parameters import WrongUse
from grokking_core import devices

# Parameters: what a notebook says of itself.


def test_parameters_have_default_type_and_help(small):
    known = parameters.read_parameters(small.notebooks()["one"])
    assert {name: known[name].kind for name in known} == {
        "fraction": "float",
        "seeds": "list[int]",
        "operation": "str",
        "stop_at": "float | None",
    }
    assert known["seeds"].default == [0, 1]
    assert known["fraction"].help == "share of the table"


def test_parameters_cell_must_be_there(tmp_path):
    write_notebook(tmp_path / "bare.ipynb", "p = 97", tags=())
    with pytest.raises(WrongUse, match="no cell tagged 'parameters'"):
        parameters.read_parameters(tmp_path / "bare.ipynb")


@pytest.mark.parametrize("source", ["import os", "p = 90 + 7", "a = b = 1", "p: int"])
def test_parameters_cell_holds_literals_only(tmp_path, source):
    write_notebook(tmp_path / "odd.ipynb", source)
    with pytest.raises(WrongUse, match=r"odd\.ipynb, parameters cell"):
        parameters.read_parameters(tmp_path / "odd.ipynb")


# Parameters: what P says.


def test_assignments_are_read_as_literals():
    text = "train_fraction=0.6 seeds=[0, 1,2] operation='x+y' lr=1e-3 stop_at=none full=true q=x/y|x-y"
    assert parameters.parse_assignments(text) == {
        "train_fraction": 0.6,
        "seeds": [0, 1, 2],
        "operation": "x+y",
        "lr": 0.001,
        "stop_at": None,
        "full": True,
        "q": "x/y|x-y",
    }
    assert parameters.parse_assignments('words="two words"') == {"words": "two words"}
    assert parameters.parse_assignments("""f={'x+y': [0.3, 0.4], "x/y": [1]} g={0: [0.3]}""") == {
        "f": {"x+y": [0.3, 0.4], "x/y": [1]},
        "g": {0: [0.3]},
    }
    assert parameters.parse_assignments("  ") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fraction", "is not name=value"),
        ("=3", "is not name=value"),
        ("seeds=[0, 1", "cannot be read"),
        ("word='open", "cannot be read"),
        ("name=", "cannot be read"),
        ("call=open('x')", "cannot be read"),
        ("p=3 p=5", "given twice"),
    ],
)
def test_assignment_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(WrongUse, match=message):
        parameters.parse_assignments(text)


def test_assignment_goes_to_the_notebooks_that_know_it(small):
    one, two = build.plan(small, "smoke", "p=5")
    assert (one.values, two.values) == ({"fraction": 0.25}, {"p": 5})


def test_assignment_goes_over_the_profile(small):
    one, _ = build.plan(small, "smoke", "fraction=0.75")
    assert one.values == {"fraction": 0.75}


# Parameters: what stops the book before anything runs.


def test_unknown_parameter_lists_the_known_ones(small, capsys):
    assert make_book(small, "-p", "fractoin=0.6") == 2
    told = capsys.readouterr().err
    for words in (
        "'fractoin'",
        "fraction: float = 0.5",
        "seeds: list[int] = [0, 1]",
        "p: int = 97",
    ):
        assert words in told
    assert not small.build.exists()


def test_unknown_parameter_of_one_notebook_is_not_sought_in_others(small, capsys):
    assert make_book(small, "--only", "one", "-p", "p=5") == 2
    told = capsys.readouterr().err
    assert "'p'" in told
    assert "fraction: float" in told
    assert not small.build.exists()


def test_wrong_type_names_parameter_value_and_type(small, capsys):
    assert make_book(small, "-p", "seeds=3") == 2
    assert "seeds=3 must be list[int]" in capsys.readouterr().err
    assert not small.build.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("fractions={'x+y': 0.3}", "must be dict[str, list[float]]; 0.3 is not list[float]"),
        ("fractions={0: [0.3]}", "must be dict[str, list[float]]; 0 is not str"),
        ("fractions=0.3", "fractions=0.3 must be dict[str, list[float]]"),
        ("fractions={}", "P: grid: fractions={} is empty; at least one value is needed"),
        ("fractions={'x+y': []}", "P: grid: fractions['x+y']=[] is empty; at least one value"),
        ("seeds=[]", "P: grid: seeds=[] is empty; at least one value is needed"),
        ("seeds=[0, 0, 0]", "P: grid: seeds=[0, 0, 0] has 0 twice; name each value once"),
        ("fractions={'x+y': [0.3, 0.30]}", "P: grid: fractions['x+y']=[0.3, 0.3] has 0.3 twice"),
        ("lr=nan", "P: grid: lr='nan' must be float; it must be a finite number"),
        ("lr=1e999", "P: grid: lr=inf must be float; it must be a finite number"),
        ("lr=-inf", "P: grid: lr='-inf' must be float; it must be a finite number"),
    ],
)
def test_wrong_or_empty_collection_is_named(tmp_path, given, message):
    write_notebook(tmp_path / "grid.ipynb", 'fractions = {"x+y": [0.3], "x/y": [1]}\nseeds = [0]\nlr = 1e-3')
    known = {"grid": parameters.read_parameters(tmp_path / "grid.ipynb")}
    with pytest.raises(WrongUse, match=re.escape(message)):
        parameters.assign({"grid": {}}, parameters.parse_assignments(given), known)


def test_unknown_notebook_lists_the_known_ones(small, capsys):
    assert make_book(small, "--only", "three") == 2
    assert "ONLY=three is unknown; the notebooks are: one, two" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["many", "0.5", "-1", "0", "٣"])
def test_jobs_must_be_a_number(small, capsys, jobs):
    assert make_book(small, f"--jobs={jobs}") == 2
    assert f"JOBS={jobs}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("three: {p: 5}", r"smoke\.yml: no notebook 'three'; the keys are: one, two"),
        ("two: {q: 5}", r"smoke\.yml: two: unknown parameter 'q'(.|\n)*p: int = 97"),
        ("two: {p: five}", r"smoke\.yml: two: p='five' must be int"),
        ("one: {fraction: 1e-3}", r"must be float; in YAML write 0\.001"),
        ("two: {p: 1e3}", r"must be int; write 1000$"),
        ("two: {p: 1.5}", r"p=1\.5 must be int$"),
        ("one: {seeds: []}", r"smoke\.yml: one: seeds=\[\] is empty; at least one value is needed"),
        ("two: 5", r"smoke\.yml: two must map parameters to values"),
        ("[two]", r"smoke\.yml must map notebooks to parameters"),
        ("one: {", r"smoke\.yml is not YAML"),
    ],
)
def test_profile_error_names_file_and_key(small, profile, message):
    (small.book / "profiles" / "smoke.yml").write_text(profile)
    with pytest.raises(WrongUse, match=message):
        build.plan(small, "smoke", "")


def test_profile_that_is_a_file_of_ones_own_is_told_where_to_go(small):
    with pytest.raises(WrongUse, match=r"PROFILE=.*/mine.yml is a file: copy it into book/profiles"):
        build.plan(small, "/some/where/mine.yml", "")


def test_profile_that_is_no_text_is_refused(small):
    (small.book / "profiles" / "smoke.yml").write_bytes(b"two: {p: 5}  # caf\xe9")
    with pytest.raises(WrongUse, match=r"smoke.yml is not UTF-8 text: byte 0xe9 at 18"):
        build.plan(small, "smoke", "")


def test_unknown_profile_lists_the_known_ones(small):
    with pytest.raises(WrongUse, match="PROFILE=large is unknown; the profiles are: smoke"):
        build.plan(small, "large", "")


def test_empty_profile_leaves_the_defaults(small):
    (small.book / "profiles" / "smoke.yml").write_text("# nothing\n")
    assert [job.values for job in build.plan(small, "smoke", "")] == [{}, {}]


@pytest.mark.parametrize(("card", "profile"), [(False, "laptop"), (True, "paper")])
def test_default_profile_follows_the_device_of_a_sweep(small, monkeypatch, card, profile):
    monkeypatch.setattr(settings, "has_card", lambda: card)
    assert settings.default_profile(small, trains=True) == profile


@pytest.mark.parametrize("device", ["cpu", None])
def test_card_that_cannot_be_used_is_named_and_the_profile_is_a_processors(
    small, monkeypatch, capsys, device
):
    why = "GPU 0: NVIDIA H100 is not used: the driver is too old; update the driver"
    monkeypatch.setattr(devices, "usable_device", lambda: (device, why))
    assert settings.default_profile(small, trains=True) == "laptop"
    assert capsys.readouterr().out == f"{why}\n"


@pytest.mark.parametrize("name", ["overnight", "paper"])
def test_default_profile_is_the_largest_whose_records_are_complete(small, no_card, name):
    records = small.book / "records"
    records.mkdir()
    (records / f"{name}.parquet").touch()
    assert settings.default_profile(small, trains=False) == "laptop"  # shipped in part
    (records / "complete.yml").write_text(f"- laptop\n- {name}\n")
    assert settings.default_profile(small, trains=False) == name
    assert settings.default_profile(small, trains=True) == "laptop"
    (records / f"{name}.parquet").unlink()
    assert settings.default_profile(small, trains=False) == "laptop"


@pytest.mark.parametrize(
    ("arguments", "profile"),
    [([], "paper"), (["-p", "fraction=0.6"], "laptop"), (["--fresh"], "laptop")],
    ids=["nothing asked", "P", "FRESH"],
)
def test_default_profile_with_shipped_records_trains_no_paper(
    small, no_card, monkeypatch, arguments, profile
):
    (small.book / "records").mkdir()
    (small.book / "records" / "paper.parquet").touch()
    (small.book / "records" / "complete.yml").write_text("- paper\n")
    for name in ("laptop", "paper"):
        (small.book / "profiles" / f"{name}.yml").touch()
    asked = []
    monkeypatch.setattr(build, "execute_all", lambda jobs, places, workers, env: asked.append(env) or [])
    monkeypatch.setattr(build, "render_if_changed", lambda places, jobs: build.Row("the site", "rendered"))
    build.build(small, settings.read(["--root", str(small.root), *arguments]))
    assert {env["GROKKING_PROFILE"] for env in asked} == {profile}
