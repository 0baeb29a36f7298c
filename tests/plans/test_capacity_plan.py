from grokking_core.plans.capacity import capacity, n_parameters
from grokking_core.runs.run import Run


def test_each_width_learns_the_rule_and_as_many_random_answers():
    rule, random = capacity(widths=[8, 16], seeds=[0, 1], p=11, random_steps=70).parts
    assert [(run.d_model, run.seed) for run in rule.runs] == [(8, 0), (8, 1), (16, 0), (16, 1)]
    assert {run.outliers for run in rule.runs} == {0}
    assert {run.outliers for run in random.runs} == {random.runs[0].n_train}
    assert (rule.stop_at, random.steps, random.stop_at) == (0.99, 70, None)


def test_parameters_are_those_of_the_network():
    run = Run(operation="x-y", p=31, architecture="mlp", n_layers=1, d_model=3)
    assert n_parameters(run) == 33 * 3 + 6 * 12 + 12 * 33 == 567
