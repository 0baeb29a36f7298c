import math

import pytest
import torch
from tensors import assert_close, draw, leaf
from torch.nn import functional as F

from grokking_core.model import tensor_ops as layers

pytestmark = pytest.mark.usefixtures("one_thread")

R, N, D = 3, 10, 8  # runs, rows, width


@pytest.mark.parametrize("n_runs", [1, R])
def test_layer_norm_and_its_gradients(n_runs):
    x, w, b = leaf(n_runs, N, D), leaf(n_runs, D, seed=1), leaf(n_runs, D, seed=2)
    g = draw(n_runs, N, D, seed=3)
    rows = zip(x, w, b, strict=True)
    y = torch.stack([F.layer_norm(a, (D,), weight, bias) for a, weight, bias in rows])
    dw, db, saved = torch.empty_like(w), torch.empty_like(b), {}
    with torch.no_grad():
        assert_close([layers.layer_norm(x, w, b, saved)], [y])
        dx = layers.layer_norm_backward(g.clone(), w, b, dw, db, saved)
    assert_close([dx, dw, db], torch.autograd.grad(y, (x, w, b), g))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_is_right_however_small_it_is(dtype):
    gaps = torch.tensor([0.0, 1.0, 15.0, 27.0, 60.0, 700.0])  # of the label's logit above each of the others
    logits = torch.full((R, 2 * len(gaps), 4), 3.0)
    label = torch.arange(2 * len(gaps)).remainder(4).expand(R, -1)
    logits.scatter_(2, label[..., None], 3 + torch.cat([gaps, -gaps]).expand(R, -1)[..., None])
    loss = layers.cross_entropy(logits.to(dtype), label)
    expected = [math.log1p(3 * math.exp(-gap)) for gap in gaps.tolist()]
    expected += [gap + math.log(3 + math.exp(-gap)) for gap in gaps.tolist()]
    assert loss.dtype == torch.float64
    torch.testing.assert_close(
        loss, torch.tensor(expected, dtype=torch.float64).expand(R, -1), rtol=2e-7, atol=0
    )
    assert loss[0, 4].item() == pytest.approx(3 * math.exp(-60), rel=1e-12)


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_of_logits_that_are_not_finite_is_not(wrong, label):
    logits = torch.tensor([[[wrong, 0.0, 0.0]]])
    assert not layers.cross_entropy(logits, torch.tensor([[label]])).isfinite()


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_activation_and_its_gradient(name):
    x, g, saved = leaf(R, N, D), draw(R, N, D, seed=1), {}
    y = {"relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}[name](x)
    with torch.no_grad():
        assert_close([layers.activate_(name, x.detach().clone(), saved)], [y])
        dx = layers.activate_backward_(name, g.clone(), saved)
    assert_close([dx], torch.autograd.grad(y, x, g))


def attention(q, keys, values, n_heads):
    """Of each row to T rows of its own, head by head."""
    out = []
    for part in torch.arange(q.shape[-1]).chunk(n_heads):
        scores = [(q[..., part] * k[..., part]).sum(-1) / math.sqrt(len(part)) for k in keys]
        share = torch.stack(scores).softmax(0)
        out.append(sum(a[..., None] * v[..., part] for a, v in zip(share, values, strict=True)))
    return torch.cat(out, dim=-1)


@pytest.mark.parametrize("n_heads", [1, 2, 8])
@pytest.mark.parametrize("t", [1, 3])
def test_attend_and_its_gradients(n_heads, t):
    q, g = leaf(R, N, D), draw(R, N, D, seed=1)
    keys, values = ([leaf(R, N, D, seed=s + i) for i in range(t)] for s in (10, 20))
    y = attention(q, keys, values, n_heads)
    names = ("q", [f"k{i}" for i in range(t)], [f"v{i}" for i in range(t)])
    sums = layers.Sums({name: torch.ones(R, N, D, dtype=torch.float64) for name in ("q", *names[2])})
    with torch.no_grad():
        weight, out = layers.attend(q, keys, values, n_heads)
        layers.attend_backward(g, weight, q, keys, values, sums, names)
    assert weight.shape == (t, R, N, n_heads)
    assert_close([out, weight.sum(0)], [y, torch.ones(R, N, n_heads)])
    gradients = torch.autograd.grad(y, (q, *keys, *values), g)
    found = [sums[name] - float(name not in names[1]) for name in ("q", *names[1], *names[2])]
    assert_close(found, gradients)  # they are added to what is there


@pytest.mark.parametrize("n_rows", [1, N])
def test_dot_and_its_gradients(n_rows):
    """Inner products by head; one row serves for all."""
    a, b, g = leaf(R, N, D), leaf(R, n_rows, D, seed=1), draw(R, N, 2, seed=2)
    y = torch.stack([(a * b)[..., :4].sum(-1), (a * b)[..., 4:].sum(-1)], dim=-1)
    sums = layers.Sums({"a": torch.ones_like(a)})
    with torch.no_grad():
        assert_close([layers.dot(a, b, 2)], [y])
        layers.dot_backward(g, a, b, sums, "a", "b")
        layers.dot_backward(g, a, b, sums, "a", "b")
    assert_close([(sums["a"] - 1) / 2, sums["b"] / 2], torch.autograd.grad(y, (a, b), g))


def test_take_and_its_gradient():
    """Rows are looked up in each run's own table; a row that is used twice gets both gradients."""
    table, g = leaf(R, 4, D), draw(R, N, D, seed=1)
    index = torch.randint(4, (R, N), generator=torch.Generator().manual_seed(0))
    index[:, 1] = index[:, 0]
    y = torch.stack([rows[i] for rows, i in zip(table, index, strict=True)])
    with torch.no_grad():
        assert_close([layers.take(table, index)], [y])
        dtable = layers.take_backward(g, index, 4)
    assert_close([dtable], torch.autograd.grad(y, table, g))


def test_take_backward_is_repeatable_to_the_bit():
    g, index = draw(R, 1000, D).float(), torch.randint(4, (R, 1000))
    first = layers.take_backward(g, index, 4)
    assert all(torch.equal(first, layers.take_backward(g, index, 4)) for _ in range(5))


@pytest.mark.parametrize("n_heads", [1, 2])
def test_table_attention_and_its_gradient(n_heads):
    """Attention of whole equations, each token's queries, keys and values looked up first."""
    p, b = 5, 12
    qkv = leaf(R, 2 * p + 2, 3 * D)
    g = [draw(R, n, D, seed=1 + i) for i, n in enumerate((p, p, b, b))]
    pairs = torch.randperm(p * p, generator=torch.Generator().manual_seed(0))[:b].expand(R, b)
    x, y = pairs // p, pairs % p

    def attended(i, x, y):
        tokens = [x, torch.full_like(x, 2 * p), p + y, torch.full_like(y, 2 * p + 1)]
        rows = [torch.stack([t[j] for t, j in zip(qkv, token, strict=True)]) for token in tokens]
        q, k, v = zip(*(row.chunk(3, dim=-1) for row in rows), strict=True)
        return attention(q[i], k[: i + 1], v[: i + 1], n_heads)

    each = torch.arange(p).expand(R, p)
    expected = [attended(0, each, each), attended(1, each, each), attended(2, x, y), attended(3, x, y)]
    saved = {}
    with torch.no_grad():
        assert_close(layers.table_attention(qkv, x, y, n_heads, saved), expected)
        dqkv = layers.table_attention_backward(g, n_heads, saved)
    assert_close([dqkv], torch.autograd.grad(expected, qkv, g))


@pytest.mark.gpu
def test_take_backward_is_the_same_on_the_gpu():
    g, index = draw(R, N, D), torch.randint(4, (R, N))
    on_gpu = layers.take_backward(g.cuda(), index.cuda(), 4).cpu()
    assert_close([on_gpu], [layers.take_backward(g, index, 4)])
