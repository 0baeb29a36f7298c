"""Where the softmax collapses: rounding of the loss, and the growth that follows from it.

Collapse as in the code of Prieto et al. (arXiv 2501.04697); the norms of the global means as in arXiv
2605.06152. All on the training set, collapse in the run's own precision, the rest in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grokking_core.model import tensor_ops
from grokking_core.probes.probe import Probe, Seen
from grokking_core.runs.run import Run


class SoftmaxCollapse(Probe):
    """Share of training equations whose softmax has collapsed, and what grows meanwhile."""

    @classmethod
    def columns(cls, run: Run) -> tuple[str, ...]:
        """Shares; norms of the means of output rows and features, their cosine; 1 - p; a logit."""
        means = ("output_mean_norm", "feature_mean_norm", "cosine")
        return ("collapse", "zero_loss", *means, "wrong_probability", "largest_logit")

    def measure(self, seen: Seen) -> Tensor:
        """A row for each of the K slots, float64 (K, C)."""
        train, logits = seen.groups[:, 0], seen.logits
        n = train.sum(1)

        def mean(values: Tensor) -> Tensor:
            return torch.where(train, values, 0.0).sum(1) / n

        collapsed = (logits - logits.amax(-1, keepdim=True)).exp().sum(-1) == 1
        own = logits.gather(-1, seen.label[:, :, None]).squeeze(-1)
        zero = logits.logsumexp(-1) == own
        rows = seen.weights["output.weight"].double().mean(1)  # (K, D), over all tokens
        features = torch.where(train[:, :, None], seen.features.double(), 0.0).sum(1) / n[:, None]
        wrong = -torch.expm1(-tensor_ops.cross_entropy(logits, seen.label))
        largest = torch.where(train, logits.abs().amax(-1), 0.0).amax(1).double()
        cosine = torch.nn.functional.cosine_similarity(rows, features, dim=1, eps=1e-300)
        columns = [mean(collapsed.double()), mean(zero.double()), rows.norm(dim=1), features.norm(dim=1)]
        return torch.stack([*columns, cosine, mean(wrong), largest], dim=1)
