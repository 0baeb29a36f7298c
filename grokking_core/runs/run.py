"""`Run`: everything that decides one training trajectory, and nothing else."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from grokking_core import data

CHOICES: dict[str, tuple[str, ...]] = {
    "architecture": ("transformer", "mlp"),
    "activation": ("relu", "gelu", "tanh"),
    "norm": ("post", "pre", "none"),
    "positions": ("sinusoidal", "learned"),
    "init": ("pytorch", "normal"),
    "loss": ("cross_entropy", "stablemax"),
    "loss_precision": ("run", "fp64"),
    "gradient": ("plain", "perp", "zero_sum"),
    "slow_gradient": ("none", "ema", "ma"),
    "optimizer": ("adamw", "adam", "sgd", "muon"),
    "decay_toward": ("origin", "init"),
    "precision": ("fp32", "tf32", "tf32x3", "tf32-rounded", "fp64"),
}
MA_WINDOW = 100  #: gradients that slow_gradient "ma" adds up


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run; the defaults are the paper's (section 3, appendix A.1.2).

    Later papers changed the loss, its gradient or the update: StableMax and perpGrad are of Prieto et al.
    2025 (arXiv 2501.04697), "zero_sum" is of arXiv 2605.06152, the slow gradients are Grokfast's (Lee et al.
    2024, arXiv 2405.20233), `norm_hold` and `init_scale` Omnigrok's (Liu et al. 2022, arXiv 2210.01117). All
    are off by default; `updates.plain` says what each does.

    How far the run is followed is asked of `sweep`, not stored here. A record's key leaves out the fields
    that have their default: a changed *default* of a field would change what the keys of old records mean.

    Raises
    ------
    ValueError
        Naming the argument, its value and what is allowed.
    """

    operation: str  #: a key of data.OPERATIONS
    p: int = 97  #: modulus, at least 2; prime where the operation divides
    n: int = 5  #: letters of the symmetric group, 2 to 5
    train_fraction: float = 0.5  #: share of the table, in (0, 1)
    outliers: int = 0  #: training answers replaced by draws from the table
    seed: int = 0  #: of initialisation, batches and noise; at least 0
    split_seed: int | None = None  #: of split and outliers; None: the run's seed

    architecture: Literal["transformer", "mlp"] = "transformer"
    n_layers: int = 2  #: blocks of the transformer, hidden layers of the MLP
    d_model: int = 128  #: width of the residual stream; of each operand's embedding in the MLP
    n_heads: int = 4  #: attention heads; divides d_model
    d_ff: int | None = None  #: width of the hidden layers; None: 4 x d_model
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    norm: Literal["post", "pre", "none"] = "post"  #: layer norm after, before or nowhere (transformer)
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"  #: learned: from draws like embeddings'
    init: Literal["pytorch", "normal"] = "pytorch"  #: normal: every matrix N(0, 1 / d_model)
    init_scale: float = 1.0  #: factor on the first weights, layer norms apart; above 0

    loss: Literal["cross_entropy", "stablemax"] = "cross_entropy"  #: of training; curves show cross-entropy
    loss_precision: Literal["run", "fp64"] = "run"  #: of the loss, from the logits on; stablemax: fp64
    temperature: float = 1.0  #: divides the logits in the training loss; above 0
    gradient: Literal["plain", "perp", "zero_sum"] = "plain"  #: perp: to the weights; zero_sum: over classes
    slow_gradient: Literal["none", "ema", "ma"] = "none"  #: Grokfast's, added to the gradient

    optimizer: Literal["adamw", "adam", "sgd", "muon"] = "adamw"  #: decay decoupled in adamw and muon
    lr: float = 1e-3  #: learning rate after warm-up
    betas: tuple[float, float] = (0.9, 0.98)  #: of the moments; sgd: betas[0] is the momentum
    eps: float = 1e-8  #: added to the root of the second moment
    weight_decay: float = 1.0  #: on every parameter; adamw: multiplied by the learning rate
    decay_toward: Literal["origin", "init"] = "origin"  #: what the weights decay to
    decay_from: int = 0  #: the first update with weight decay
    decay_to: int | None = None  #: the first update without it again; None: never
    norm_hold: float = 0.0  #: all weights are rescaled to this share of their first norm; 0: they are not
    warmup_steps: int = 10  #: updates of linear warm-up; the first update has rate 0
    batch_size: int | Literal["full"] | None = None  #: None: min(512, half the training set, rounded up)
    update_noise: float = 0.0  #: standard deviation added to the update direction; see `updates.plain`
    weight_noise: float = 0.0  #: standard deviation added to the weights, in training only
    dropout: float = 0.0  #: share dropped of the feed-forward branch, in [0, 1)
    #: of the arithmetic; tf32: CUDA products only, as is tf32x3; tf32-rounded: like tf32's, on any device
    precision: Literal["fp32", "tf32", "tf32x3", "tf32-rounded", "fp64"] = "fp32"

    def __post_init__(self) -> None:
        """Check every argument; lists for `betas` (as JSON and YAML give them) become tuples."""
        if isinstance(self.betas, list):
            object.__setattr__(self, "betas", tuple(self.betas))
        data.check_operation(self.operation, self.p, self.n)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}")
        self._check_numbers()
        self._check_training()
        self._check_split()

    @property
    def n_elements(self) -> int:
        """Elements of the operation: p, or n!."""
        return data.n_elements(self.operation, self.p, self.n)

    def dataset(self) -> data.Dataset:
        """Table, split and outliers: what the run is trained on and measured against."""
        split_seed = self.seed if self.split_seed is None else self.split_seed
        sizes = {"train_fraction": self.train_fraction, "outliers": self.outliers}
        return data.dataset(self.operation, self.p, self.n, **sizes, split_seed=split_seed)

    @property
    def n_train(self) -> int:
        """Training equations."""
        n_equations = len(data.operation_table(self.operation, self.p, self.n).x)
        return data.n_training_equations(self.train_fraction, n_equations)

    @property
    def effective_batch_size(self) -> int:
        """Equations in a full batch, `batch_size` resolved."""
        if self.batch_size == "full":
            return self.n_train
        return min(self.n_train, self.batch_size or min(512, math.ceil(self.n_train / 2)))

    @property
    def hidden_width(self) -> int:
        """Width of the hidden layers, `d_ff` resolved."""
        return self.d_ff or 4 * self.d_model

    def identity(self) -> dict[str, Any]:
        """Plain values of every field that decides the trajectory: without p on S_n, without n mod p."""
        fields = asdict(self)
        del fields["p" if data.OPERATIONS[self.operation].on_group else "n"]
        return fields | {"betas": list(self.betas)}

    def _check_numbers(self) -> None:
        lowest = {"outliers": 0, "seed": 0, "split_seed": 0, "n_layers": 1, "d_model": 2, "n_heads": 1}
        lowest |= {"d_ff": 1, "warmup_steps": 0, "decay_from": 0, "decay_to": 1}
        if self.batch_size != "full":
            lowest["batch_size"] = 1
        for name, bound in lowest.items():
            value = getattr(self, name)
            if value is None and name in ("split_seed", "d_ff", "batch_size", "decay_to"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < bound:
                or_full = "'full' or " if name == "batch_size" else ""
                raise ValueError(f"{name}={value!r} must be {or_full}a whole number of at least {bound}")
        at_least_0 = ("lr", "eps", "weight_decay", "update_noise", "weight_noise", "norm_hold")
        above_0 = ("init_scale", "temperature")
        for name in (*at_least_0, *above_0, "train_fraction", "dropout"):
            if not _is_number(value := getattr(self, name)):
                raise ValueError(f"{name}={value!r} must be a number; YAML reads 1e-3 as text, 1.0e-3 not")
        for name in at_least_0:
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name}={getattr(self, name)} must be finite and at least 0")
        for name in above_0:
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name}={getattr(self, name)} must be finite and above 0")
        betas = self.betas if isinstance(self.betas, tuple) else ()
        if len(betas) != 2 or not all(_is_number(beta) and 0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas={self.betas} must be two numbers in [0, 1)")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must lie in [0, 1)")
        if self.architecture == "transformer" and self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} must be divisible by n_heads={self.n_heads}")
        if self.architecture == "transformer" and self.d_model % 2:
            raise ValueError(f"d_model={self.d_model} must be even: positions are pairs of sine and cosine")

    def _check_training(self) -> None:
        if self.loss == "stablemax" and self.precision in ("tf32", "tf32-rounded"):
            digits = "is computed in float64, from logits that must have more digits"
            raise ValueError(
                f"loss='stablemax' {digits} than precision={self.precision!r}; use 'fp32' or 'fp64'"
            )
        if self.decay_to is not None and self.decay_to <= self.decay_from:
            raise ValueError(f"decay_to={self.decay_to} must be above decay_from={self.decay_from}")
        if self.optimizer == "muon" and self.architecture == "mlp" and self.hidden_width == 1:
            needs = "needs a hidden matrix, and this network has none"
            raise ValueError(f"optimizer='muon' {needs}: d_ff=1 must be at least 2")

    def _check_split(self) -> None:
        if not 0 < self.train_fraction < 1:
            raise ValueError(f"train_fraction={self.train_fraction} must lie in (0, 1); write 50 % as 0.5")
        n_equations = len(data.operation_table(self.operation, self.p, self.n).x)
        if not 0 < self.n_train < n_equations:
            empty = "training" if self.n_train == 0 else "validation"
            cause = f"leaves the {empty} side of {n_equations} equations empty"
            raise ValueError(f"train_fraction={self.train_fraction} {cause}")
        if self.outliers > self.n_train:
            raise ValueError(
                f"outliers={self.outliers} must not exceed the {self.n_train} training equations"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
