"""BSR SpMM on CPUs by the native library: forward and transposed, any block shape, the epilogue fused."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from ..formats.bsr import BSR, Pattern
from ..problem import DENSE, SDDMM, Cost, SpMM
from ..tesa import TeSA
from . import native
from .table import register

# What a weight that comes dense may be packed into: the blocks that masks are made of.
BLOCKS = ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (16, 1), (8, 1), (1, 8), (1, 16))
WASTE = 2.0  # executed over live elements, above which a block shape is not worth a look beside better ones

CALL_SECONDS = 2e-6  # dispatch of one foreign call, threads woken


@dataclasses.dataclass(frozen=True)
class Block:
    """The block shape in which the kernel reads the weight."""

    br: int
    bc: int

    def __str__(self) -> str:
        return f"{self.br}x{self.bc}"

    @property
    def shape(self) -> tuple[int, int]:
        return self.br, self.bc


@functools.lru_cache(maxsize=1024)
def pattern_of(tesa: TeSA, block: tuple[int, int]) -> Pattern:
    return Pattern.of(tesa, block)


@functools.lru_cache(maxsize=4096)
def live_blocks(tesa: TeSA, block: tuple[int, int]) -> int:
    return tesa.nnzb(block)


@functools.lru_cache(maxsize=4096)
def is_exact(tesa: TeSA, block: tuple[int, int]) -> bool:
    """Whether the live blocks hold no dead element."""
    return TeSA.blocks(tesa.block_mask(block), block, tesa.shape).nnz == tesa.nnz


def why_not_native(problem: SpMM | SDDMM, *dtypes: np.dtype) -> str | None:
    """What keeps any native kernel from `problem`: platform, library, dtypes, layout."""
    if problem.device.platform != "cpu":
        return "runs on CPUs"
    if (why := native.why_unavailable()) is not None:
        return f"native kernels: {why}"
    if any(dtype != np.float32 for dtype in dtypes):
        return "needs float32 operands and result, got " + ", ".join(map(str, dtypes))
    if problem.layout.format not in ("dense", "bsr"):
        return f"cannot read {problem.layout}"
    return None


def blocks_for(problem: SpMM | SDDMM) -> list[Block]:
    """The layout's own block, or for a dense weight those of `BLOCKS` that cover its pattern with little waste."""
    if problem.layout.block is not None:
        return [Block(*problem.layout.block)]
    executed = {block: live_blocks(problem.pattern, block) * block[0] * block[1] for block in BLOCKS}
    least = min(executed.values())
    return [Block(*block) for block in BLOCKS if executed[block] <= WASTE * least]


@dataclasses.dataclass(frozen=True)
class NativeBsrSpMM:
    """Packed panels of x times the live blocks, a block column's sums in registers all the while; always full float32."""

    name: str = "native_bsr_spmm"
    implementation: str = "native"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        if (why := why_not_native(problem, problem.x_dtype, problem.w_dtype, problem.out_dtype)) is not None:
            return why
        if problem.epilogue.activation not in native.ACTIVATIONS:
            return f"has no activation {problem.epilogue.activation}"
        return None

    def configs(self, problem: SpMM) -> list[Block]:
        return blocks_for(problem)

    def cost(self, problem: SpMM, config: Block) -> Cost:
        m, k, n = problem.m, problem.k, problem.n
        nnzb = live_blocks(problem.pattern, config.shape)
        weight = nnzb * config.br * config.bc
        flops = 2.0 * m * weight
        moved = 4.0 * (weight + m * (k + n)) + (4.0 * m * n if problem.epilogue.residual else 0)
        packing = pack_bytes(nnzb, config.shape) if problem.layout == DENSE else 0.0
        if problem.layout == DENSE and m == 1:
            packing += 8.0 * k * n  # the masked weight is written out; XLA's own matrix-vector product masks as it reads
        return Cost(flops, moved, spmm_efficiency(problem, config.shape, flops), CALL_SECONDS, packing)

    def run(self, problem: SpMM, config: Block, x: jax.Array, weight: jax.Array | BSR, *extras: jax.Array) -> jax.Array:
        pattern = pattern_of(problem.pattern, config.shape)
        if isinstance(weight, BSR):
            blocks, indptr, indices = weight.blocks, weight.indptr, weight.indices
        else:
            indptr, indices = pattern.indptr, pattern.indices
            blocks = native.pack(weight, indptr, indices, config.shape)
        order = None
        if problem.transposed:
            turned, order = pattern.transposed(-(-problem.n // config.br))
            indptr, indices = turned.indptr, turned.indices
        rest = list(extras)
        return native.spmm(
            x,
            blocks,
            indptr,
            indices,
            problem.n,
            order=order,
            bias=rest.pop(0) if problem.epilogue.bias else None,
            activation=problem.epilogue.activation,
            residual=rest.pop(0) if problem.epilogue.residual else None,
        )


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


register(NativeBsrSpMM())
