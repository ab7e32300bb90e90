"""What the sampled products of both GPU backends have in common: which problems they solve, what stands around a kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from ...formats.bsr import Pattern
from ...problem import DENSE, SDDMM
from .sampled import as_dense, cut, stored_size, zeros
from .sizes import num_sms, padded, padding_bytes, whole
from .steps import steps
from .tile import Split

MAX_SPLITS = 16


def why_not(problem: SDDMM, tiles: Sequence[tuple[int, int]]) -> str | None:
    """A phrase where none of the `tiles` serves the layout."""
    layout = problem.layout
    if layout != DENSE and (layout.format != "bsr" or layout.block is None):
        return f"writes dense and bsr weights, not {layout}"
    return None if blocks(problem, tiles) else f"has no tile that whole blocks of {layout.block} fill"


def blocks(problem: SDDMM, tiles: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of the tiles that are made of whole blocks of the layout."""
    block = problem.layout.block
    return [tile for tile in tiles if block is None or all(t % b == 0 for t, b in zip(tile, block, strict=True))]


def splits(problem: SDDMM, block: tuple[int, int], depth: int) -> int:
    """Into how many parts the rows are cut, so that every multiprocessor has work where blocks of this size are few."""
    wanted = math.ceil(num_sms(problem.device) / max(live(problem, block), 1))
    return max(1, min(wanted, MAX_SPLITS, math.ceil(problem.m / depth)))


def live(problem: SDDMM, block: tuple[int, int]) -> int:
    """How many blocks of this size hold a live element."""
    return steps(problem.pattern, block, False).count


def partial_dtype(problem: SDDMM, parts: int) -> np.dtype:
    """What a kernel writes: partial sums stay in float32."""
    return np.dtype(np.float32) if parts > 1 else problem.out_dtype


def whole_sizes(problem: SDDMM, config: Split) -> tuple[int, int, int]:
    return whole(problem.m, config.splits * config.depth), whole(problem.k, config.rows), whole(problem.n, config.cols)


def is_zero(problem: SDDMM, config: Split) -> bool:
    """Whether nothing is to be multiplied: Pallas takes neither empty lists nor empty results."""
    return problem.m == 0 or live(problem, (config.rows, config.cols)) == 0


def flops(problem: SDDMM, config: Split) -> float:
    """Of whole tiles."""
    return 2.0 * whole_sizes(problem, config)[0] * live(problem, (config.rows, config.cols)) * config.rows * config.cols


def busy(problem: SDDMM, config: Split) -> float:
    """The share of the multiprocessors that work, all items (a block, a part) being equal."""
    items, sms = live(problem, (config.rows, config.cols)) * config.splits, num_sms(problem.device)
    return items / (math.ceil(items / sms) * sms)


def stored_bytes(problem: SDDMM) -> int:
    return stored_size(problem) * problem.out_dtype.itemsize


def moved_bytes(problem: SDDMM, config: Split) -> int:
    """What goes to and from memory, copies that pad included."""
    m, k, n = whole_sizes(problem, config)
    itemsize, block = problem.x_dtype.itemsize, (config.rows, config.cols)
    made = config.splits * live(problem, block) * math.prod(block) * partial_dtype(problem, config.splits).itemsize
    moved = m * (k + n) * itemsize + made
    moved += padding_bytes((problem.m, problem.k), (m, k), itemsize)
    moved += padding_bytes((problem.m, problem.n), (m, n), itemsize)
    is_result = config.splits == 1 and problem.layout.block == block
    return moved + (0 if is_result else made + stored_bytes(problem))


def run(problem: SDDMM, config: Split, kernel: Callable[..., jax.Array], x: jax.Array, g: jax.Array) -> jax.Array:
    """The sampled product by `kernel(x, g, pattern)`, which gives `[splits, nnzb, rows, cols]` on whole tiles, if there is
    anything to multiply; parts are summed and what the layout stores is cut out after it."""
    if is_zero(problem, config):
        return zeros(problem)
    m, k, n = whole_sizes(problem, config)
    pattern = Pattern.of(problem.pattern, (config.rows, config.cols))
    blocks = kernel(padded(x, (m, k)), padded(g, (m, n)), pattern)
    blocks = blocks.sum(0).astype(problem.out_dtype) if config.splits > 1 else blocks[0]
    if problem.layout.block is None:
        return as_dense(problem, pattern, blocks)
    return cut(problem, problem.layout.block, pattern, blocks)
