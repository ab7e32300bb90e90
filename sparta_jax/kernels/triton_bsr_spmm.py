"""Block-sparse product on NVIDIA GPUs since Ampere, through Triton: `epilogue(x @ W)`, and `g @ W.T`."""

from __future__ import annotations

import dataclasses
import math

import jax

from ..formats.bsr import BSR
from ..problem import Cost, SpMM
from .gpu import spmm as front
from .gpu.costs import LAUNCH, from_l2, measured, narrow, shallow
from .gpu.sizes import num_sms, whole
from .table import register
from .triton.limits import as_precision, share, why_not_device, why_not_dtypes, why_not_sizes
from .triton.tile import Tile, tile

ROWS = (16, 32, 64, 128)
DENSE_BLOCKS = ((32, 32), (32, 64), (64, 32), (64, 64), (64, 128), (128, 64), (32, 128), (128, 128))
"""`(depth, cols)` of the blocks that a dense weight is read in."""
PACKED_DEPTHS = (32, 64)
PACKED_COLS = (64, 128)
SIDES = (16, 32, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class TritonBsrSpMM:
    """One program per tile of the result, over the live blocks of its column, accumulated in float32.

    A dense weight is read where it lies, a packed one in its own blocks or in parts of them. float32 is rounded to TF32 where
    XLA's own product would do so, and keeps its bits with `precision="highest"`. Sizes that tiles do not divide are padded by
    a copy, and a residual is then added after the kernel. Pallas has announced the end of its Triton backend (jax 0.11).
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
            or front.why_not(problem, SIDES)
        )

    def configs(self, problem: SpMM) -> list[Tile]:
        blocks = front.blocks(problem, DENSE_BLOCKS, PACKED_DEPTHS, PACKED_COLS)
        rows = front.rows(problem.m, ROWS)
        fits = [tile(r, cols, depth, problem.x_dtype.itemsize) for r in rows for depth, cols in blocks]
        return [t for t in fits if t is not None]

    def cost(self, problem: SpMM, config: Tile) -> Cost:
        steps = front.steps_of(problem, config)
        if front.is_zero(problem, steps):
            return Cost(0.0, front.written_bytes(problem), 1.0, LAUNCH)
        programs, sms = whole(problem.m, config.rows) // config.rows * steps.columns, num_sms(problem.device)
        busy = programs / (math.ceil(programs / sms) * sms)
        tensor_cores = share(problem.x_dtype, problem.precision) * narrow(min(config.rows, config.cols))
        reached = min(tensor_cores, from_l2(config.rows, config.cols, problem.x_dtype.itemsize))
        efficiency = reached * shallow(config.depth) * busy
        moved = front.moved_bytes(problem, config, front.fuses_residual(problem, config))
        estimate = Cost(front.flops(problem, config), moved, efficiency, LAUNCH)
        return measured(problem, self.name, estimate, (config.depth, config.cols))

    def run(self, problem: SpMM, config: Tile, x: jax.Array, weight: jax.Array | BSR, *extras: jax.Array) -> jax.Array:
        def kernel(x, w, extras):
            # Pallas takes a third of a second to import, which no program without a GPU should wait for.
            from .triton.spmm import spmm

            return spmm(
                x,
                w,
                extras,
                tile=config,
                steps=front.steps_of(problem, config),
                transposed=problem.transposed,
                activation=problem.epilogue.activation,
                precision=as_precision(problem.x_dtype, problem.precision),
                out_dtype=problem.out_dtype,
            )

        return front.run(problem, config, front.fuses_residual(problem, config), kernel, x, weight, extras)


register(TritonBsrSpMM())
