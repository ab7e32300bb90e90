"""Sampled product on NVIDIA Hopper GPUs: `x.T @ g` at live blocks, the gradient of a block-sparse weight."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from ..problem import SDDMM, Cost
from .gpu import sddmm as front
from .gpu.costs import LAUNCH, measured
from .gpu.sizes import num_sms
from .mosaic.limits import why_not_device, why_not_dtypes
from .mosaic.tiling import Tiling, deepest, step_efficiency
from .table import register

BLOCKS = ((64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
DEPTH = 64


@dataclasses.dataclass(frozen=True)
class MosaicBsrSDDMM:
    """One persistent, warp-specialized `wgmma` product per live block of the config's size, accumulated in float32. float32
    operands are rounded to TF32 where XLA's own product does so, and transposed by a copy first.

    The config's blocks may be larger than the layout's; what the layout stores is cut out after. Where live blocks are fewer
    than multiprocessors, the rows are split and the parts summed. Sizes that the blocks do not divide are padded by a copy.
    """

    name: str = "mosaic_bsr_sddmm"
    implementation: str = "mosaic"
    problem: type = SDDMM

    def why_not(self, problem: SDDMM) -> str | None:
        return (
            why_not_device(problem.device)
            or why_not_dtypes(problem.x_dtype, problem.g_dtype, problem.out_dtype, problem.precision)
            or front.why_not(problem, BLOCKS)
        )

    def configs(self, problem: SDDMM) -> list[Tiling]:
        fits = [_tiling(problem, block) for block in front.blocks(problem, BLOCKS)]
        return [tiling for tiling in fits if tiling is not None]

    def cost(self, problem: SDDMM, config: Tiling) -> Cost:
        if front.is_zero(problem, config):
            return Cost(0.0, front.stored_bytes(problem), 1.0, LAUNCH)
        efficiency = step_efficiency(config, problem.x_dtype.itemsize) * front.busy(problem, config)
        turning = 2.0 * problem.m * (problem.k + problem.n) * 4 if problem.x_dtype == np.float32 else 0.0
        estimate = Cost(front.flops(problem, config), front.moved_bytes(problem, config), efficiency, LAUNCH, turning)
        return measured(problem, self.name, estimate, (config.rows, config.cols))

    def run(self, problem: SDDMM, config: Tiling, x: jax.Array, g: jax.Array) -> jax.Array:
        def kernel(x, g, pattern):
            # Pallas takes a third of a second to import, which no program without a GPU should wait for.
            from .mosaic.sddmm import sddmm

            out_dtype = front.partial_dtype(problem, config.splits)
            return sddmm(x, g, pattern, tiling=config, num_sms=num_sms(problem.device), out_dtype=out_dtype)

        return front.run(problem, config, kernel, x, g)


def _tiling(problem: SDDMM, block: tuple[int, int]) -> Tiling | None:
    """The tiling for blocks of this size, split so that every multiprocessor has an item."""
    splits = front.splits(problem, block, DEPTH)
    return deepest(*block, DEPTH, problem.x_dtype.itemsize, front.partial_dtype(problem, splits).itemsize, splits)


register(MosaicBsrSDDMM())
