"""Block-sparse product on NVIDIA Hopper GPUs: `epilogue(x @ W)`, and `g @ W.T` on the transposed lists."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np

from ..formats.bsr import BSR
from ..problem import Cost, SpMM
from .gpu import spmm as front
from .gpu.costs import LAUNCH, measured
from .gpu.sizes import num_sms, whole
from .mosaic import schedule
from .mosaic.limits import why_not_device, why_not_dtypes
from .mosaic.tiling import Tiling, deepest, step_efficiency
from .table import register

ROWS = (64, 128, 256)
FEW_ROWS = (8, 16, 32, 64)
"""Of swapped tiles for a product of no more rows, as in decoding: `wgmma` then reads them along its N, where 8 are enough."""
MANY_ROWS = (256, 512)
NARROW_COLS = 64
"""Of swapped tiles for narrow blocks: the rows are then what `wgmma` reads up to 256 of at once."""
DENSE_BLOCKS = ((32, 32), (32, 64), (64, 32), (32, 128), (64, 64), (64, 128), (64, 256), (128, 64), (128, 128), (128, 256))
"""`(depth, cols)` of the blocks that a dense weight is read in; the finer, the fewer dead elements, the slower."""
PACKED_DEPTHS = (64, 128)
PACKED_COLS = (128, 256)
SIDES = (32, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class MosaicBsrSpMM:
    """Persistent, warp-specialized `wgmma` over the live blocks of each column, accumulated in float32. float32 operands are
    rounded to TF32 where XLA's own product does so; the weight of a forward product is transposed by a copy first.

    A dense weight is read where it lies: only the blocks, of the config's size, that hold a live element are fetched. A packed
    one is read in its own blocks, or in parts of them. For few rows, and for narrow blocks, the transposed tile is made. Rows,
    and sides that the blocks do not divide, are padded by a copy before the kernel. A residual is added in it, but to
    transposed and to padded tiles.
    """

    name: str = "mosaic_bsr_spmm"
    implementation: str = "mosaic"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        return (
            why_not_device(problem.device)
            or why_not_dtypes(problem.x_dtype, problem.w_dtype, problem.out_dtype, problem.precision)
            or front.why_not(problem, SIDES)
        )

    def configs(self, problem: SpMM) -> list[Tiling]:
        itemsizes = problem.x_dtype.itemsize, problem.out_dtype.itemsize
        plain = [(rows, False) for rows in front.rows(problem.m, ROWS)]
        fits = [
            deepest(rows, cols, depth, *itemsizes, swapped=swapped)
            for depth, cols in front.blocks(problem, DENSE_BLOCKS, PACKED_DEPTHS, PACKED_COLS)
            for rows, swapped in [*plain, *_swapped_rows(problem.m, cols)]
        ]
        return [tiling for tiling in fits if tiling is not None]

    def cost(self, problem: SpMM, config: Tiling) -> Cost:
        steps = front.steps_of(problem, config)
        if front.is_zero(problem, steps):
            return Cost(0.0, front.written_bytes(problem), 1.0, LAUNCH)
        tiles = _tiles(problem, config)
        done = steps.count * config.depth * whole(problem.m, config.rows) // config.rows
        efficiency = step_efficiency(config, problem.x_dtype.itemsize) * done / (num_sms(problem.device) * tiles.makespan)
        moved = front.moved_bytes(problem, config, _fuses_residual(problem, config))
        estimate = Cost(front.flops(problem, config), moved, efficiency, LAUNCH, _turning_bytes(problem))
        return measured(problem, self.name, estimate, (config.depth, config.cols))

    def run(self, problem: SpMM, config: Tiling, x: jax.Array, weight: jax.Array | BSR, *extras: jax.Array) -> jax.Array:
        def kernel(x, w, extras):
            # Pallas takes a third of a second to import, which no program without a GPU should wait for.
            from .mosaic.spmm import spmm

            return spmm(
                x,
                w,
                extras,
                tiling=config,
                steps=front.steps_of(problem, config),
                tiles=_tiles(problem, config),
                transposed=problem.transposed,
                activation=problem.epilogue.activation,
                out_dtype=problem.out_dtype,
            )

        return front.run(problem, config, _fuses_residual(problem, config), kernel, x, weight, extras)


def _swapped_rows(m: int, cols: int) -> list[tuple[int, bool]]:
    """The candidates for the rows of a swapped tile, where that may pay: the fewest that hold few rows, or many of narrow
    blocks, whose rows the consumers share."""
    if cols % NARROW_COLS:
        return []
    if m <= FEW_ROWS[-1]:
        return [(next(rows for rows in FEW_ROWS if rows >= m and not (cols == NARROW_COLS and rows == FEW_ROWS[0])), True)]
    return [(rows, True) for rows in MANY_ROWS if cols == NARROW_COLS and rows <= whole(m, MANY_ROWS[0])]


def _turning_bytes(problem: SpMM) -> float:
    """What transposing a float32 weight moves, whose contracted axis must be its last (see `mosaic.spmm.spmm`)."""
    if problem.x_dtype != np.float32 or problem.transposed:
        return 0.0
    block = problem.layout.block
    size = problem.k * problem.n if block is None else problem.pattern.nnzb(block) * math.prod(block)
    return 2.0 * size * problem.w_dtype.itemsize


def _fuses_residual(problem: SpMM, config: Tiling) -> bool:
    """Whether a residual is added in the kernel: not in a transposed tile, whose rows no thread reads in order."""
    return not config.swapped and front.fuses_residual(problem, config)


def _tiles(problem: SpMM, config: Tiling) -> schedule.Tiles:
    rows = whole(problem.m, config.rows) // config.rows
    return schedule.tiles(front.steps_of(problem, config), config.depth, rows, num_sms(problem.device))


register(MosaicBsrSpMM())
