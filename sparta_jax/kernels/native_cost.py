"""What the native block kernels take on a CPU, modelled."""

from __future__ import annotations

import functools

from ..problem import DENSE, SDDMM, Cost, SpMM
from ..tesa import TeSA

CALL_SECONDS = 2e-6  # dispatch of one foreign call, threads woken


@functools.lru_cache(maxsize=4096)
def live_blocks(tesa: TeSA, block: tuple[int, int]) -> int:
    return tesa.nnzb(block)


def spmm_cost(problem: SpMM, block: tuple[int, int]) -> Cost:
    m, k, n = problem.m, problem.k, problem.n
    nnzb = live_blocks(problem.pattern, block)
    weight = nnzb * block[0] * block[1]
    flops = 2.0 * m * weight
    moved = 4.0 * (weight + m * (k + n)) + (4.0 * m * n if problem.epilogue.residual else 0)
    packing = pack_bytes(nnzb, block) if problem.layout == DENSE else 0.0
    if problem.layout == DENSE and m == 1:
        packing += 8.0 * k * n  # the masked weight is written out; XLA's own matrix-vector product masks as it reads
    return Cost(flops, moved, spmm_efficiency(problem, block, flops), CALL_SECONDS, packing)


def spmm_efficiency(problem: SpMM, block: tuple[int, int], flops: float) -> float:
    """The share of the FMA peak that `flops` of the product reach, with packing x and finishing y around it.

    Measured with AVX-512 on Zen 5, one thread, data in cache."""
    m, k, n = problem.m, problem.k, problem.n
    rows, cols = block[::-1] if problem.transposed else block
    if m <= 1:
        wide = 0.1 if problem.transposed else 0.18 if cols >= 16 else 0.05
        return 0.02 if min(block) < 8 else wide
    along_n = not problem.transposed and rows % 16 == 0 and cols % 16 == 0
    if along_n:
        share = (0.95 if cols % 32 == 0 else 0.77) * min(1.0, m / 4)
        around = 16 * k + 8 * n
    else:
        thin = 0.46 if m > 16 else 0.25
        share = (0.8 if rows >= 4 else thin) if cols >= 8 else 0.72 if cols >= 4 else 0.45 if cols >= 2 else 0.26
        share *= m / (-(-m // 16) * 16) * (0.25 if min(block) < 8 and m <= 16 else 1.0)
        around = 28 * k + 32 * n
    around += 80 * n if problem.epilogue.activation not in (None, "relu") else 0
    return share_with(flops, share, m * around)


def share_with(flops: float, share: float, around: float) -> float:
    """The share of the peak that remains of `share` when as much time as `around` operations at full peak is spent besides."""
    return share * flops / (flops + share * around) if flops else share


def pack_bytes(nnzb: int, block: tuple[int, int]) -> float:
    """What packing from or unpacking to a dense matrix moves: whole cache lines of the one, all of the other, and what
    could be moved in the time that each block's own loop takes."""
    br, bc = block
    return nnzb * (1000.0 + br * (max(64.0, 4.0 * bc) + 4.0 * bc))


def sddmm_cost(problem: SDDMM, block: tuple[int, int]) -> Cost:
    m, k, n = problem.m, problem.k, problem.n
    nnzb = live_blocks(problem.pattern, block)
    weight = nnzb * block[0] * block[1]
    flops = 2.0 * m * weight
    moved = 4.0 * (weight + m * (k + n))
    unpacking = pack_bytes(nnzb, block) + 4.0 * k * n if problem.layout == DENSE else 0.0
    return Cost(flops, moved, sddmm_efficiency(problem, block, flops), 2 * CALL_SECONDS, unpacking)


def sddmm_efficiency(problem: SDDMM, block: tuple[int, int], flops: float) -> float:
    """The share of the FMA peak that `flops` of the product reach, with packing x and g around it.

    Measured with AVX-512 on Zen 5, one thread, data in cache."""
    panels = 20.0 * problem.m * (problem.k + problem.n)
    if block[1] % 16 == 0:
        share = 0.4 if block[0] < 4 else 0.95 if block[1] % 32 == 0 else 0.8
        return share_with(flops, share, panels)
    across_lanes = 340.0 * flops / (2 * max(problem.m, 1))  # adding up each element's partial sums
    return share_with(flops, 0.45 if min(block) >= 4 else 0.3, panels + across_lanes)
