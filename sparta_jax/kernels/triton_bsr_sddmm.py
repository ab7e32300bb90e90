"""Sampled product on NVIDIA GPUs since Ampere, through Triton: `x.T @ g` at live blocks, a weight's gradient."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np

from ..formats.bsr import Pattern
from ..problem import DENSE, SDDMM, Cost
from .mosaic.limits import num_sms, padded, padding_bytes, whole
from .mosaic.schedule import steps
from .mosaic.tiling import LAUNCH, NARROW
from .sampled import as_dense, cut, stored_size, zeros
from .table import register
from .triton.limits import as_precision, share, why_not_device, why_not_dtypes, why_not_sizes
from .triton.tile import Tile, tile

BLOCKS = ((32, 32), (32, 64), (64, 32), (64, 64), (64, 128), (128, 64), (128, 128))
DEPTH = 32
MAX_SPLITS = 16


@dataclasses.dataclass(frozen=True)
class TritonBsrSDDMM:
    """One program per live block of the config's size and part of the rows, accumulated in float32.

    The config's blocks may be larger than the layout's; what the layout stores is cut out after. Where live blocks are fewer
    than multiprocessors, the rows are split and the parts summed. float32 as in `TritonBsrSpMM`.
    """

    name: str = "triton_bsr_sddmm"
    implementation: str = "triton"
    problem: type = SDDMM

    def why_not(self, problem: SDDMM) -> str | None:
        m, k, n = problem.m + MAX_SPLITS * DEPTH, problem.k + 128, problem.n + 128
        return (
            why_not_device(problem.device)
            or why_not_dtypes(problem.x_dtype, problem.g_dtype, problem.out_dtype)
            or why_not_sizes(m * k, m * n, k * n)
            or _why_not_layout(problem)
        )

    def configs(self, problem: SDDMM) -> list[Tile]:
        fits = [_tile(problem, block) for block in BLOCKS if _holds(block, problem.layout.block)]
        return [t for t in fits if t is not None]

    def cost(self, problem: SDDMM, config: Tile) -> Cost:
        itemsize = problem.x_dtype.itemsize
        live = steps(problem.pattern, (config.rows, config.cols), False).count
        stored = stored_size(problem) * problem.out_dtype.itemsize
        if problem.m == 0 or live == 0:
            return Cost(0.0, stored, 1.0, LAUNCH)
        m, k, n = _whole_sizes(problem, config)
        made = config.splits * live * config.rows * config.cols * _partial_dtype(problem, config).itemsize
        moved = m * (k + n) * itemsize + 2 * made + stored
        moved += padding_bytes((problem.m, problem.k), (m, k), itemsize)
        moved += padding_bytes((problem.m, problem.n), (m, n), itemsize)
        programs, sms = live * config.splits, num_sms(problem.device)
        busy = programs / (math.ceil(programs / sms) * sms)
        narrow = NARROW.get(min(config.rows, config.cols), 1.0)
        flops = 2.0 * m * live * config.rows * config.cols
        return Cost(flops, moved, share(problem.x_dtype, problem.precision) * narrow * busy, LAUNCH)

    def run(self, problem: SDDMM, config: Tile, x: jax.Array, g: jax.Array) -> jax.Array:
        pattern = Pattern.of(problem.pattern, (config.rows, config.cols))
        if problem.m == 0 or pattern.nnzb == 0:
            return zeros(problem)
        # Pallas takes a third of a second to import, which no program without a GPU should wait for.
        from .triton.sddmm import sddmm

        m, k, n = _whole_sizes(problem, config)
        blocks = sddmm(
            padded(x, (m, k)),
            padded(g, (m, n)),
            pattern,
            tile=config,
            precision=as_precision(problem.x_dtype, problem.precision),
            out_dtype=_partial_dtype(problem, config),
        )
        blocks = blocks.sum(0).astype(problem.out_dtype) if config.splits > 1 else blocks[0]
        if problem.layout.block is None:
            return as_dense(problem, pattern, blocks)
        return cut(problem, problem.layout.block, pattern, blocks)


def _why_not_layout(problem: SDDMM) -> str | None:
    layout = problem.layout
    if layout != DENSE and (layout.format != "bsr" or layout.block is None):
        return f"writes dense and bsr weights, not {layout}"
    if not any(_holds(block, layout.block) for block in BLOCKS):
        return f"has no tile that whole blocks of {layout.block} fill"
    return None


def _holds(size: tuple[int, int], block: tuple[int, int] | None) -> bool:
    """Whether a tile is made of whole blocks of the layout."""
    return block is None or all(t % b == 0 for t, b in zip(size, block, strict=True))


def _tile(problem: SDDMM, block: tuple[int, int]) -> Tile | None:
    """The tile for blocks of this size, split so that every multiprocessor has a program."""
    live = steps(problem.pattern, block, False).count
    wanted = math.ceil(num_sms(problem.device) / max(live, 1))
    splits = max(1, min(wanted, MAX_SPLITS, math.ceil(problem.m / DEPTH)))
    return tile(*block, DEPTH, problem.x_dtype.itemsize, splits)


def _partial_dtype(problem: SDDMM, config: Tile) -> np.dtype:
    return np.dtype(np.float32) if config.splits > 1 else problem.out_dtype


def _whole_sizes(problem: SDDMM, config: Tile) -> tuple[int, int, int]:
    return whole(problem.m, config.splits * config.depth), whole(problem.k, config.rows), whole(problem.n, config.cols)


register(TritonBsrSDDMM())
