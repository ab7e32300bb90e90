"""Block-sparse product on NVIDIA Hopper GPUs: `epilogue(x @ W)`, and `g @ W.T` on the transposed lists."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp

from ..formats.bsr import BSR
from ..problem import DENSE, Cost, Epilogue, SpMM
from ..products import apply_epilogue
from .mosaic import schedule
from .mosaic.limits import num_sms, padded, padding_bytes, whole, why_not_device, why_not_dtypes
from .mosaic.tiling import LAUNCH, Tiling, deepest, step_efficiency
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
ACTIVATIONS = ("relu", "gelu_tanh", "gelu_erf", "silu", "tanh", "sigmoid")


@dataclasses.dataclass(frozen=True)
class MosaicBsrSpMM:
    """Persistent, warp-specialized `wgmma` over the live blocks of each column, accumulated in float32.

    A dense weight is read where it lies: only the blocks, of the config's size, that hold a live element are fetched. A packed
    one is read in its own blocks, or in parts of them. For few rows, and for narrow blocks, the transposed tile is made. Rows,
    and sides that the blocks do not divide, are padded by a copy before the kernel; a residual is added after it.
    """

    name: str = "mosaic_bsr_spmm"
    implementation: str = "mosaic"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        return (
            why_not_device(problem.device)
            or why_not_dtypes(problem.x_dtype, problem.w_dtype, problem.out_dtype)
            or _why_not_layout(problem)
            or _why_not_epilogue(problem.epilogue)
        )

    def configs(self, problem: SpMM) -> list[Tiling]:
        itemsizes = problem.x_dtype.itemsize, problem.out_dtype.itemsize
        fits = [
            deepest(rows, cols, depth, *itemsizes, swapped=swapped)
            for depth, cols in _blocks(problem)
            for rows, swapped in [*_rows(problem.m), *_swapped_rows(problem.m, cols)]
        ]
        return [tiling for tiling in fits if tiling is not None]

    def cost(self, problem: SpMM, config: Tiling) -> Cost:
        x_itemsize = problem.x_dtype.itemsize
        steps = _steps(problem, config)
        written = problem.m * problem.n * problem.out_dtype.itemsize * (3 if problem.epilogue.residual else 1)
        if _is_zero(problem, steps):
            return Cost(0.0, written, 1.0, LAUNCH)
        tiles = _tiles(problem, config, steps)
        m, k, n = _whole_sizes(problem, config)
        live = steps.count * config.depth * config.cols
        moved = (m * k + live) * x_itemsize + written
        moved += padding_bytes((problem.m, problem.k), (m, k), x_itemsize)
        moved += padding_bytes((problem.m, problem.n), (m, n), problem.out_dtype.itemsize)
        if problem.layout == DENSE:
            moved += padding_bytes((problem.k, problem.n), (k, n), x_itemsize)
        busy = steps.count * config.depth * (m // config.rows) / (num_sms(problem.device) * tiles.makespan)
        return Cost(2.0 * m * live, moved, step_efficiency(config, x_itemsize) * busy, LAUNCH)

    def run(self, problem: SpMM, config: Tiling, x: jax.Array, weight: jax.Array | BSR, *extras: jax.Array) -> jax.Array:
        steps = _steps(problem, config)
        if _is_zero(problem, steps):
            return apply_epilogue(problem.epilogue, jnp.zeros((problem.m, problem.n), problem.out_dtype), *extras)
        # Pallas takes a third of a second to import, which no program without a GPU should wait for.
        from .mosaic.spmm import spmm

        m, k, n = _whole_sizes(problem, config)
        stored = (n, k) if problem.transposed else (k, n)
        y = spmm(
            padded(x, (m, k)),
            weight.blocks if isinstance(weight, BSR) else padded(weight, stored),
            jnp.pad(extras[0], (0, n - problem.n)) if problem.epilogue.bias else None,
            tiling=config,
            steps=steps,
            tiles=_tiles(problem, config, steps),
            transposed=problem.transposed,
            activation=problem.epilogue.activation,
            out_dtype=problem.out_dtype,
        )
        return apply_epilogue(Epilogue(residual=problem.epilogue.residual), y[: problem.m, : problem.n], *extras[-1:])


def _why_not_layout(problem: SpMM) -> str | None:
    layout = problem.layout
    if layout == DENSE:
        return None
    if layout.format != "bsr" or layout.block is None:
        return f"reads dense and bsr weights, not {layout}"
    if any(side not in SIDES for side in layout.block):
        return f"reads blocks with sides {', '.join(map(str, SIDES))}, not {layout.block}"
    return None


def _why_not_epilogue(epilogue: Epilogue) -> str | None:
    if epilogue.activation is None or epilogue.activation in ACTIVATIONS:
        return None
    return f"has no activation {epilogue.activation}"


def _rows(m: int) -> list[tuple[int, bool]]:
    """The candidates for the rows of a tile: the two tallest that `m` rows fill."""
    return [(rows, False) for rows in ROWS if rows <= whole(max(m, 1), ROWS[0])][-2:]


def _swapped_rows(m: int, cols: int) -> list[tuple[int, bool]]:
    """The candidates for the rows of a swapped tile, where that may pay: the fewest that hold few rows, or many of narrow
    blocks, whose rows the consumers share."""
    if cols % NARROW_COLS:
        return []
    if m <= FEW_ROWS[-1]:
        return [(next(rows for rows in FEW_ROWS if rows >= m and not (cols == NARROW_COLS and rows == FEW_ROWS[0])), True)]
    return [(rows, True) for rows in MANY_ROWS if cols == NARROW_COLS and rows <= whole(m, MANY_ROWS[0])]


def _blocks(problem: SpMM) -> list[tuple[int, int]]:
    """The candidates for `(depth, cols)`."""
    if problem.layout.block is None:
        return list(DENSE_BLOCKS)
    contracted, out = schedule.sides(problem.layout.block, problem.transposed)
    return list(itertools.product(_parts(contracted, PACKED_DEPTHS), _parts(out, PACKED_COLS)))


def _parts(side: int, sizes: tuple[int, ...]) -> list[int]:
    """The sizes that divide a side of a packed block, or the side itself."""
    return [size for size in sizes if side % size == 0] or [side]


def _steps(problem: SpMM, config: Tiling) -> schedule.Steps:
    return schedule.of_layout(problem.pattern, problem.layout.block, problem.transposed, (config.depth, config.cols))


def _tiles(problem: SpMM, config: Tiling, steps: schedule.Steps) -> schedule.Tiles:
    return schedule.tiles(steps, config.depth, whole(problem.m, config.rows) // config.rows, num_sms(problem.device))


def _is_zero(problem: SpMM, steps: schedule.Steps) -> bool:
    """Whether nothing is to be multiplied: Pallas takes neither empty lists nor empty results."""
    return problem.m == 0 or steps.count == 0


def _whole_sizes(problem: SpMM, config: Tiling) -> tuple[int, int, int]:
    """The padded `m, k, n`: whole tiles, and whole blocks of a packed weight."""
    block = problem.layout.block
    depth, cols = schedule.sides(block, problem.transposed) if block else (config.depth, config.cols)
    return whole(problem.m, config.rows), whole(problem.k, depth), whole(problem.n, cols)


register(MosaicBsrSpMM())
