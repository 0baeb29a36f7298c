"""The update of R runs at once against R plain optimizers, which are held against PyTorch's elsewhere."""

import math

import pytest
import torch
from tensors import LOOPS, draw

from grokking_core import Run, model
from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.updates import optimizer as optim
from grokking_core.updates import plain as train

pytestmark = pytest.mark.usefixtures("one_thread")

N = 45  # parameters of a run
BASE = {"operation": "x+y", "p": 7, "precision": "fp64", "lr": 0.02}
VALUES = [  # of runs side by side
    {"seed": 1},
    {"seed": 2, "lr": 0.05, "weight_decay": 0.0, "warmup_steps": 0},
    {"seed": 3, "betas": (0.5, 0.7), "eps": 0.1, "warmup_steps": 3},
    {"seed": 4, "lr": 0.0, "weight_decay": 3.0},
    {"seed": 5, "betas": (0.0, 0.0), "warmup_steps": 1},
]
VARIANTS = {
    "adamw": {},
    "adamw to init": {"decay_toward": "init"},
    "adam with L2": {"optimizer": "adam"},
    "adam with L2 to init": {"optimizer": "adam", "decay_toward": "init"},
    "sgd": {"optimizer": "sgd"},
    "update noise": {"update_noise": 1.0},
    "update noise of sgd": {"optimizer": "sgd", "update_noise": 0.5},
    "weight noise": {"weight_noise": 0.01},
    "perp": {"gradient": "perp"},
    "slow gradient, EMA": {"slow_gradient": "ema"},
    "slow gradient, MA": {"slow_gradient": "ma"},
    "perp and a slow gradient of adam": {"gradient": "perp", "slow_gradient": "ma", "optimizer": "adam"},
    "window of decay": {"decay_from": 5, "decay_to": 9},
    "window of decay of sgd": {"optimizer": "sgd", "decay_from": 5},
    "norm held": {"norm_hold": 0.5},
    "muon": {"optimizer": "muon"},
    "muon with everything": {
        "optimizer": "muon", "gradient": "perp", "slow_gradient": "ema", "decay_toward": "init",
        "update_noise": 0.1, "decay_to": 7, "norm_hold": 1.0,
    },
}  # fmt: skip
SHAPES = {
    "embedding.weight": (3, 4),
    "tall": (5, 2),
    "wide": (2, 6),
    "norm.bias": (6,),
    "row": (1, 5),
}


def side_by_side(runs, first, loops=False):
    parameters, gradients = first.clone(), torch.zeros_like(first)
    module = model.loops_for(parameters.device) if loops else None
    optimizer = optim.Optimizer(runs, parameters, gradients, module, SHAPES)
    for slot, run in enumerate(runs):
        optimizer.load(slot, run, first[slot])
    return optimizer


def parts(row):
    """Views of a row (N,) as the parameters of a network."""
    sizes = [math.prod(shape) for shape in SHAPES.values()]
    return [part.view(shape) for part, shape in zip(row.split(sizes), SHAPES.values(), strict=True)]


def steps(optimizer, begin, end):
    """Updates on made-up gradients; each run may be at a step of its own."""
    for k in range(end - begin):
        optimizer.gradients.copy_(draw(*optimizer.gradients.shape, seed=100 + begin + k))
        optimizer.update(torch.full((len(optimizer.parameters),), begin + k))


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_update_agrees_with_the_plain_optimizers(variant, loops):
    runs = [Run(**BASE | VARIANTS[variant] | values) for values in VALUES]
    first = draw(len(runs), N)
    together, alone = side_by_side(runs, first, loops), [row.clone() for row in first]
    plain = [train.Optimizer(run, parts(row), [*SHAPES]) for run, row in zip(runs, alone, strict=True)]
    for k in range(120 if runs[0].slow_gradient == "ma" else 20):
        g = draw(len(runs), N, seed=k)
        together.gradients.copy_(g)
        together.update(torch.full((len(runs),), k))
        for one, row in zip(plain, g, strict=True):
            one.update(k, parts(row))
    assert (together.parameters - torch.stack(alone)).abs().max() < 1e-11


def test_update_takes_a_step_of_its_own_for_each_run():
    """A run at update 7 beside one at update 0: bias correction, warm-up and noise are each one's own."""
    runs = [Run(**BASE, update_noise=1.0, seed=seed) for seed in (1, 2)]
    first, g = draw(2, N), draw(2, N, seed=1)
    together = side_by_side(runs, first)
    together.gradients.copy_(g)
    together.update(torch.tensor([7, 0]))
    for row, run, step in zip(range(2), runs, (7, 0), strict=True):
        alone = side_by_side([run], first[row : row + 1])
        alone.gradients.copy_(g[row : row + 1])
        alone.update(torch.tensor([step]))
        assert torch.equal(alone.parameters[0], together.parameters[row])


@pytest.mark.parametrize("purpose", ["update_noise", "weight_noise"])
def test_noise_is_the_same_alone_and_in_company(purpose):
    runs = [Run(**BASE, seed=seed, **{purpose: sigma}) for seed, sigma in [(3, 0.5), (9, 2.0), (3, 1.0)]]
    first = torch.zeros(3, N, dtype=torch.float64)

    def noise(runs, step):
        optimizer = side_by_side(runs, first[: len(runs)])
        if purpose == "weight_noise":
            optimizer.perturb(step)
            return optimizer.noisy
        optimizer.update(step)
        return optimizer.parameters

    step = torch.tensor([12, 13, 14])
    together = noise(runs, step)
    for slot, run in enumerate(runs):
        assert torch.equal(noise([run], step[slot : slot + 1])[0], together[slot])
    key = streams.stream(torch.tensor([3, 9, 3]), Purpose[purpose.upper()], step)
    sigma = torch.tensor([[0.5], [2.0], [1.0]], dtype=torch.float64)
    factor = 1.0 if purpose == "weight_noise" else -0.02  # lr, after warm-up
    assert torch.allclose(together, factor * sigma * streams.normal(key, N, torch.float64), atol=1e-15)


def test_weight_noise_is_put_beside_the_weights():
    run = Run(**BASE, weight_noise=0.1)
    first = draw(1, N)
    optimizer = side_by_side([run], first)
    optimizer.perturb(torch.tensor([3]))
    assert torch.equal(optimizer.parameters, first)
    assert (optimizer.noisy - first).std().item() == pytest.approx(0.1, rel=0.3)


def test_without_weight_noise_the_network_computes_with_the_weights():
    optimizer = side_by_side([Run(**BASE)], draw(1, N))
    assert optimizer.noisy is optimizer.parameters


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_that_is_loaded_goes_on_as_if_never_stopped(variant):
    run, first = Run(**BASE | VARIANTS[variant]), draw(1, N)
    whole, part = side_by_side([run], first), side_by_side([run], first)
    steps(whole, 0, 10)
    steps(part, 0, 4)
    resumed = optim.Optimizer([run], part.parameters.clone(), torch.zeros_like(first), None, SHAPES)
    resumed.load(0, run, first[0], {name: rows[0] for name, rows in part.state.items()})
    steps(resumed, 4, 10)
    assert torch.equal(resumed.parameters, whole.parameters)


def test_run_that_is_loaded_starts_without_moments_and_spares_the_others():
    runs = [Run(**BASE, seed=seed) for seed in range(3)]
    optimizer = side_by_side(runs, draw(3, N))
    steps(optimizer, 0, 5)
    before = [t.clone() for t in (optimizer.parameters, optimizer.first_moment, optimizer.second_moment)]
    optimizer.load(1, Run(**BASE | {"seed": 7, "lr": 0.5}), draw(N, seed=9))
    assert not optimizer.first_moment[1].any()
    assert not optimizer.second_moment[1].any()
    for now, then in zip((optimizer.first_moment, optimizer.second_moment), before[1:], strict=True):
        assert torch.equal(now[[0, 2]], then[[0, 2]])
    assert optimizer.value["lr"].flatten().tolist() == [0.02, 0.5, 0.02]


def test_nan_of_one_run_stays_with_it():
    runs = [Run(**BASE, seed=seed, update_noise=1.0) for seed in range(3)]
    sound, sick = side_by_side(runs, draw(3, N)), side_by_side(runs, draw(3, N))
    for k in range(3):
        for optimizer in (sound, sick):
            optimizer.gradients.copy_(draw(3, N, seed=k))
        sick.gradients[1] = torch.nan
        for optimizer in (sound, sick):
            optimizer.update(torch.full((3,), k))
    assert sick.parameters[1].isnan().all()
    assert torch.equal(sick.parameters[[0, 2]], sound.parameters[[0, 2]])
