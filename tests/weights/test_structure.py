from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from grokking_core import Run
from grokking_core.runs.record import Record
from grokking_core.weights import cosets, structure

ADDITION = Run(operation="x+y", p=97, weight_decay=0.0, seed=3)
PRODUCT = Run(operation="s5:xy", n=5)
FIELDS = ("agreement", "chance", "z", "p_corrected")


def record(run, rows, validation=(0.1, 1.0, 0.9)):
    step = np.arange(len(validation)) * 10
    curve = pd.DataFrame({"step": step, "validation_accuracy": validation})
    curve = curve.assign(train_accuracy=0.99, unmirrored_accuracy=0.5)
    return Record(run=run, curve=curve, kept={"output_rows": {"rows": np.asarray(rows, np.float32)}})


def circle(frequency, p=97):
    """Rows of residues on a circle, and those of `op` and `=`."""
    angle = 2 * np.pi * frequency * np.arange(p) / p
    return np.concatenate([np.stack([np.cos(angle), np.sin(angle)], axis=1), np.zeros((2, 2))])


def clusters(subgroup, side="right", n=120):
    """Rows of permutations around a centre for each coset, and those of `op` and `=`."""
    generator, labels = np.random.default_rng(0), cosets.labels(subgroup, side)
    rows = generator.normal(size=(labels.max() + 1, 30))[labels] + 0.3 * generator.normal(size=(n, 30))
    return np.concatenate([rows, np.zeros((2, 30))])


def test_addition_is_tested_for_lines_and_a_permutation_product_for_cosets():
    line, paper = structure.structure_of(record(ADDITION, circle(12))), cosets.paper_subgroup()
    assert not line.on_group
    assert structure.name_of(line.test.iloc[0]) == "+8"
    product = structure.structure_of(record(PRODUCT, clusters(paper)))
    assert product.on_group
    assert structure.name_of(product.test.iloc[0]) == "D5 (order 10), right"
    np.testing.assert_array_equal(product.labels(), cosets.labels(paper, "right"))
    np.testing.assert_allclose(product.rows, clusters(paper)[:120], rtol=1e-6)


def test_picture_has_a_point_and_a_label_for_each_element():
    network = structure.structure_of(record(ADDITION, circle(5)))
    assert network.points().shape == (97, 2)
    assert len(network.labels()) == 97
    assert len(set(network.labels())) == 8


def test_summary_has_the_best_and_the_papers_beside_it():
    networks = [structure.structure_of(record(ADDITION, circle(f))) for f in (12, 5)]
    table = structure.table(networks)
    assert list(table["best"]) == ["+8", "+39"]  # 8 x 12 = 96, 39 x 5 = 195 = 1
    assert list(table["paper"]) == ["+8", "+8"]
    assert table["paper_place"][0] == 1 < table["paper_place"][1]
    first, second = networks[0].test.iloc[0], networks[1].test.set_index("step").loc[8]
    for name in FIELDS:
        assert table[name][0] == table[f"paper_{name}"][0] == first[name]
        assert table[f"paper_{name}"][1] == second[name]
    assert list(table["frequencies"]) == [1, 1]


def test_summary_takes_the_papers_conjugate_that_stands_out_most():
    other = next(s for s in cosets.subgroups(5) if s.name == "D5" and s != cosets.paper_subgroup())
    row = structure.table([structure.structure_of(record(PRODUCT, clusters(other, "left")))]).iloc[0]
    assert (row["best"], row["paper"], row["paper_place"]) == ("D5 (order 10), left",) * 2 + (1,)
    assert pd.isna(row["frequencies"])


def test_summary_takes_accuracies_of_the_end_where_the_rows_are_from():
    row = structure.table([structure.structure_of(record(ADDITION, circle(12)))]).iloc[0]
    assert (row["weight_decay"], row["seed"], row["followed"], row["missing"]) == (0, 3, 20, False)
    assert (row["train"], row["validation"], row["unmirrored"], row["best_validation"]) == (0.99, 0.9, 0.5, 1)
    assert not row["knows"], "of the unmirrored pairs it has half"


def test_summary_has_no_paper_where_the_group_has_no_such_subgroup():
    rows = np.random.default_rng(0).normal(size=(26, 8))
    row = structure.table([structure.structure_of(record(Run(operation="s5:xy", n=4), rows))]).iloc[0]
    assert pd.isna(row["paper"])
    assert pd.isna(row["paper_place"])
    assert row["chance"] > 0


@pytest.mark.parametrize("run", [ADDITION, PRODUCT], ids=lambda run: run.operation)
def test_diverged_network_has_no_structure_and_a_row_of_the_summary(run):
    network = structure.structure_of(record(run, np.full((run.n_elements + 2, 4), np.nan)))
    assert network.test.empty
    assert network.paper.empty
    assert len(network.points()) == len(network.labels()) == 0
    row = structure.table([network]).iloc[0]
    assert pd.isna(row["best"])
    assert np.isnan(row["z"])
    assert row["followed"] == 20


def test_settings_have_what_stands_out_in_each_network_that_knows_its_task():
    runs = [
        replace(PRODUCT, train_fraction=share, seed=seed) for share, seed in ((0.9, 0), (0.9, 1), (0.5, 0))
    ]
    another = next(subgroup for subgroup in cosets.subgroups(5) if subgroup.name == "A4")
    subgroups = [cosets.paper_subgroup(), another, another]
    networks = [record(run, clusters(subgroup)) for run, subgroup in zip(runs, subgroups, strict=True)]
    ignorant = record(replace(PRODUCT, seed=2), clusters(cosets.paper_subgroup()))
    ignorant.curve["validation_accuracy"] = 0.1
    table = structure.by_setting([structure.structure_of(each) for each in (*networks, ignorant)])
    assert table["share"].tolist() == [0.5, 0.9]
    assert (table["networks"].tolist(), table["know"].tolist()) == ([2, 2], [1, 2])
    assert table["most"][1][0] == "D5 (order 10), right"
    assert [places[0] == 1 for places in table["places"]] == [False, True]
    assert structure.by_setting([]).empty


def test_missing_runs_come_last_in_the_summary_and_have_no_numbers():
    table = structure.table([structure.structure_of(record(ADDITION, circle(12)))], missing=[PRODUCT])
    assert list(table["operation"]) == ["x+y", "s5:xy"]
    assert list(table["missing"]) == [False, True]
    assert table.iloc[1, 3:-1].isna().all()
    nothing = structure.table([])
    assert (len(nothing), list(nothing)) == (0, list(table))


def test_record_without_output_rows_is_an_error():
    without = Record(run=ADDITION, curve=pd.DataFrame())
    with pytest.raises(ValueError, match=r'has no output rows; ask for keep=\("output_rows",\)'):
        structure.structure_of(without)
    with pytest.raises(ValueError, match=r"p=3 must be at least 4"):
        structure.structure_of(record(Run(operation="x+y", p=3), np.ones((3, 2))))
