"""Sampled product on NVIDIA GPUs since Ampere, through Triton: `x.T @ g` at live blocks, a weight's gradient."""

from __future__ import annotations

import dataclasses

import jax

from ..problem import SDDMM, Cost
from .gpu import sddmm as front
from .gpu.costs import LAUNCH, from_l2, measured, narrow
from .table import register
from .triton.limits import as_precision, share, why_not_device, why_not_dtypes, why_not_sizes
from .triton.tile import Tile, tile

BLOCKS = ((32, 32), (32, 64), (64, 32), (64, 64), (64, 128), (128, 64), (128, 128))
DEPTH = 32


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
        m, k, n = problem.m + front.MAX_SPLITS * DEPTH, problem.k + 128, problem.n + 128
        return (
            why_not_device(problem.device)
            or why_not_dtypes(problem.x_dtype, problem.g_dtype, problem.out_dtype)
            or why_not_sizes(m * k, m * n, k * n)
            or front.why_not(problem, BLOCKS)
        )

    def configs(self, problem: SDDMM) -> list[Tile]:
        blocks = front.blocks(problem, BLOCKS)
        fits = [tile(*block, DEPTH, problem.x_dtype.itemsize, front.splits(problem, block, DEPTH)) for block in blocks]
        return [t for t in fits if t is not None]

    def cost(self, problem: SDDMM, config: Tile) -> Cost:
        if front.is_zero(problem, config):
            return Cost(0.0, front.stored_bytes(problem), 1.0, LAUNCH)
        tensor_cores = share(problem.x_dtype, problem.precision) * narrow(min(config.rows, config.cols))
        reached = min(tensor_cores, from_l2(config.rows, config.cols, problem.x_dtype.itemsize))
        efficiency = reached * front.busy(problem, config)
        estimate = Cost(front.flops(problem, config), front.moved_bytes(problem, config), efficiency, LAUNCH)
        return measured(problem, self.name, estimate, (config.rows, config.cols))

    def run(self, problem: SDDMM, config: Tile, x: jax.Array, g: jax.Array) -> jax.Array:
        def kernel(x, g, pattern):
            # Pallas takes a third of a second to import, which no program without a GPU should wait for.
            from .triton.sddmm import sddmm

            precision = as_precision(problem.x_dtype, problem.precision)
            return sddmm(x, g, pattern, tile=config, precision=precision, out_dtype=front.partial_dtype(problem, config.splits))

        return front.run(problem, config, kernel, x, g)


register(TritonBsrSDDMM())
