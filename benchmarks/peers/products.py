"""Contests of single products: masked weights by `x` of many rows, and of one row with weights that no cache holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..cases import Case, random_mask, real_masks
from .contest import OURS, XLA, AbsentError, Contest, Libraries, turns
from .race import Local, Runner

ALL = r"^(onednn|ort) dense$|^(torch|mkl) (csr|bsr)$|^scipy csr$|^jax bcsr$"
SMALL = ALL + r"|^jax bcoo$"  # some hundred times slower than the others
LARGE = r"^(onednn|ort) dense$|^mkl bsr$"  # beside the largest products the others only cost time
LARGE_WORK = 2e10
FEW = 128  # rows up to which DeepSparse is also given a convolution
CACHE = 64 << 20  # bytes of weights that outlast the last-level cache


def product(libraries: Libraries, *spec) -> Contest:
    """`spec` is `(m, k, n, pattern, density, block)`, or `(name of a real mask, m)`."""
    case = _case(*spec)
    x, w = case.operands()
    work = 2.0 * case.m * case.k * case.n
    wanted = LARGE if work > LARGE_WORK else ALL if case.m > FEW else SMALL
    peers, absent = libraries.products(w, case.mask(), x, case.block or 0, wanted)
    contest = Contest(peers, x.astype(np.float64) @ w.astype(np.float64), absent=absent)
    contest.runners.insert(1, ours([w], case.mask(), x))
    contest.add("deepsparse", lambda: libraries.deepsparse([libraries.onnx_product(w, case.m)], {"x": x}, case.m))
    if case.m <= FEW:
        contest.add("deepsparse conv", lambda: convolution(libraries, [w], x))
    return contest


def convolution(libraries: Libraries, weights: Sequence[np.ndarray], x: np.ndarray) -> Runner:
    """DeepSparse's better form for few rows."""
    models = [libraries.onnx_product(w, len(x), convolution=True) for w in weights]
    return libraries.deepsparse(models, {"x": x.reshape(1, len(x), 1, -1)}, 1, "deepsparse conv")


def _case(*spec) -> Case:
    if len(spec) == 2:
        name, m = spec
        if name not in real_masks():
            raise AbsentError("SPARTA_JAX_DATA names no directory of real masks")
        mask = real_masks()[name]
        return Case(f"dlmc-{name}", m, *mask.shape, None, float(mask.mean()))
    m, k, n, _, density, block = spec
    return Case(f"square{k}", m, k, n, block, density)


def vector(libraries: Libraries, size: int, block: int, density: float) -> Contest:
    """One row of x by weights that take turns, so many that each has left the cache when it is read again."""
    mask, rng = random_mask((size, size), block, density), np.random.default_rng(0)
    x = rng.standard_normal((1, size), np.float32)
    sparse_sets, dense_sets = (max(2, -(-CACHE // nbytes)) for nbytes in (4 * int(mask.sum()), 4 * mask.size))
    first = np.where(mask, rng.standard_normal(mask.shape, np.float32), np.float32(0))
    weights = [first, *(first.copy() for _ in range(sparse_sets - 1))]
    contest = Contest([_dense_turns(weights[:dense_sets], x), ours(weights, mask, x)], x.astype(float) @ first.astype(float))
    for name in ("onednn dense", "ort dense"):
        contest.add(name, lambda name=name: libraries.rotating(name, weights[:dense_sets], mask, x, block))
    for name in ("mkl csr", "mkl bsr"):
        contest.add(name, lambda name=name: libraries.rotating(name, weights, mask, x, block))
    contest.add("deepsparse conv", lambda: convolution(libraries, weights[:2], x))  # it computes densely here
    return contest


def _dense_turns(weights: list[np.ndarray], x: np.ndarray) -> Runner:
    import jax

    dense, operand = jax.jit(lambda x, w: x @ w), jax.numpy.asarray(x)
    arrays = [jax.numpy.asarray(w) for w in weights]
    return Local(XLA, turns([lambda w=w: dense(operand, w).block_until_ready() for w in arrays]))


def ours(weights: list[np.ndarray], mask: np.ndarray, x: np.ndarray) -> Runner:
    """The sparsified product, its weights packed; several of them take turns."""
    import jax

    import sparta_jax as sj

    fast = sj.sparsify(lambda w, x: x @ w, sj.TeSA(mask))
    operand, run = jax.numpy.asarray(x), jax.jit(fast)
    packed = [fast.pack(jax.numpy.asarray(w), operand) for w in weights]
    return Local(OURS, turns([lambda p=p: run(p, operand).block_until_ready() for p in packed]))
