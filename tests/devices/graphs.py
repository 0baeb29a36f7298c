"""A CUDA graph on the CPU: what a capture records is replayed with the very tensors and numbers it saw.

Every operation of a capture is kept with its arguments; a replay makes it again and copies what it gives to
where the first one put it. So Python's numbers are frozen, and tensors that are made anew between replays go
unseen, as on a card. What would make the host wait is refused, as in a capture.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from grokking_core.devices.launch import Backend
from grokking_core.training.ensemble import Ensemble

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal", "masked_select", "_unique2")


class Recorder(TorchDispatchMode):
    """Keeps every operation, with its arguments and what it gave."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in WAITS:
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
        out = func(*args, **kwargs or {})
        self.calls.append((func, args, kwargs or {}, out))
        return out


def replay(calls):
    for func, args, kwargs, out in calls:
        for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
            if isinstance(old, torch.Tensor) and old.numel() and old.data_ptr() != new.data_ptr():
                old.copy_(new)


def capture(update, device=None):
    """Make an update, then record the next one; an ensemble is put back to where it was before that."""
    update()
    owner = update.__self__
    state = []
    if isinstance(owner, Ensemble):
        state = [owner.parameters, owner.step, *owner.optimizer.state.values()]
    before = [a.clone() for a in state]
    with Recorder() as recorder:
        update()
    for a, b in zip(state, before, strict=True):
        a.copy_(b)
    return lambda: replay(recorder.calls)


CARD = Backend(compile=lambda function: function, capture=capture)


def one_hot_take_backward(g, index, n_rows):
    """`tensor_ops.take_backward` as on a card."""
    one_hot = torch.arange(n_rows, device=g.device)[:, None] == index[:, None]
    return torch.bmm(one_hot.to(g.dtype), g)
