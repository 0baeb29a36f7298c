import dataclasses
import json

import pytest
import yaml

from grokking_core import Run, data

PAPER = {
    "p": 97,
    "n": 5,
    "train_fraction": 0.5,
    "outliers": 0,
    "seed": 0,
    "split_seed": None,
    "architecture": "transformer",
    "n_layers": 2,
    "d_model": 128,
    "n_heads": 4,
    "d_ff": None,
    "activation": "relu",
    "norm": "post",
    "positions": "sinusoidal",
    "init": "pytorch",
    "init_scale": 1.0,
    "loss": "cross_entropy",
    "loss_precision": "run",
    "temperature": 1.0,
    "gradient": "plain",
    "slow_gradient": "none",
    "optimizer": "adamw",
    "lr": 1e-3,
    "betas": (0.9, 0.98),
    "eps": 1e-8,
    "weight_decay": 1.0,
    "decay_toward": "origin",
    "decay_from": 0,
    "decay_to": None,
    "norm_hold": 0.0,
    "warmup_steps": 10,
    "batch_size": None,
    "update_noise": 0.0,
    "weight_noise": 0.0,
    "dropout": 0.0,
    "precision": "fp32",
}


def test_run_defaults_are_the_papers():
    run = Run(operation="x/y")
    assert dataclasses.asdict(run) == {"operation": "x/y"} | PAPER
    assert run.hidden_width == 4 * 128


def test_run_is_frozen_and_hashable():
    run = Run(operation="x+y")
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.lr = 1.0  # pyright: ignore[reportAttributeAccessIssue]
    assert len({run, Run(operation="x+y"), Run(operation="x-y")}) == 2


def test_run_takes_keywords_only():
    with pytest.raises(TypeError, match="positional"):
        Run("x+y")  # pyright: ignore[reportCallIssue]


# Bad input: the argument, its value, what is allowed.


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"operation": "x%y"}, r"operation='x%y' is unknown; choose from x\+y, .*s5:xyx"),
        ({"p": 1}, "p=1 must be at least 2"),
        ({"operation": "x/y", "p": 96}, "p=96 must be prime for 'x/y'"),
        ({"operation": "s5:xy", "n": 6}, r"n=6 must lie in 2\.\.5"),
        ({"train_fraction": 0}, r"train_fraction=0 must lie in \(0, 1\); write 50 % as 0.5"),
        ({"train_fraction": 1}, r"train_fraction=1 must lie in \(0, 1\)"),
        ({"train_fraction": 50}, r"train_fraction=50 must lie in \(0, 1\)"),
        ({"train_fraction": -0.1}, r"train_fraction=-0.1 must lie in \(0, 1\)"),
        ({"train_fraction": float("nan")}, r"train_fraction=nan must lie in \(0, 1\)"),
        ({"train_fraction": 1e-5}, "train_fraction=1e-05 leaves the training side of 9409 equ"),
        ({"train_fraction": 0.99999}, "train_fraction=0.99999 leaves the validation side of 9409"),
        ({"outliers": -1}, "outliers=-1 must be a whole number of at least 0"),
        ({"outliers": 4705}, "outliers=4705 must not exceed the 4704 training equations"),
        ({"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        ({"seed": 0.5}, "seed=0.5 must be a whole number"),
        ({"seed": True}, "seed=True must be a whole number"),
        ({"seed": None}, "seed=None must be a whole number"),
        ({"split_seed": -1}, "split_seed=-1 must be a whole number of at least 0"),
        ({"architecture": "lstm"}, "architecture='lstm' must be one of transformer, mlp"),
        ({"n_layers": 0}, "n_layers=0 must be a whole number of at least 1"),
        ({"d_model": 0}, "d_model=0 must be a whole number of at least 2"),
        ({"d_model": 130}, "d_model=130 must be divisible by n_heads=4"),
        ({"d_model": 15, "n_heads": 3}, "d_model=15 must be even"),
        ({"n_heads": 0}, "n_heads=0 must be a whole number of at least 1"),
        ({"d_ff": 0}, "d_ff=0 must be a whole number of at least 1"),
        ({"activation": "selu"}, "activation='selu' must be one of relu, gelu, tanh"),
        ({"positions": "none"}, "positions='none' must be one of sinusoidal, learned"),
        ({"norm": "batch"}, "norm='batch' must be one of post, pre, none"),
        ({"optimizer": "lion"}, "optimizer='lion' must be one of adamw, adam, sgd, muon"),
        ({"init": "zeros"}, "init='zeros' must be one of pytorch, normal"),
        ({"init_scale": 0.0}, "init_scale=0.0 must be finite and above 0"),
        ({"loss": "mse"}, "loss='mse' must be one of cross_entropy, stablemax"),
        ({"loss_precision": "fp32"}, "loss_precision='fp32' must be one of run, fp64"),
        ({"loss": "stablemax", "precision": "tf32"}, "loss='stablemax' is .* than precision='tf32'; use"),
        ({"temperature": 0}, "temperature=0 must be finite and above 0"),
        ({"temperature": float("inf")}, "temperature=inf must be finite and above 0"),
        ({"gradient": "perpendicular"}, "'perpendicular' must be one of plain, perp, zero_sum"),
        ({"slow_gradient": "grokfast"}, "slow_gradient='grokfast' must be one of none, ema, ma"),
        ({"decay_from": -1}, "decay_from=-1 must be a whole number of at least 0"),
        ({"decay_to": 0}, "decay_to=0 must be a whole number of at least 1"),
        ({"decay_from": 50, "decay_to": 50}, "decay_to=50 must be above decay_from=50"),
        ({"norm_hold": -1.0}, "norm_hold=-1.0 must be finite and at least 0"),
        ({"optimizer": "muon", "architecture": "mlp", "d_ff": 1}, "'muon' needs a hidden matrix, .*d_ff=1"),
        ({"decay_toward": "mean"}, "decay_toward='mean' must be one of origin, init"),
        ({"precision": "bf16"}, "precision='bf16' must be one of fp32, tf32, tf32x3, tf32-rounded, fp64"),
        ({"lr": -1e-3}, "lr=-0.001 must be finite and at least 0"),
        ({"lr": float("nan")}, "lr=nan must be finite"),
        ({"lr": float("inf")}, "lr=inf must be finite"),
        ({"eps": -1.0}, "eps=-1.0 must be finite and at least 0"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0 must be finite and at least 0"),
        ({"weight_decay": float("inf")}, "weight_decay=inf must be finite"),
        ({"update_noise": -0.1}, "update_noise=-0.1 must be finite and at least 0"),
        ({"weight_noise": -0.1}, "weight_noise=-0.1 must be finite and at least 0"),
        ({"betas": (0.9,)}, r"betas=\(0.9,\) must be two numbers in \[0, 1\)"),
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\) must be two numbers in \[0, 1\)"),
        ({"betas": (-0.1, 0.9)}, r"betas=\(-0.1, 0.9\) must be two numbers in \[0, 1\)"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must be a whole number of at least 0"),
        ({"batch_size": 0}, "batch_size=0 must be 'full' or a whole number of at least 1"),
        ({"batch_size": "half"}, "batch_size='half' must be 'full' or a whole number"),
        ({"dropout": 1.0}, r"dropout=1.0 must lie in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout=-0.1 must lie in \[0, 1\)"),
        ({"dropout": float("nan")}, r"dropout=nan must lie in \[0, 1\)"),
    ],
)
def test_run_refuses(fields, match):
    with pytest.raises(ValueError, match=match):
        Run(**{"operation": "x+y", **fields})


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"p": 7.5}, "p=7.5 must be a whole number"),
        ({"p": "97"}, "p='97' must be a whole number"),
        ({"operation": "s5:xy", "n": 3.5}, "n=3.5 must be a whole number"),
        ({"operation": ["x+y"]}, r"operation=\['x\+y'\] is unknown"),
        ({"train_fraction": "0.5"}, "train_fraction='0.5' must be a number"),
        ({"train_fraction": None}, "train_fraction=None must be a number"),
        ({"lr": "1e-3"}, "lr='1e-3' must be a number; YAML reads 1e-3 as text, 1.0e-3 not"),
        ({"temperature": None}, "temperature=None must be a number"),
        ({"norm_hold": "1"}, "norm_hold='1' must be a number"),
        ({"decay_to": 1e3}, "decay_to=1000.0 must be a whole number"),
        ({"weight_decay": None}, "weight_decay=None must be a number"),
        ({"betas": 0.9}, "betas=0.9 must be two numbers"),
        ({"betas": ("a", "b")}, r"betas=\('a', 'b'\) must be two numbers"),
        ({"dropout": "0.1"}, "dropout='0.1' must be a number"),
    ],
)
def test_run_refuses_a_value_of_another_type(fields, match):
    """YAML reads 1e-3 as text: that too is told by name."""
    with pytest.raises(ValueError, match=match):
        Run(**{"operation": "x+y", **fields})


def test_muon_takes_an_mlp_with_a_hidden_matrix():
    assert Run(operation="x+y", architecture="mlp", d_ff=2, optimizer="muon").optimizer == "muon"


def test_run_of_the_mlp_may_have_any_width():
    assert Run(operation="x+y", architecture="mlp", d_model=15).d_model == 15


# What follows from the fields.


@pytest.mark.parametrize(
    ("fields", "n_train", "batch_size"),
    [
        ({}, 4704, 512),
        ({"operation": "x/y"}, 4656, 512),
        ({"operation": "s5:xy"}, 7200, 512),
        ({"train_fraction": 0.1}, 941, 471),  # half of 941, rounded up
        ({"train_fraction": 0.1, "batch_size": "full"}, 941, 941),
        ({"train_fraction": 0.1, "batch_size": 1000}, 941, 941),
        ({"train_fraction": 0.1, "batch_size": 100}, 941, 100),
        ({"p": 2, "train_fraction": 0.25}, 1, 1),
    ],
)
def test_run_sizes_follow_the_papers_rule(fields, n_train, batch_size):
    run = Run(**{"operation": "x+y", **fields})
    assert run.n_train == n_train
    assert run.effective_batch_size == batch_size


def test_run_elements_and_hidden_width():
    assert Run(operation="x+y", p=11).n_elements == 11
    assert Run(operation="s5:xy").n_elements == 120
    assert Run(operation="s5:xy", n=3).n_elements == 6
    assert Run(operation="x+y", d_model=8).hidden_width == 32
    assert Run(operation="x+y", d_model=8, d_ff=5).hidden_width == 5


# Identity.


def test_identity_has_every_field_but_the_size_that_is_not_used():
    names = {field.name for field in dataclasses.fields(Run)}
    assert set(Run(operation="x+y").identity()) == names - {"n"}
    assert set(Run(operation="s5:xy").identity()) == names - {"p"}
    assert Run(operation="x+y", n=3).identity() == Run(operation="x+y").identity()
    assert Run(operation="s5:xy", p=7).identity() == Run(operation="s5:xy").identity()


@pytest.mark.parametrize("name", [name for name in PAPER if name != "n"])
def test_identity_changes_with_every_other_field(name):
    other = {
        "p": 96,
        "train_fraction": 0.3,
        "split_seed": 0,
        "architecture": "mlp",
        "d_ff": 512,
        "activation": "gelu",
        "norm": "pre",
        "optimizer": "sgd",
        "positions": "learned",
        "init": "normal",
        "loss": "stablemax",
        "loss_precision": "fp64",
        "gradient": "perp",
        "slow_gradient": "ema",
        "lr": 2e-3,
        "betas": (0.9, 0.99),
        "eps": 1e-9,
        "weight_decay": 0.0,
        "decay_toward": "init",
        "batch_size": "full",
        "update_noise": 1.0,
        "weight_noise": 0.01,
        "dropout": 0.1,
        "precision": "fp64",
    }
    value = other.get(name, 8)  # every other one is a number
    changed = Run(operation="x+y", **{name: value}).identity()
    same = {key: v for key, v in changed.items() if key != name}
    assert changed[name] != Run(operation="x+y").identity()[name]
    assert same.items() <= Run(operation="x+y").identity().items()


ROUND_TRIPS = {
    "plain": lambda identity: identity,
    "json": lambda identity: json.loads(json.dumps(identity)),
    "yaml": lambda identity: yaml.safe_load(yaml.safe_dump(identity)),
}


@pytest.mark.parametrize("written", ROUND_TRIPS)
@pytest.mark.parametrize("operation", data.OPERATIONS)
def test_run_comes_back_from_its_identity(operation, written):
    size = {"n": 4} if data.OPERATIONS[operation].on_group else {"p": 11}
    fields = {"betas": (0.8, 0.999), "eps": 1e-12, "batch_size": "full", "outliers": 3}
    run = Run(operation=operation, split_seed=4, lr=1 / 3, **size, **fields)
    back = Run(**ROUND_TRIPS[written](run.identity()))
    assert back == run
    assert isinstance(back.betas, tuple)
    assert hash(back) == hash(run)
