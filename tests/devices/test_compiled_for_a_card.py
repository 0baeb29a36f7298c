"""What the compiler makes of an update for a card that is not here: it can be built, and keeps its budgets.

That its numbers are right is for the self-check on the card to say, and how fast it is for the bench.
"""

import json
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="the card's stand-in is built by a C++ compiler"),
]
KINDS = {
    "the paper's": ("compiled", {}),
    "own kernels": ("kernels", {"precision": "tf32"}),
    "three products": ("compiled", {"precision": "tf32x3"}),
    "dropout": ("compiled", {"dropout": 0.1}),
    "later papers'": (
        "compiled",
        {"loss": "stablemax", "gradient": "zero_sum", "optimizer": "muon", "norm": "pre"},
    ),
}


@lru_cache
def compiled(kind):
    """What `pretended_card` prints."""
    pytest.importorskip("triton")
    path, fields = KINDS[kind]
    program = str(Path(__file__).with_name("pretended_card.py"))
    command = [sys.executable, program, json.dumps(fields), path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kernel_is_built(kind):
    for part in compiled(kind).values():
        assert 0 < part["built"] <= part["launches"]


def test_no_kernel_over_parameters_computes_in_float64():
    """A consumer's card does so at a 64th of its rate."""
    for kind in ("the paper's", "dropout"):
        assert [part["in_float64"] for part in compiled(kind).values()] == [[], []]


def test_an_update_keeps_its_budgets():
    """Of launches, and of megabytes a run-step."""
    gradients, optimizer = (compiled("the paper's")[part] for part in ("gradients", "optimizer"))
    assert gradients["launches"] <= 92
    assert gradients["products"] == 37
    assert gradients["megabytes"] < 62
    assert gradients["megabytes_of_products"] < 51
    assert (optimizer["launches"], optimizer["products"]) == (1, 0)
    assert optimizer["megabytes"] < 12


def test_own_kernels_take_what_lies_between_norms_out_of_memory():
    """Sixteen products and what lies between them become six kernels, and two products of their gradients."""
    gradients, plain = (compiled(kind)["gradients"] for kind in ("own kernels", "the paper's"))
    assert gradients["own"] == 6
    assert gradients["products"] == plain["products"] - 16
    assert gradients["launches"] <= plain["launches"]
    parts = ("megabytes", "megabytes_of_products", "megabytes_of_own")
    assert sum(gradients[part] for part in parts) < 52


def test_three_products_are_one_kernel_in_the_place_of_one_product():
    """But for those of rows with each other, and of ones that pick rows: they stay in float32."""
    gradients, plain = (compiled(kind)["gradients"] for kind in ("three products", "the paper's"))
    assert gradients["own"] == plain["products"] - gradients["products"]
    assert gradients["products"] <= 9


def test_dropout_is_drawn_inside_the_kernels_that_use_it():
    """It costs a few launches more, where operation by operation it is a hundred and fifty."""
    gradients, plain = (compiled(kind)["gradients"] for kind in ("dropout", "the paper's"))
    assert gradients["launches"] <= plain["launches"] + 20
    assert gradients["megabytes"] < 84
