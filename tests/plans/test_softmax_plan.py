import pytest

from grokking_core.plans.softmax import ARMS, arm_of, softmax_collapse
from grokking_core.runs.run import Run


def test_arms_are_told_apart_and_have_full_batches():
    (part,) = softmax_collapse(seeds=[0, 3]).parts
    assert [arm_of(run) for run in part.runs] == [name for name in ARMS for _ in range(2)]
    assert {run.batch_size for run in part.runs} == {"full"}
    assert part.watch == ("softmax_collapse", "spikes")


def test_only_decayed_arms_have_a_decay():
    runs = softmax_collapse(seeds=[0]).runs
    assert {arm_of(run): run.weight_decay for run in runs if run.weight_decay} == {
        "decay 0.3": 0.3, "decay 1": 1.0, "decay 3": 3.0,
    }  # fmt: skip


def test_unknown_arm_is_named():
    with pytest.raises(ValueError, match=r"arms has 'cold'; the arms are 'nothing', 'loss in fp64', "):
        softmax_collapse(arms=["cold"])
    with pytest.raises(ValueError, match=r"is none of the arms nothing, loss in fp64, "):
        arm_of(Run(operation="x+y", eps=1e-3))
