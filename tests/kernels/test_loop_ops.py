"""The loops of the CPU against autograd; `test_networks.py` and `test_optimizer.py` hold whole passes."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="the loops need Numba; training does without")

from tensors import assert_close, draw, leaf

from grokking_core import model as model_room
from grokking_core.kernels import loop_ops as kernels

pytestmark = pytest.mark.usefixtures("one_thread")

R, N, D, H = 2, 5, 8, 2
PACKAGE = Path(model_room.__file__).parents[1]


SEEN = np.array(
    [[0, -1, -1], [2, 1, -1], [2, 0, 1], [3, 3, 3], [1, -1, -1]]
)  # of N rows; one sees a row thrice
SIGHT = kernels.Sight(
    query=np.array([[4, 0, 0, 1, 2], [3, 3, 1, 0, 4]]),
    seen=np.stack([SEEN, SEEN[::-1]]),
    at=np.array([[1, 2, 0, 5], [5, 4, 3, 2]]),
)


def attention(q, k, v):
    """Row by row and head by head; (R, rows, D) each."""
    out = []
    for r, n in np.ndindex(R, N):
        rows = [SIGHT.at[r, j] for j in SIGHT.seen[r, n] if j >= 0]
        for part in torch.arange(D).chunk(H):
            query = q[r, SIGHT.query[r, n], part]
            share = torch.stack([query @ k[r, j, part] / math.sqrt(D / H) for j in rows]).softmax(0)
            out.append(sum(a * v[r, j, part] for a, j in zip(share, rows, strict=True)))
    return torch.cat(out).view(R, N, D)


def test_attend_and_its_gradients_with_queries_of_their_own():
    q, kv, g = leaf(R, N, D), leaf(R, 6, 2 * D, seed=1), draw(R, N, D, seed=2)
    y = attention(q, *kv.chunk(2, dim=-1))
    out, dq, dkv = torch.full_like(g, torch.nan), torch.ones_like(q), torch.ones_like(kv)
    with torch.no_grad():
        weight = kernels.attend(SIGHT, q.detach(), kv.detach(), H, out)
        kernels.attend_backward(g, weight, SIGHT, q.detach(), kv.detach(), dq, dkv)
    assert weight.shape == (R, 3, N, H)
    assert_close([out, weight.sum(1)], [y, torch.ones(R, N, H)])
    assert_close([dq - 1, dkv - 1], torch.autograd.grad(y, (q, kv), g))  # they are added to what is there


def test_attend_and_its_gradients_with_queries_keys_and_values_in_one_table():
    qkv, g = leaf(R, 6, 3 * D), draw(R, N, D, seed=2)
    y = attention(*qkv.chunk(3, dim=-1))
    out, dqkv, table = torch.empty_like(g), torch.zeros_like(qkv), qkv.detach()
    weight = kernels.attend(SIGHT, table, table, H, out)
    kernels.attend_backward(g, weight, SIGHT, table, table, dqkv, dqkv)
    assert_close([out, dqkv], [y, *torch.autograd.grad(y, qkv, g)])


def test_rows_that_are_not_seen_may_be_anything():
    q, kv = draw(R, N, D), draw(R, 6, 2 * D, seed=1)
    kv[0, 3:5] = kv[1, :2] = torch.nan
    out = torch.empty_like(q)
    weight = kernels.attend(SIGHT, q, kv, H, out)
    assert out.isfinite().all()
    assert (weight[0, 1:, 0] == 0).all()  # row 0 of the first run sees one row


def test_take_and_its_gradient():
    table, g = leaf(R, 4, D), draw(R, N, D, seed=1)
    row = torch.tensor([[1, 1, 0, 3, 3], [2, 2, 2, 2, 0]])
    y = torch.stack([rows[i] for rows, i in zip(table, row, strict=True)])
    dtable = torch.ones_like(table)
    assert_close([kernels.take(table.detach(), row, torch.empty_like(g))], [y])
    assert_close([kernels.take_backward_(g, row, dtable) - 1], torch.autograd.grad(y, table, g))


@pytest.mark.parametrize("adds", [False, True])
def test_layer_norm_and_its_gradients(adds):
    x, w, b = leaf(R, N, D), leaf(R, D, seed=1), leaf(R, D, seed=2)
    more, g, more_g = (draw(R, N, D, seed=s) if s == 3 or adds else None for s in (4, 3, 5))
    total = x + more if adds else x
    y = torch.stack(
        [torch.nn.functional.layer_norm(t, (D,), *of) for t, *of in zip(total, w, b, strict=True)]
    )
    expected = torch.autograd.grad(y, (x, w, b), g + more_g if adds else g)
    ours, out, dw, db = x.detach().clone(), torch.empty_like(g), *np.full((2, R, D), np.nan)
    arrays = w.detach().numpy(), b.detach().numpy()
    mean, rstd = kernels.layer_norm_(ours, more, *arrays, out)
    assert_close([ours, out], [total, y])
    dx = kernels.layer_norm_backward_(g, more_g, ours, arrays[0], mean, rstd, dw, db)
    assert_close([dx, torch.from_numpy(dw), torch.from_numpy(db)], expected)


def test_cross_entropy_and_its_gradient():
    logits, label, weight = (
        leaf(R, N, 4),
        torch.tensor([[0, 3, 3, 1, 2]]).repeat(R, 1),
        draw(R, N, seed=1).abs(),
    )
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none")
    (expected,) = torch.autograd.grad((loss * weight.flatten()).sum(), logits)
    assert_close([kernels.cross_entropy_backward_(logits.detach().softmax(-1), label, weight)], [expected])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_stay_so_and_stay_where_they_are(bad):
    """Fast arithmetic must not assume that there are none: a run may diverge."""
    q, kv, out = draw(R, N, D), draw(R, 6, 2 * D, seed=1), torch.empty(R, N, D, dtype=torch.float64)
    q[1] = bad
    kernels.attend(SIGHT, q, kv, H, out)
    x, normed = draw(R, N, D), torch.empty_like(out)
    x[1] = bad
    kernels.layer_norm_(x, None, *np.ones((2, R, D)), normed)
    p, g, m, v = (draw(R, N, seed=s).abs() for s in range(4))
    g[1] = bad
    kernels.adamw(p, g, m, v, *np.full((6, R, 1), 0.5))
    for a in (out, normed, p):
        assert a[0].isfinite().all()
        assert a[1].isnan().all()


TRAIN = (
    "from grokking_core import Run, training\nfrom grokking_core.runs.trajectory import Trajectory\n"
    "run, ended = Run(operation='x+y', p=5, d_model=8, n_heads=2), []\n"
    "training.train([Trajectory(run)], steps=5, listener=training.Listener(ended=ended.append))\n"
    "assert ended[0].step == 5; import sys\n"
)


def elsewhere(code, folder=None, **environment):
    """What a process of its own says while it trains, on standard error."""
    environment = os.environ | {"PYTHONWARNINGS": "default"} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "Warning" in line]


def test_without_numba_tensor_operations_do_the_same():
    """What is not installed is not asked for; the package and its training work."""
    code = f"import sys; sys.modules['numba'] = None\n{TRAIN}"
    assert elsewhere(f"{code}assert 'grokking_core.kernels.loop_ops' not in sys.modules") == []


@pytest.mark.parametrize(
    "broken",
    [
        "raise ImportError('Numba needs NumPy 2.2 or less')",
        "raise SystemError('libllvmlite is damaged')",
        "def njit(*functions, **options):\n    raise RuntimeError('no target for this\\nmachine')",
    ],
)
def test_numba_that_is_installed_and_does_not_work_is_done_without_in_one_line(broken, tmp_path):
    (tmp_path / "numba.py").write_text(broken)
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    (said,) = elsewhere(TRAIN, PYTHONPATH=path)
    assert "Numba is installed but does not work (" in said
    assert said.endswith("); training goes on without it, more slowly")


def test_numba_that_cannot_write_its_cache_compiles_all_the_same(tmp_path):
    """Neither beside the package nor in a home: there is no folder where there is a file."""
    shutil.copytree(PACKAGE, tmp_path / "grokking_core", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "grokking_core" / "kernels" / "__pycache__").write_text("")
    folders = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), os.devnull)
    code = (
        "import torch; from grokking_core import model; loops = model.loops_for(torch.device('cpu'))\n"
        "table, row = torch.ones(1, 3, 2), torch.tensor([[2, 0]])\n"
        "assert loops.loop_ops.take(table, row, torch.zeros(1, 2, 2)).sum() == 4"
    )
    (said,) = elsewhere(code, folder=tmp_path, PYTHONPATH=str(tmp_path), **folders)
    assert "Numba compiles anew in each process, since it cannot write its cache (" in said
    assert "NUMBA_CACHE_DIR" in said


def test_loops_are_for_the_cpu():
    assert model_room.loops_for(torch.device("cpu"))
    assert model_room.loops_for(torch.device("cuda")) is None
