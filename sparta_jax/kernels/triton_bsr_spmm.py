"""Block-sparse product on NVIDIA GPUs since Ampere, through Triton: `epilogue(x @ W)`, and `g @ W.T`."""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp

from ..formats.bsr import BSR
from ..problem import DENSE, Cost, Epilogue, SpMM
from ..products import apply_epilogue
from .mosaic import schedule
from .mosaic.limits import num_sms, padded, padding_bytes, whole
from .mosaic.tiling import LAUNCH, NARROW, SHALLOW
from .table import register
from .triton.limits import as_precision, share, why_not_device, why_not_dtypes, why_not_sizes
from .triton.tile import Tile, tile

ROWS = (16, 32, 64, 128)
DENSE_BLOCKS = ((32, 32), (32, 64), (64, 32), (64, 64), (64, 128), (128, 64), (32, 128), (128, 128))
"""`(depth, cols)` of the blocks that a dense weight is read in."""
PACKED_DEPTHS = (32, 64)
PACKED_COLS = (64, 128)
SIDES = (16, 32, 64, 128, 256)
ACTIVATIONS = ("relu", "gelu_tanh", "gelu_erf", "silu", "tanh", "sigmoid")


@dataclasses.dataclass(frozen=True)
class TritonBsrSpMM:
    """One program per tile of the result, over the live blocks of its column, accumulated in float32.

    A dense weight is read where it lies, a packed one in its own blocks or in parts of them. float32 is rounded to TF32 where
    XLA's own product would do so, and keeps its bits with `precision="highest"`. Sizes that tiles do not divide are padded by
    a copy; a residual is added after the kernel. Pallas has announced the end of its Triton backend (jax 0.11).
    """

    name: str = "triton_bsr_spmm"
    implementation: str = "triton"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        m, k, n = problem.m + ROWS[-1], problem.k + SIDES[-1], problem.n + SIDES[-1]
        return (
            why_not_device(problem.device)
            or why_not_dtypes(problem.x_dtype, problem.w_dtype, problem.out_dtype)
            or why_not_sizes(m * k, k * n, m * n)
            or _why_not_layout(problem)
            or _why_not_epilogue(problem.epilogue)
        )

    def configs(self, problem: SpMM) -> list[Tile]:
        fits = [tile(r, cols, depth, problem.x_dtype.itemsize) for r in _rows(problem.m) for depth, cols in _blocks(problem)]
        return [t for t in fits if t is not None]

    def cost(self, problem: SpMM, config: Tile) -> Cost:
        itemsize = problem.x_dtype.itemsize
        steps = _steps(problem, config)
        written = problem.m * problem.n * problem.out_dtype.itemsize * (3 if problem.epilogue.residual else 1)
        if _is_zero(problem, steps):
            return Cost(0.0, written, 1.0, LAUNCH)
        m, k, n = _whole_sizes(problem, config)
        live = steps.count * config.depth * config.cols
        moved = (m * k + live) * itemsize + written
        moved += padding_bytes((problem.m, problem.k), (m, k), itemsize)
        moved += padding_bytes((problem.m, problem.n), (m, n), problem.out_dtype.itemsize)
        if problem.layout == DENSE:
            moved += padding_bytes((problem.k, problem.n), (k, n), itemsize)
        programs, sms = (m // config.rows) * steps.columns, num_sms(problem.device)
        busy = programs / (math.ceil(programs / sms) * sms)
        narrow = NARROW.get(min(config.rows, config.cols), 1.0) * SHALLOW.get(config.depth, 1.0)
        return Cost(2.0 * m * live, moved, share(problem.x_dtype, problem.precision) * narrow * busy, LAUNCH)

    def run(self, problem: SpMM, config: Tile, x: jax.Array, weight: jax.Array | BSR, *extras: jax.Array) -> jax.Array:
        steps = _steps(problem, config)
        if _is_zero(problem, steps):
            return apply_epilogue(problem.epilogue, jnp.zeros((problem.m, problem.n), problem.out_dtype), *extras)
        # Pallas takes a third of a second to import, which no program without a GPU should wait for.
        from .triton.spmm import spmm

        m, k, n = _whole_sizes(problem, config)
        stored = (n, k) if problem.transposed else (k, n)
        y = spmm(
            padded(x, (m, k)),
            weight.blocks if isinstance(weight, BSR) else padded(weight, stored),
            jnp.pad(extras[0], (0, n - problem.n)) if problem.epilogue.bias else None,
            tile=config,
            steps=steps,
            transposed=problem.transposed,
            activation=problem.epilogue.activation,
            precision=as_precision(problem.x_dtype, problem.precision),
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


def _rows(m: int) -> list[int]:
    """The candidates for the rows of a tile: the two tallest that `m` rows fill."""
    return [rows for rows in ROWS if rows <= whole(max(m, 1), ROWS[0])][-2:]


def _blocks(problem: SpMM) -> list[tuple[int, int]]:
    """The candidates for `(depth, cols)`."""
    if problem.layout.block is None:
        return list(DENSE_BLOCKS)
    contracted, out = schedule.sides(problem.layout.block, problem.transposed)
    return list(itertools.product(_parts(contracted, PACKED_DEPTHS), _parts(out, PACKED_COLS)))


def _parts(side: int, sizes: tuple[int, ...]) -> list[int]:
    """The sizes that divide a side of a packed block, or the side itself."""
    return [size for size in sizes if side % size == 0] or [side]


def _steps(problem: SpMM, config: Tile) -> schedule.Steps:
    return schedule.of_layout(problem.pattern, problem.layout.block, problem.transposed, (config.depth, config.cols))


def _is_zero(problem: SpMM, steps: schedule.Steps) -> bool:
    """Whether nothing is to be multiplied: Pallas takes neither empty lists nor empty results."""
    return problem.m == 0 or steps.count == 0


def _whole_sizes(problem: SpMM, config: Tile) -> tuple[int, int, int]:
    """The padded `m, k, n`: whole tiles, and whole blocks of a packed weight."""
    block = problem.layout.block
    depth, cols = schedule.sides(block, problem.transposed) if block else (config.depth, config.cols)
    return whole(problem.m, config.rows), whole(problem.k, depth), whole(problem.n, cols)


register(TritonBsrSpMM())
