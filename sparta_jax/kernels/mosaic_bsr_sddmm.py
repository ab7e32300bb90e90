"""Sampled product on NVIDIA Hopper GPUs: `x.T @ g` at live blocks, the gradient of a block-sparse weight."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np

from ..formats.bsr import Pattern
from ..problem import DENSE, SDDMM, Cost
from .mosaic.limits import num_sms, padded, padding_bytes, whole, why_not_device, why_not_dtypes
from .mosaic.schedule import steps
from .mosaic.tiling import LAUNCH, Tiling, deepest, step_efficiency
from .sampled import as_dense, cut, stored_size, zeros
from .table import register

BLOCKS = ((64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
DEPTH = 64
MAX_SPLITS = 16


@dataclasses.dataclass(frozen=True)
class MosaicBsrSDDMM:
    """One persistent, warp-specialized `wgmma` product per live block of the config's size, accumulated in float32.

    The config's blocks may be larger than the layout's; what the layout stores is cut out after. Where live blocks are fewer
    than multiprocessors, the rows are split and the parts summed. Sizes that the blocks do not divide are padded by a copy.
    """

    name: str = "mosaic_bsr_sddmm"
    implementation: str = "mosaic"
    problem: type = SDDMM

    def why_not(self, problem: SDDMM) -> str | None:
        return (
            why_not_device(problem.device)
            or why_not_dtypes(problem.x_dtype, problem.g_dtype, problem.out_dtype)
            or _why_not_layout(problem)
        )

    def configs(self, problem: SDDMM) -> list[Tiling]:
        fits = [_tiling(problem, block) for block in BLOCKS if _holds(block, problem.layout.block)]
        return [tiling for tiling in fits if tiling is not None]

    def cost(self, problem: SDDMM, config: Tiling) -> Cost:
        itemsize = problem.x_dtype.itemsize
        live = steps(problem.pattern, (config.rows, config.cols), False).count
        stored = stored_size(problem) * problem.out_dtype.itemsize
        if problem.m == 0 or live == 0:
            return Cost(0.0, stored, 1.0, LAUNCH)
        m, k, n = _whole_sizes(problem, config)
        made = live * config.rows * config.cols
        moved = (m * (k + n)) * itemsize + config.splits * made * _partial_dtype(problem, config).itemsize
        moved += padding_bytes((problem.m, problem.k), (m, k), itemsize) + padding_bytes(
            (problem.m, problem.n), (m, n), itemsize
        )
        if not _is_result(problem, config):
            moved += config.splits * made * _partial_dtype(problem, config).itemsize + stored
        items, sms = live * config.splits, num_sms(problem.device)
        busy = items / (math.ceil(items / sms) * sms)
        return Cost(2.0 * m * made, moved, step_efficiency(config, itemsize) * busy, LAUNCH)

    def run(self, problem: SDDMM, config: Tiling, x: jax.Array, g: jax.Array) -> jax.Array:
        pattern = Pattern.of(problem.pattern, (config.rows, config.cols))
        if problem.m == 0 or pattern.nnzb == 0:
            return zeros(problem)
        # Pallas takes a third of a second to import, which no program without a GPU should wait for.
        from .mosaic.sddmm import sddmm

        m, k, n = _whole_sizes(problem, config)
        blocks = sddmm(
            padded(x, (m, k)),
            padded(g, (m, n)),
            pattern,
            tiling=config,
            num_sms=num_sms(problem.device),
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


def _holds(tile: tuple[int, int], block: tuple[int, int] | None) -> bool:
    """Whether a tile is made of whole blocks of the layout."""
    return block is None or all(t % b == 0 for t, b in zip(tile, block, strict=True))


def _tiling(problem: SDDMM, block: tuple[int, int]) -> Tiling | None:
    """The tiling for blocks of this size, split so that every multiprocessor has an item."""
    live = steps(problem.pattern, block, False).count
    wanted = math.ceil(num_sms(problem.device) / max(live, 1))
    splits = max(1, min(wanted, MAX_SPLITS, math.ceil(problem.m / DEPTH)))
    # Partial sums stay in float32.
    out_itemsize = 4 if splits > 1 else problem.out_dtype.itemsize
    return deepest(*block, DEPTH, problem.x_dtype.itemsize, out_itemsize, splits)


def _partial_dtype(problem: SDDMM, config: Tiling) -> np.dtype:
    return np.dtype(np.float32) if config.splits > 1 else problem.out_dtype


def _whole_sizes(problem: SDDMM, config: Tiling) -> tuple[int, int, int]:
    return whole(problem.m, config.splits * config.depth), whole(problem.k, config.rows), whole(problem.n, config.cols)


def _is_result(problem: SDDMM, config: Tiling) -> bool:
    """Whether what the kernel writes is what the layout stores."""
    return config.splits == 1 and problem.layout.block == (config.rows, config.cols)


register(MosaicBsrSDDMM())
