"""CSR SpMM on CPUs by the native library: weights with single live elements, forward and transposed, the epilogue fused."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from ..formats.csr import CSR
from ..problem import CSR_LAYOUT, DENSE, SDDMM, Cost, SpMM
from ..stored import pattern_of
from . import native, native_csr
from .curves import sparse_cost
from .native_epilogue import why_not_epilogue, with_epilogue
from .table import register


@dataclasses.dataclass(frozen=True)
class Elements:
    """The one config: the rows in a panel follow from the sizes."""

    def __str__(self) -> str:
        return "elements"


def why_not_csr(problem: SpMM | SDDMM, *dtypes: np.dtype) -> str | None:
    """What keeps the native kernels for elements from `problem`: platform, library, dtypes, layout."""
    if (why := native.why_not_device(problem.device)) is not None:
        return why
    if len(set(dtypes)) > 1 or dtypes[0] not in native_csr.DTYPES:
        return "needs operands and result of one floating dtype, got " + ", ".join(map(str, dtypes))
    if problem.layout not in (DENSE, CSR_LAYOUT):
        return f"cannot read {problem.layout}"
    return None


@dataclasses.dataclass(frozen=True)
class NativeCsrSpMM:
    """Panels of x turned so that vectors run over rows; a live element costs one load and one multiply-add per vector. Sums are
    in float32, in float64 for float64."""

    name: str = "native_csr_spmm"
    implementation: str = "native"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        why = why_not_csr(problem, problem.x_dtype, problem.w_dtype, problem.out_dtype)
        return why or why_not_epilogue(problem.epilogue)

    def configs(self, problem: SpMM) -> list[Elements]:
        return [Elements()]

    def cost(self, problem: SpMM, config: Elements) -> Cost:
        return sparse_cost(problem, self.name)

    def run(self, problem: SpMM, config: Elements, x: jax.Array, weight: jax.Array | CSR, *extras: jax.Array) -> jax.Array:
        if isinstance(weight, CSR):
            values, indptr, indices = weight.values, weight.indptr, weight.indices
        else:
            pattern = pattern_of(problem.pattern, CSR_LAYOUT)
            indptr, indices = pattern.indptr, pattern.indices
            values = native_csr.pack(weight, indptr, indices)
        product = functools.partial(
            native_csr.spmm,
            x,
            values,
            indptr,
            indices,
            problem.n,
            threads=problem.device.cores,
            transposed=problem.transposed,
        )
        return with_epilogue(product, problem.epilogue, extras)


register(NativeCsrSpMM())
