"""Block SDDMM on CPUs by the native library: the gradient of a weight at its live blocks."""

from __future__ import annotations

import dataclasses

import jax

from ..problem import DENSE, SDDMM, Cost
from . import native
from .curves import sparse_cost
from .dense import masked
from .native_bsr_spmm import Block, blocks_for, is_exact, pattern_of, why_not_native
from .table import register


@dataclasses.dataclass(frozen=True)
class NativeBsrSDDMM:
    """One small dense product of packed panels of x and g per live block; always full float32, or float64
    where the operands are."""

    name: str = "native_bsr_sddmm"
    implementation: str = "native"
    problem: type = SDDMM

    def why_not(self, problem: SDDMM) -> str | None:
        return why_not_native(problem, problem.x_dtype, problem.g_dtype, problem.out_dtype)

    def configs(self, problem: SDDMM) -> list[Block]:
        return blocks_for(problem)

    def cost(self, problem: SDDMM, config: Block) -> Cost:
        return sparse_cost(problem, self.name, config.shape)

    def run(self, problem: SDDMM, config: Block, x: jax.Array, g: jax.Array) -> jax.Array:
        pattern = pattern_of(problem.pattern, config.shape)
        blocks = native.sddmm(x, g, pattern.indptr, pattern.indices, config.shape, problem.out_dtype)
        if problem.layout != DENSE:
            return blocks
        w = native.unpack(blocks, pattern.indptr, pattern.indices, problem.pattern.shape)
        return w if is_exact(problem.pattern, config.shape) else masked(w, problem.pattern)


register(NativeBsrSDDMM())
