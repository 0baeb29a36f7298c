"""The networks, plain and readable: what `networks` must reproduce for many at once.

Axes: B equations, T = 4 tokens (`x op y =`), H heads, D = d_model, F = hidden width, V = vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grokking_core.data import streams
from grokking_core.data.streams import Purpose
from grokking_core.kernels.plain import rounded
from grokking_core.runs.run import Run

N_TOKENS = 4  #: x op y =
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}

DropMask = Callable[[int, Tensor], Tensor]  #: (layer, branch (B, T, D)) -> branch with dropout applied


def sinusoidal_positions(n_positions: int, d_model: int) -> Tensor:
    """Fixed positions (Vaswani et al. 2017, section 3.5), float64 of shape (n_positions, d_model).

    Column 2i is sin(position / 10000^(2i / d_model)), column 2i + 1 the cosine of the same angle.
    """
    position = torch.arange(n_positions, dtype=torch.float64)[:, None]
    angle = position / 10_000 ** (torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class RoundedLinear(torch.autograd.Function):
    """x W^T where this product and those of its gradients see their factors rounded to tf32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        """(..., D), (F, D) -> (..., F)."""
        ctx.save_for_backward(rounded(x), rounded(w))
        return rounded(x) @ rounded(w).mT

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients with respect to x and W."""
        (x, w), g = ctx.saved_tensors, rounded(g)
        return g @ w, g.flatten(0, -2).mT @ x.flatten(0, -2)


class Linear(nn.Linear):
    """A linear layer without biases; with `rounds`, products see their factors rounded to tf32."""

    rounds = False

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """x W^T: (..., n_in) -> (..., n_out)."""
        return RoundedLinear.apply(input, self.weight) if self.rounds else super().forward(input)


class Attention(nn.Module):
    """Causal multi-head attention without biases."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = Linear(d_model, 3 * d_model)
        self.out = Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Each row as a mixture of the rows up to it: (B, T, D) -> (B, T, D)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D / H)
        score = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, H, T, T)
        future = torch.ones_like(score, dtype=torch.bool).triu(1)
        weight = score.masked_fill(future, -math.inf).softmax(-1)
        return self.out((weight @ v).transpose(1, 2).flatten(2))  # (B, T, D)


class FeedForward(nn.Module):
    """Two linear layers without biases, an activation between them."""

    def __init__(self, d_model: int, hidden_width: int, activation: str):
        super().__init__()
        self.up = Linear(d_model, hidden_width)
        self.down = Linear(hidden_width, d_model)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return down(activation(up(x))): (B, T, D) -> (B, T, D)."""
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """Attention and feed-forward branches on the residual stream, normed after, before or never."""

    def __init__(self, run: Run):
        super().__init__()
        self.norm = run.norm
        self.attention = Attention(run.d_model, run.n_heads)
        self.feed_forward = FeedForward(run.d_model, run.hidden_width, run.activation)
        if run.norm != "none":
            self.attention_norm = nn.LayerNorm(run.d_model)
            self.feed_forward_norm = nn.LayerNorm(run.d_model)

    def forward(self, x: Tensor, drop: Callable[[Tensor], Tensor]) -> Tensor:
        """The residual stream after this block: (B, T, D) -> (B, T, D)."""
        if self.norm == "post":
            x = self.attention_norm(x + self.attention(x))
            return self.feed_forward_norm(x + drop(self.feed_forward(x)))
        if self.norm == "pre":
            x = x + self.attention(self.attention_norm(x))
            return x + drop(self.feed_forward(self.feed_forward_norm(x)))
        x = x + self.attention(x)
        return x + drop(self.feed_forward(x))


class Transformer(nn.Module):
    """The paper's decoder-only transformer (section 3, appendix A.1.2; details from the authors' code).

    Parameters
    ----------
    run : Run
        Its sizes are used: n_elements, n_layers, d_model, n_heads, d_ff, activation, norm, positions.
    """

    positions: Tensor  #: (T, D)

    def __init__(self, run: Run):
        super().__init__()
        vocabulary = run.n_elements + 2
        self.embedding = nn.Embedding(vocabulary, run.d_model)
        self.blocks = nn.ModuleList(Block(run) for _ in range(run.n_layers))
        if run.norm == "pre":
            self.final_norm = nn.LayerNorm(run.d_model)
        self.output = Linear(run.d_model, vocabulary)
        at = sinusoidal_positions(N_TOKENS, run.d_model).float()
        self.positions = nn.Parameter(at) if run.positions == "learned" else nn.Buffer(at, persistent=False)

    def residual(self, tokens: Tensor, drop: DropMask | None = None) -> Tensor:
        """Residual stream after the last block, (B, T, D); `tokens` are int64 of shape (B, T)."""
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for layer, block in enumerate(self.blocks):
            x = block(x, lambda branch, layer=layer: drop(layer, branch) if drop else branch)
        return self.final_norm(x) if hasattr(self, "final_norm") else x

    def forward(self, tokens: Tensor, drop: DropMask | None = None) -> Tensor:
        """Logits of the answer, read at `=`: (B, V)."""
        return self.output(self.residual(tokens, drop)[:, -1])


class MLP(nn.Module):
    """A multi-layer perceptron on the two operands' embeddings side by side; no biases. Not in the paper."""

    def __init__(self, run: Run):
        super().__init__()
        vocabulary = run.n_elements + 2
        widths = [2 * run.d_model] + [run.hidden_width] * run.n_layers
        self.embedding = nn.Embedding(vocabulary, run.d_model)
        self.hidden = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.output = Linear(run.hidden_width, vocabulary)
        self.activation = ACTIVATIONS[run.activation]

    def forward(self, tokens: Tensor, drop: DropMask | None = None) -> Tensor:
        """Logits of the answer, (B, V), from int64 tokens of shape (B, 4), of which x and y are read."""
        x = self.embedding(tokens[:, [0, 2]]).flatten(1)
        for layer, linear in enumerate(self.hidden):
            x = self.activation(linear(x))
            x = drop(layer, x[:, None])[:, 0] if drop else x
        return self.output(x)


def build(run: Run, device: str = "cpu") -> Transformer | MLP:
    """The network of a run with its first weights, in the run's precision.

    Weights follow PyTorch's defaults, drawn from the run's own stream: embeddings N(0, 1), linear layers
    uniform within 1 / sqrt(fan_in), layer norms 1 and 0. With `init` "normal" embeddings and linear layers
    are N(0, 1 / d_model). Positions that are learned begin as embeddings do. PyTorch's own generators stay as
    they were.
    """
    with torch.random.fork_rng(devices=[]):
        network = {"transformer": Transformer, "mlp": MLP}[run.architecture](run)
    key = streams.stream(run.seed, Purpose.INIT)
    with torch.no_grad():
        for number, (name, parameter) in enumerate(network.named_parameters()):
            parameter.copy_(_first_values(run, name, parameter.shape, streams.fold(key, number)))
    if run.precision == "fp64":
        network = network.double()
        if isinstance(network, Transformer) and run.positions == "sinusoidal":
            network.positions = sinusoidal_positions(N_TOKENS, run.d_model)
    if run.precision == "tf32-rounded":
        for module in network.modules():
            if isinstance(module, Linear):
                module.rounds = True
    return network.to(device)


def _first_values(run: Run, name: str, shape: torch.Size, key: Tensor) -> Tensor:
    if "norm" in name:
        return torch.full(shape, float(name.endswith("weight")))
    if run.init == "normal" or name.startswith(("embedding", "positions")):
        scale = run.init_scale / (math.sqrt(run.d_model) if run.init == "normal" else 1)
        return scale * streams.normal(key, shape.numel()).view(shape)
    values = (2 * streams.uniform(key, shape.numel()).view(shape) - 1) / math.sqrt(shape[-1])
    return run.init_scale * values
