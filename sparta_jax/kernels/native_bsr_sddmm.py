"""Block SDDMM on CPUs by the native library: the gradient of a weight at its live blocks."""

from __future__ import annotations

import dataclasses

import jax

from ..problem import DENSE, SDDMM, Cost
from . import native
from .dense import masked
from .native_bsr_spmm import (
    CALL_SECONDS,
    Block,
    blocks_for,
    is_exact,
    live_blocks,
    pack_bytes,
    pattern_of,
    share_with,
    why_not_native,
)
from .table import register


@dataclasses.dataclass(frozen=True)
class NativeBsrSDDMM:
    """One small dense product of packed panels of x and g per live block; always full float32."""

    name: str = "native_bsr_sddmm"
    implementation: str = "native"
    problem: type = SDDMM

    def why_not(self, problem: SDDMM) -> str | None:
        return why_not_native(problem, problem.x_dtype, problem.g_dtype, problem.out_dtype)

    def configs(self, problem: SDDMM) -> list[Block]:
        return blocks_for(problem)

    def cost(self, problem: SDDMM, config: Block) -> Cost:
        m, k, n = problem.m, problem.k, problem.n
        nnzb = live_blocks(problem.pattern, config.shape)
        weight = nnzb * config.br * config.bc
        flops = 2.0 * m * weight
        moved = 4.0 * (weight + m * (k + n))
        unpacking = pack_bytes(nnzb, config.shape) + 4.0 * k * n if problem.layout == DENSE else 0.0
        return Cost(flops, moved, sddmm_efficiency(problem, config.shape, flops), 2 * CALL_SECONDS, unpacking)

    def run(self, problem: SDDMM, config: Block, x: jax.Array, g: jax.Array) -> jax.Array:
        pattern = pattern_of(problem.pattern, config.shape)
        blocks = native.sddmm(x, g, pattern.indptr, pattern.indices, config.shape)
        if problem.layout != DENSE:
            return blocks
        w = native.unpack(blocks, pattern.indptr, pattern.indices, problem.pattern.shape)
        return w if is_exact(problem.pattern, config.shape) else masked(w, problem.pattern)


def sddmm_efficiency(problem: SDDMM, block: tuple[int, int], flops: float) -> float:
    """The share of the FMA peak that `flops` of the product reach, with packing x and g around it.

    Measured with AVX-512 on Zen 5, one thread, data in cache."""
    panels = 20.0 * problem.m * (problem.k + problem.n)
    if block[1] % 16 == 0:
        share = 0.4 if block[0] < 4 else 0.95 if block[1] % 32 == 0 else 0.8
        return share_with(flops, share, panels)
    across_lanes = 340.0 * flops / (2 * max(problem.m, 1))  # adding up each element's partial sums
    return share_with(flops, 0.45 if min(block) >= 4 else 0.3, panels + across_lanes)


register(NativeBsrSDDMM())
