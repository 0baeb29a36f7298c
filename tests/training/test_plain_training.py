import math

import by_hand
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from grokking_core import Run
from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.model import plain as model
from grokking_core.runs import record, schedule
from grokking_core.training import plain as train
from grokking_core.updates import plain as updates

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"operation": "x+y", "p": 5, "d_model": 4, "n_heads": 2, "n_layers": 1, "d_ff": 6, "precision": "fp64"}
SMALL = {"operation": "x+y", "p": 7, "d_model": 8, "n_heads": 2}
QUICK = {"operation": "x+y", "p": 23, "architecture": "mlp", "d_model": 32, "d_ff": 64, "n_layers": 1}
QUICK |= {"train_fraction": 0.7, "lr": 0.01}  # generalises within 800 steps


def weights_of(network):
    return {name: p.detach().numpy().copy() for name, p in network.named_parameters()}


def optimizer(parameters, **fields):
    run = Run(**SMALL | fields)
    return updates.Optimizer(run, parameters)


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 3), (4,), (2, 2))]


# One step, by hand.


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"norm": "pre", "activation": "gelu"},
        {"norm": "none", "n_layers": 2},
        {"architecture": "mlp", "activation": "tanh"},
    ],
)
def test_train_first_step_agrees_with_one_by_hand(fields):
    """Adam's first update is the sign of the gradient, nearly: g / (|g| + eps); here eps is large."""
    run = Run(
        **TINY | {"warmup_steps": 0, "eps": 0.01, "lr": 0.1, "weight_decay": 0.5, "outliers": 2} | fields
    )
    d, batch = run.dataset(), schedule.batch(run, 0).numpy()
    chosen = d.train[batch]
    first = weights_of(model.build(run))

    def loss(weights):
        return by_hand.loss(run, weights, d.x[chosen], d.y[chosen], d.label[chosen])

    gradient = by_hand.gradient(loss, first)
    expected = {
        name: w - 0.1 * (gradient[name] / (np.abs(gradient[name]) + 0.01) + 0.5 * w)
        for name, w in first.items()
    }
    after = train.train(run, steps=1).parameters
    flat = np.concatenate([w.ravel() for w in expected.values()])
    assert np.abs(after.numpy() - flat).max() < 1e-12


def test_train_evaluation_agrees_with_one_by_hand():
    run = Run(**TINY | {"train_fraction": 0.3, "outliers": 3, "seed": 2})
    d, weights = run.dataset(), weights_of(model.build(run))
    logits = np.stack([by_hand.logits(run, weights, *pair) for pair in zip(d.x, d.y, strict=True)])
    right = logits.argmax(axis=1) == d.label

    def loss(mask):
        return by_hand.loss(run, weights, d.x[mask], d.y[mask], d.label[mask])

    row = train.train(run, steps=1).curve.iloc[0]
    assert row["step"] == 0
    assert row["train_loss"] == pytest.approx(loss(d.is_train), abs=1e-12)
    assert row["validation_loss"] == pytest.approx(loss(~d.is_train), abs=1e-12)
    assert row["train_accuracy"] == right[d.is_train].mean()
    assert row["validation_accuracy"] == right[~d.is_train].mean()
    assert row["unmirrored_accuracy"] == right[d.is_unmirrored].mean()
    norm = math.sqrt(sum((w**2).sum() for w in weights.values()))
    assert row["weight_norm"] == pytest.approx(norm, abs=1e-12)


def test_train_first_update_has_no_rate():
    """The paper's warm-up: the first update changes nothing, the second does."""
    run = Run(**SMALL)
    first = parameters_to_vector(model.build(run).parameters()).detach()
    assert torch.equal(train.train(run, steps=1).parameters, first)
    assert not torch.equal(train.train(run, steps=2).parameters, first)


# The optimizer against PyTorch's.

OPTIMIZERS = {
    "adamw": ({"optimizer": "adamw"}, torch.optim.AdamW, {}),
    "adamw betas": ({"optimizer": "adamw", "betas": (0.8, 0.999), "eps": 1e-3}, torch.optim.AdamW, {}),
    "adam": ({"optimizer": "adam", "weight_decay": 0.0}, torch.optim.Adam, {}),
    "adam with L2": ({"optimizer": "adam", "weight_decay": 0.3}, torch.optim.Adam, {}),
    "sgd": ({"optimizer": "sgd", "betas": (0.0, 0.0), "weight_decay": 0.1}, torch.optim.SGD, {}),
    "sgd with momentum": ({"optimizer": "sgd", "betas": (0.9, 0.0)}, torch.optim.SGD, {"momentum": 0.9}),
}


@pytest.mark.parametrize("warmup_steps", [0, 4])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_agrees_with_pytorchs(name, warmup_steps):
    fields, kind, more = OPTIMIZERS[name]
    run = Run(**SMALL | {"lr": 0.05, "warmup_steps": warmup_steps} | fields)
    ours, theirs = parameters(), [p.requires_grad_() for p in parameters()]
    if kind is not torch.optim.SGD:
        more = {"betas": run.betas, "eps": run.eps}
    reference = kind(theirs, lr=run.lr, weight_decay=run.weight_decay, **more)
    optimizer = updates.Optimizer(run, ours)
    for step in range(12):
        gradients = tuple(parameters(seed=100 + step))
        optimizer.update(step, gradients)
        reference.param_groups[0]["lr"] = run.lr * (min(step / warmup_steps, 1) if warmup_steps else 1)
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = g.clone()
        reference.step()
    for p, q in zip(ours, theirs, strict=True):
        assert (p - q).abs().max() < 1e-13


def test_optimizer_leaves_the_gradients_alone():
    gradients, before = tuple(parameters(3)), parameters(3)
    optimizer(parameters(), optimizer="adam").update(5, gradients)
    assert all(torch.equal(g, b) for g, b in zip(gradients, before, strict=True))


# Decay.


@pytest.mark.parametrize("toward", ["origin", "init"])
def test_decay_alone_shrinks_the_distance_to_its_target(toward):
    start, p = parameters(), parameters()
    o = optimizer(p, decay_toward=toward, lr=0.1, weight_decay=2.0, warmup_steps=0)
    for tensor in p:
        tensor += 1  # away from where it started
    for step in range(3):
        o.update(step, tuple(torch.zeros_like(tensor) for tensor in p))
    for now, first in zip(p, start, strict=True):
        target = first if toward == "init" else 0 * first
        assert torch.allclose(now - target, (first + 1 - target) * 0.8**3, rtol=0, atol=1e-14)


def test_decay_in_the_gradient_goes_toward_the_initialisation_too():
    start, p = parameters(), parameters()
    o = optimizer(
        p, optimizer="sgd", decay_toward="init", lr=0.1, weight_decay=2.0, betas=(0.0, 0.0), warmup_steps=0
    )
    for tensor in p:
        tensor += 1
    o.update(0, tuple(torch.zeros_like(tensor) for tensor in p))
    for now, first in zip(p, start, strict=True):
        assert torch.allclose(now - first, torch.full_like(first, 0.8), rtol=0, atol=1e-14)


def test_decay_acts_inside_its_window_only():
    p = [torch.ones(3, dtype=torch.float64)]
    o = optimizer(p, lr=0.1, weight_decay=2.0, warmup_steps=0, decay_from=2, decay_to=5)
    seen = []
    for step in range(7):
        o.update(step, (torch.zeros_like(p[0]),))
        seen.append(p[0][0].item())
    assert seen == pytest.approx([1, 1, 0.8, 0.8**2, 0.8**3, 0.8**3, 0.8**3])


def test_norm_is_held_at_a_share_of_the_first():
    p = parameters()
    first = parameters_to_vector(p).norm()
    o = optimizer(p, lr=0.1, norm_hold=0.5)
    for step in range(3):
        o.update(step, tuple(parameters(step)))
        assert parameters_to_vector(p).norm() == pytest.approx(0.5 * first)


# What later papers do to the loss and to gradients.


def test_stablemax_is_the_formula_of_its_paper():
    """By NumPy, at numbers on both sides of 0 and at 1, where 1 / (1 - z) has no value."""
    z, label = np.array([[-3.0, 0.0, 1.0, 2.5], [4.0, -0.5, 1.0, -2.0]]), np.array([3, 1])
    s = np.where(z >= 0, z + 1, 1 / (1 - np.minimum(z, 0)))
    expected = -np.log(s[[0, 1], label] / s.sum(1)).mean()
    run = Run(**SMALL, loss="stablemax")
    logits = torch.tensor(z, dtype=torch.float32, requires_grad=True)
    found = updates.loss(run, logits, torch.from_numpy(label))
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", ["cross_entropy", "stablemax"])
def test_temperature_divides_the_logits(loss):
    z, label = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    hot, plain = Run(**SMALL, loss=loss, temperature=4.0), Run(**SMALL, loss=loss)
    assert updates.loss(hot, z, label) == updates.loss(plain, z / 4, label)


def test_loss_in_float64_sees_what_float32_rounds_away():
    """A gap of 30 is certainty in float32, whose loss and gradient then are exactly 0."""
    z = torch.tensor([[30.0, 0.0]], requires_grad=True)
    seen = {}
    for precision in ("run", "fp64"):
        loss = updates.loss(Run(**SMALL, loss_precision=precision), z, torch.tensor([0]))
        seen[precision] = torch.autograd.grad(loss, z)[0][0, 0].item()
    assert seen["run"] == 0
    assert seen["fp64"] == pytest.approx(-math.exp(-30), rel=1e-4)


def test_perpendicular_gradient_is_so_and_as_long():
    w, g = (
        torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2)
    )
    across = updates.perpendicular(g, w)
    assert (w * across).sum().abs() < 1e-12
    assert across.norm().item() == pytest.approx(g.norm().item())
    assert torch.allclose(updates.perpendicular(g, torch.zeros_like(w)), g)  # biases begin as 0


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_orthogonalised_matrix_keeps_its_singular_vectors(shape):
    """Five iterations bring most singular values to 0.7 or more, and none above 1.3."""
    u = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    left, _, right = torch.linalg.svd(u, full_matrices=False)
    middle = left.T @ updates.orthogonalised(u) @ right.T / math.sqrt(max(1, shape[0] / shape[1]))
    values = middle.diagonal()
    assert (middle - values.diag()).abs().max() < 1e-12
    assert (values > 0.6).all()
    assert (values < 1.3).all()
    assert not updates.orthogonalised(torch.zeros(shape)).any()


def test_muon_leaves_embedding_output_and_vectors_to_adamw():
    run = Run(**SMALL, optimizer="muon")
    names = [n for n, p in model.build(run).named_parameters() if updates.is_hidden_matrix(n, p.shape)]
    parts = ("attention.qkv", "attention.out", "feed_forward.up", "feed_forward.down")
    assert names == [f"blocks.{block}.{part}.weight" for block in (0, 1) for part in parts]


@pytest.mark.parametrize(("kind", "first", "last"), [("ema", 3.0, 3.0), ("ma", 1.0, 6.0)])
def test_slow_gradient_is_added_to_the_fast_one(kind, first, last):
    """SGD without momentum shows the gradient: EMA starts as the first one, MA acts from update 99 on."""
    fields = {"optimizer": "sgd", "lr": 1.0, "betas": (0.0, 0.0), "weight_decay": 0.0, "warmup_steps": 0}
    p, moved = [torch.zeros(1, dtype=torch.float64)], []
    o = optimizer(p, slow_gradient=kind, **fields)
    for step in range(101):
        before = p[0].clone()
        o.update(step, (torch.ones_like(p[0]),))
        moved.append((before - p[0]).item())
    assert moved == pytest.approx([first] * 99 + [last] * 2)


@pytest.mark.parametrize(("init", "scale"), [("pytorch", 0.5), ("normal", 1.0), ("normal", 3.0)])
def test_first_weights_are_as_wide_as_asked(init, scale):
    fields = {"operation": "x+y", "d_model": 64, "init": init, "init_scale": scale, "positions": "learned"}
    for name, p in model.build(Run(**fields)).named_parameters():
        if "norm" in name:
            assert set(p.flatten().tolist()) == {float(name.endswith("weight"))}
            continue
        uniform = 1 / math.sqrt(3 * p.shape[-1])
        pytorchs = 1.0 if name.startswith(("embedding", "positions")) else uniform
        near = 0.15 if name == "positions" else 0.05  # of four tokens only
        assert p.std().item() == pytest.approx(scale * (1 / 8 if init == "normal" else pytorchs), rel=near)


# Noise.


def test_update_noise_is_gaussian_and_scaled_by_the_rate():
    p = [torch.zeros(300, 200, dtype=torch.float64)]
    o = optimizer(p, lr=0.01, update_noise=2.0, weight_decay=0.0, warmup_steps=0, seed=5)
    o.update(3, (torch.zeros_like(p[0]),))
    expected = -0.02 * streams.normal(streams.stream(5, Purpose.UPDATE_NOISE, 3), 60_000, torch.float64)
    assert torch.equal(p[0].flatten(), expected)
    assert p[0].std().item() == pytest.approx(0.02, rel=0.02)


def test_update_noise_is_added_after_the_normalisation():
    quiet, noisy = parameters(), parameters()
    settings = {"lr": 0.01, "weight_decay": 0.0, "warmup_steps": 0, "seed": 5}
    z = streams.normal(streams.stream(5, Purpose.UPDATE_NOISE, 0), 23, torch.float64)
    for p, sigma in ((quiet, 0.0), (noisy, 1.0)):
        optimizer(p, update_noise=sigma, **settings).update(0, tuple(parameters(9)))
    shift = torch.cat([(b - a).flatten() for a, b in zip(quiet, noisy, strict=True)])
    assert torch.allclose(shift, -0.01 * z, rtol=0, atol=1e-14)


def test_update_noise_is_that_of_the_authors_without_their_division():
    """Their weights move by rate / (1 - beta1^t) times noise; with no gradient ours by rate times noise."""
    for update, times in (
        (1, 5.3),
        (20, 1.12),
    ):  # the first whose rate is not 0, the twentieth; t = update + 1
        p, sigma = parameters(0), 0.5
        o = optimizer(p, lr=0.1, update_noise=sigma, weight_decay=0.0, warmup_steps=10, seed=3)
        before = [q.clone() for q in p]
        o.update(update, tuple(torch.zeros_like(q) for q in p))
        rate = 0.1 * min(update / 10, 1)
        for a, b, z in zip(before, p, o._draw(Purpose.UPDATE_NOISE, update), strict=True):
            torch.testing.assert_close(a - b, rate * sigma * z)
        assert 1 / (1 - 0.9 ** (update + 1)) == pytest.approx(times, abs=0.05 if update == 1 else 0.005)


def test_update_noise_is_fresh_at_each_step():
    p = [torch.zeros(10_000, dtype=torch.float64)]
    o = optimizer(p, lr=1.0, update_noise=1.0, weight_decay=0.0, warmup_steps=0)
    for step in range(4):
        o.update(step, (torch.zeros_like(p[0]),))
    assert p[0].std().item() == pytest.approx(2, rel=0.05)  # four independent draws


def test_weight_noise_is_there_in_the_context_and_gone_after_it():
    p, before = parameters(), parameters()
    o = optimizer(p, weight_noise=0.01, seed=4)
    z = streams.normal(streams.stream(4, Purpose.WEIGHT_NOISE, 7), 23, torch.float64)
    with o.weight_noise(7):
        inside = torch.cat([(a - b).flatten() for a, b in zip(p, before, strict=True)])
    assert torch.allclose(inside, 0.01 * z, rtol=0, atol=1e-15)
    assert all(torch.equal(a, b) for a, b in zip(p, before, strict=True))


def test_weights_return_when_the_step_with_noise_fails():
    p, before = parameters(), parameters()
    with pytest.raises(KeyError), optimizer(p, weight_noise=1.0).weight_noise(0):
        raise KeyError
    assert all(torch.equal(a, b) for a, b in zip(p, before, strict=True))


def test_weight_noise_is_in_the_gradient_but_not_in_the_evaluation():
    quiet, noisy = (train.train(Run(**SMALL, weight_noise=sigma), steps=5).curve for sigma in (0.0, 0.5))
    assert quiet.iloc[0].equals(noisy.iloc[0])
    assert quiet.iloc[1].equals(noisy.iloc[1])  # the first update has rate 0
    assert not quiet.iloc[3].equals(noisy.iloc[3])


def test_dropout_leaves_the_mean_and_drops_its_share():
    run = Run(**SMALL, dropout=0.25)
    drop = train.dropout_mask(run, step=3)
    branch = torch.ones(200, 4, 32)
    dropped = drop(0, branch)
    assert set(dropped.unique().tolist()) == {0, torch.tensor(1 / 0.75).item()}
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(dropped, drop(1, branch))
    assert not torch.equal(dropped, train.dropout_mask(run, step=4)(0, branch))
    assert torch.equal(dropped, train.dropout_mask(run, step=3)(0, branch))


def test_dropout_of_nothing_is_none():
    assert train.dropout_mask(Run(**SMALL), step=3) is None


# The loop.


def test_train_follows_the_grid_to_the_step_after_steps():
    r = train.train(Run(**SMALL), steps=11)
    assert r.curve["step"].tolist() == schedule.evaluation_steps(11) == [0, 1, 2, 5, 10, 20]
    assert list(r.curve.columns) == list(record.COLUMNS)
    assert r.diverged_at is None
    assert r.run == Run(**SMALL)
    assert r.provenance["precision"] == "fp32"


@pytest.mark.parametrize("fields", [{}, {"dropout": 0.1, "weight_noise": 0.01, "update_noise": 1.0}])
def test_train_is_repeatable_to_the_bit(fields):
    a, b = (train.train(Run(**SMALL, **fields), steps=30) for _ in range(2))
    pd.testing.assert_frame_equal(a.curve, b.curve, check_exact=True)
    assert torch.equal(a.parameters, b.parameters)


def test_train_does_not_depend_on_torchs_own_generator():
    torch.manual_seed(1)
    a = train.train(Run(**SMALL, dropout=0.1), steps=5)
    torch.manual_seed(2)
    b = train.train(Run(**SMALL, dropout=0.1), steps=5)
    assert torch.equal(a.parameters, b.parameters)


def test_train_depends_on_the_seed():
    a, b = (train.train(Run(**SMALL, seed=seed, split_seed=0), steps=5) for seed in (0, 1))
    assert not a.curve.equals(b.curve)


def test_train_longer_begins_with_the_shorter_record():
    short, long = (train.train(Run(**SMALL), steps=steps) for steps in (10, 30))
    assert long.until(10).curve.equals(short.curve)


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_train_refuses_steps_below_one(steps):
    with pytest.raises(ValueError, match=f"steps={steps} must be a whole number of at least 1"):
        train.train(Run(**SMALL), steps=steps)


def test_train_stops_at_the_first_evaluation_that_reaches_stop_at():
    run = Run(**QUICK)
    whole = train.train(run, steps=400)
    threshold = 0.4
    assert whole.curve["validation_accuracy"].iloc[0] < threshold
    assert whole.steps_to(threshold, "validation") < 400
    stopped = train.train(run, steps=400, stop_at=threshold)
    assert stopped.last_step == whole.steps_to(threshold, "validation")
    assert stopped.curve.equals(whole.until(400, threshold).curve)


def test_train_records_divergence_and_ends_there():
    run = Run(**SMALL, optimizer="sgd", lr=1e30, warmup_steps=0)
    r = train.train(run, steps=1000)
    assert r.diverged_at == r.last_step
    assert r.last_step < 100
    assert not record.is_finite(tuple(r.curve.iloc[-1]))
    assert all(record.is_finite(tuple(row)) for row in r.curve.iloc[:-1].to_numpy())


def test_train_learns_the_training_set():
    r = train.train(Run(**SMALL | {"d_model": 16, "weight_decay": 0.1, "lr": 3e-3}), steps=250)
    assert r.curve["train_accuracy"].iloc[-1] == 1
    assert r.curve["train_loss"].iloc[-1] < r.curve["train_loss"].iloc[0] / 10


def test_train_shows_step_accuracies_and_time_left(capsys):
    train.train(Run(**SMALL), steps=10, progress=True)
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert "train=" in shown
    assert "validation=" in shown
    assert "<" in shown.split("\r")[-1]  # elapsed<left
    train.train(Run(**SMALL), steps=10)
    assert capsys.readouterr().err == ""


def test_mean_of_nothing_is_nan():
    assert math.isnan(train.mean(np.array([])))
    assert train.mean(np.array([1.0, 2.0])) == 1.5
