"""The networks once more, in NumPy, one position and one head at a time; gradients without autograd."""

import math

import numpy as np
from scipy.special import erf

ACTIVATIONS = {
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "tanh": np.tanh,
}


def logits(run, weights, x, y):
    """Logits of one equation, (V,), from weights by the names of the plain network."""
    p = run.n_elements
    tokens = [x, p, y, p + 1]
    if run.architecture == "mlp":
        h = np.concatenate([weights["embedding.weight"][[x, y]]]).ravel()
        for layer in range(run.n_layers):
            h = ACTIVATIONS[run.activation](weights[f"hidden.{layer}.weight"] @ h)
        return weights["output.weight"] @ h
    rows = [weights["embedding.weight"][token] + position(i, run.d_model) for i, token in enumerate(tokens)]
    for layer in range(run.n_layers):
        w = {name.removeprefix(f"blocks.{layer}."): value for name, value in weights.items()}
        rows = [block(run, w, rows[: i + 1]) for i in range(len(rows))]
    last = rows[-1]
    if run.norm == "pre":
        last = layer_norm(last, weights["final_norm.weight"], weights["final_norm.bias"])
    return weights["output.weight"] @ last


def position(i, d_model):
    """Sinusoidal position i (Vaswani et al. 2017, section 3.5)."""
    row = np.zeros(d_model)
    for k in range(d_model // 2):
        angle = i / 10_000 ** (2 * k / d_model)
        row[2 * k], row[2 * k + 1] = math.sin(angle), math.cos(angle)
    return row


def block(run, w, rows):
    """What a block makes of the last of `rows`; that row sees itself and the earlier ones."""

    def norm(name, row):
        return layer_norm(row, w[f"{name}.weight"], w[f"{name}.bias"])

    def feed_forward(row):
        hidden = ACTIVATIONS[run.activation](w["feed_forward.up.weight"] @ row)
        return w["feed_forward.down.weight"] @ hidden

    x = rows[-1]
    if run.norm == "post":
        x = norm("attention_norm", x + attention(run, w, rows))
        return norm("feed_forward_norm", x + feed_forward(x))
    if run.norm == "pre":
        x = x + attention(run, w, [norm("attention_norm", row) for row in rows])
        return x + feed_forward(norm("feed_forward_norm", x))
    x = x + attention(run, w, rows)
    return x + feed_forward(x)


def attention(run, w, rows):
    """Attention of the last of `rows` to all of them."""
    q, k, v = np.split(w["attention.qkv.weight"], 3)
    heads = []
    for part in np.split(np.arange(run.d_model), run.n_heads):
        query = q[part] @ rows[-1]
        scores = np.array([query @ (k[part] @ row) for row in rows]) / math.sqrt(len(part))
        share = np.exp(scores - scores.real.max())
        share = share / share.sum()
        heads.append(sum(a * (v[part] @ row) for a, row in zip(share, rows, strict=True)))
    return w["attention.out.weight"] @ np.concatenate(heads)


def layer_norm(row, weight, bias):
    """Layer norm with PyTorch's epsilon."""
    centred = row - row.mean()
    return centred / np.sqrt((centred**2).mean() + 1e-5) * weight + bias


def loss(run, weights, x, y, labels):
    """Mean cross-entropy of some equations, in nats."""
    total = 0.0
    for equation in zip(x, y, labels, strict=True):
        z = logits(run, weights, *equation[:2])
        highest = z.real.max()
        total = total + highest + np.log(np.exp(z - highest).sum()) - z[equation[2]]
    return total / len(x)


def gradient(function, weights):
    """Derivatives of a real analytic function by complex steps: exact to rounding, no differences taken."""
    out = {name: np.zeros_like(value) for name, value in weights.items()}
    tiny = 1e-30
    for name, value in weights.items():
        for place in np.ndindex(value.shape):
            shifted = value.astype(complex)
            shifted[place] += 1j * tiny
            out[name][place] = function(weights | {name: shifted}).imag / tiny
    return out
