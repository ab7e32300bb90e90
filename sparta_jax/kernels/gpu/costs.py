"""What products take on GPUs: estimates, and what was measured in their place where the device has a table."""

from __future__ import annotations

import functools

from ...machine.gpu import BANDWIDTH, PEAK, gpu
from ...problem import SDDMM, Cost, Device, SpMM
from ...tesa import TeSA

# Estimates, not measurements of these kernels: dense products reach 0.8 of their arithmetic's peak (published for Hopper),
# which is half of bfloat16's for TF32, a fifteenth for float32 (data sheet); the bandwidth from L2 to shared memory and the
# losses on narrow tiles and shallow steps are assumed, these in proportion below the smallest that is named.
LAUNCH = 4e-6
L2_BANDWIDTH = 7.5e12
DENSE_EFFICIENCY = {"bfloat16": 0.8, "tf32": 0.4, "float32": 0.055, "float64": 0.055}
NARROW = {32: 0.62, 64: 0.92}
SHALLOW = {32: 0.85}


def narrow(side: int) -> float:
    """The share of a large tile's rate that one with this shorter side reaches."""
    return _share(NARROW, side)


def shallow(depth: int) -> float:
    """The share of a deep step's rate that one of this depth reaches."""
    return _share(SHALLOW, depth)


def from_l2(rows: int, cols: int, itemsize: int) -> float:
    """The share of the peak that the way from L2 allows a tile of this size, which fetches both operands in every step."""
    flops_per_byte = 2 * rows * cols / ((rows + cols) * itemsize)
    return flops_per_byte * L2_BANDWIDTH / PEAK


def _share(shares: dict[int, float], size: int) -> float:
    least = min(shares)
    return shares[least] * size / least if size < least else shares.get(size, 1.0)


def measured(problem: SpMM | SDDMM, kernel: str, estimate: Cost, block: tuple[int, int]) -> Cost:
    """The estimate for a sparse kernel that reads blocks of this size, corrected by what was measured on the device; no less
    than dense where the density is above the measured break-even, for any kernel. Without a table: the estimate."""
    factor, past = _factor(problem, kernel, min(block)), past_break_even(problem)
    if factor is None and not past:
        return estimate
    seconds = (factor or 1.0) * _body(estimate)
    return _taking(estimate, max(seconds, _body(dense_cost(problem))) if past else seconds)


def past_break_even(problem: SpMM | SDDMM) -> bool:
    """Whether the weight's live blocks are too many, in blocks of every size that was measured."""
    table = gpu(problem.device.kind)
    limits = {} if table is None else table.limits(_product(problem), _dtype(problem), problem.m)
    return bool(limits) and all(_live(problem.pattern, block) > most for block, most in limits.items())


def dense_cost(problem: SpMM | SDDMM) -> Cost:
    """XLA's own product of a dense weight, without an epilogue, as measured where it was."""
    xs, weights, ys = problem.m * problem.k, problem.k * problem.n, problem.m * problem.n
    if isinstance(problem, SDDMM):
        moved = xs * problem.x_dtype.itemsize + ys * problem.g_dtype.itemsize + 2 * weights * problem.out_dtype.itemsize
    else:
        moved = xs * problem.x_dtype.itemsize + weights * problem.w_dtype.itemsize + ys * problem.out_dtype.itemsize
    estimate = Cost(2.0 * problem.m * problem.k * problem.n, moved, dense_efficiency(problem), LAUNCH)
    factor = _factor(problem, "dense_sddmm" if isinstance(problem, SDDMM) else "dense_spmm", 0)
    return estimate if factor is None else _taking(estimate, factor * _body(estimate))


def dense_efficiency(problem: SpMM | SDDMM) -> float:
    """The share of the device's bfloat16 peak that XLA's own dense product reaches, by estimate."""
    common = DENSE_EFFICIENCY["bfloat16"]
    return DENSE_EFFICIENCY.get(_dtype(problem), common) if problem.device.platform == "cuda" else common


def why_estimated(device: Device) -> str | None:
    """A phrase where modelled times on a device are no measurements."""
    if device.platform == "cpu" or gpu(device.kind) is not None:
        return None
    return f"estimated, not measured on {'this device' if not device.kind else device.kind}"


def _factor(problem: SpMM | SDDMM, kernel: str, side: int) -> float | None:
    table = gpu(problem.device.kind)
    return None if table is None else table.factor(kernel, _dtype(problem), problem.m, side)


def _product(problem: SpMM | SDDMM) -> str:
    return "dw" if isinstance(problem, SDDMM) else "dx" if problem.transposed else "forward"


def _dtype(problem: SpMM | SDDMM) -> str:
    """The arithmetic: float32 is rounded to TF32 unless more is asked for; the 16-bit dtypes are alike."""
    name = problem.x_dtype.name
    if name == "float32" and problem.precision != "highest":
        return "tf32"
    return "bfloat16" if name == "float16" else name


def _body(cost: Cost) -> float:
    """The modelled seconds of a cost, but for packing."""
    arithmetic = cost.flops / (cost.efficiency * PEAK)
    return max(arithmetic, cost.bytes / BANDWIDTH) + cost.seconds


def _taking(cost: Cost, seconds: float) -> Cost:
    """The same work in as many seconds, besides packing."""
    if not cost.flops:
        return Cost(0.0, 0.0, 1.0, seconds, cost.packing)
    return Cost(cost.flops, 0.0, cost.flops / (seconds * PEAK), 0.0, cost.packing)


@functools.lru_cache(maxsize=4096)
def _live(tesa: TeSA, block: tuple[int, int]) -> float:
    """The share of these blocks that hold a live element."""
    cells = tesa.block_mask(block)
    return float(cells.mean()) if cells.size else 0.0
