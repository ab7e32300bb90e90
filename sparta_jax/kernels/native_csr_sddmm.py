"""Sampled products on CPUs by the native library: the gradient of a weight at its single live elements."""

from __future__ import annotations

import dataclasses

import jax

from ..problem import CSR_LAYOUT, DENSE, SDDMM, Cost
from ..stored import pattern_of
from . import native_csr
from .curves import sparse_cost
from .native_csr_spmm import Elements, why_not_csr
from .table import register


@dataclasses.dataclass(frozen=True)
class NativeCsrSDDMM:
    """A dot product of a column of x and one of g, which stays in registers, for each live element."""

    name: str = "native_csr_sddmm"
    implementation: str = "native"
    problem: type = SDDMM

    def why_not(self, problem: SDDMM) -> str | None:
        return why_not_csr(problem, problem.x_dtype, problem.g_dtype, problem.out_dtype)

    def configs(self, problem: SDDMM) -> list[Elements]:
        return [Elements()]

    def cost(self, problem: SDDMM, config: Elements) -> Cost:
        return sparse_cost(problem, self.name)

    def run(self, problem: SDDMM, config: Elements, x: jax.Array, g: jax.Array) -> jax.Array:
        pattern = pattern_of(problem.pattern, CSR_LAYOUT)
        values = native_csr.sddmm(x, g, pattern.indptr, pattern.indices)
        if problem.layout == DENSE:
            return native_csr.unpack(values, pattern.indptr, pattern.indices, problem.pattern.shape)
        return values


register(NativeCsrSDDMM())
