"""What the native kernels for single live elements take, as shares of a CPU's peak (measured, one thread of an AMD Zen 4)."""

from __future__ import annotations

from ..problem import DENSE, SDDMM, Cost, SpMM
from .native_csr import compute_bytes

CALL_SECONDS = 2e-6  # dispatch of one foreign call, threads woken
VECTOR_ROWS = 16
SHARES = {"spmm": 0.55, "transposed": 0.28, "sddmm": 0.35}  # of the FMA peak, in the loops over elements
ROW_SECONDS = 0.35e-9  # an element of W for one row of x
AROUND = 40.0  # operations at full peak in whose time an element of x is packed, or one of y is turned back and written
PACKED_BYTES = 60.0  # moved in the time that it takes to fetch an element from a dense weight, or to put it there


def spmm_cost(problem: SpMM) -> Cost:
    m, nnz = problem.m, problem.pattern.nnz
    seconds = CALL_SECONDS + (ROW_SECONDS * nnz / max(problem.device.cores, 1) if m == 1 else 0.0)
    packing = PACKED_BYTES * nnz if problem.layout == DENSE else 0.0
    if m <= 1:
        return Cost(0.0, 8.0 * nnz, 1.0, seconds, packing)
    rows = 4 if m <= 4 else 8 if m <= 8 else -(-m // VECTOR_ROWS) * VECTOR_ROWS
    lanes = max(1.0, VECTOR_ROWS / rows) * compute_bytes(problem.x_dtype) / 4  # what is left idle in a vector
    share = SHARES["transposed" if problem.transposed else "spmm"]
    around = AROUND * m * (problem.k + problem.n * (3 if problem.epilogue.activation not in (None, "relu") else 1))
    return _cost(2.0 * rows * nnz * lanes, share, around, seconds, packing)


def sddmm_cost(problem: SDDMM) -> Cost:
    nnz = problem.pattern.nnz
    rows = -(-problem.m // VECTOR_ROWS) * VECTOR_ROWS
    packing = PACKED_BYTES * nnz + 4.0 * problem.k * problem.n if problem.layout == DENSE else 0.0
    flops = (2.0 * rows + 60.0) * nnz * compute_bytes(problem.x_dtype) / 4
    return _cost(flops, SHARES["sddmm"], AROUND * rows * (problem.k + problem.n), 2 * CALL_SECONDS, packing)


def _cost(flops: float, share: float, around: float, seconds: float, packing: float) -> Cost:
    """`flops` at a `share` of the peak, and as much time as `around` operations take at full peak."""
    total = flops / share + around
    return Cost(total, 0.0, 1.0, seconds, packing)
