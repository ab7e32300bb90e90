"""BSR SpMM on CPUs by the native library: forward and transposed, any block shape, the epilogue fused."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from ..formats.bsr import BSR, Pattern
from ..problem import DENSE, SDDMM, Cost, Layout, SpMM
from ..tesa import TeSA
from . import native
from .curves import live_in, sparse_cost
from .native_epilogue import why_not_epilogue, with_epilogue
from .table import register

# What a weight that comes dense may be packed into: the blocks that masks are made of.
BLOCKS = ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (16, 1), (8, 1), (1, 8), (1, 16))
TURN_SECONDS = 1.5e-9  # per stored element that is turned (measured, one thread)
WASTE = 2.0  # executed over live elements, above which a block shape is not worth a look beside better ones


@dataclasses.dataclass(frozen=True)
class Block:
    """The block shape in which the kernel reads the weight.

    Attributes:
      turned: whether the blocks of a transposed weight are turned first: then it is an ordinary product. That takes as long
        per stored element as a few rows of x, and pays where rows are many, as in the gradient of x.
    """

    br: int
    bc: int
    turned: bool = False

    def __str__(self) -> str:
        return f"{self.br}x{self.bc}{', turned' if self.turned else ''}"

    @property
    def shape(self) -> tuple[int, int]:
        return self.br, self.bc


@functools.lru_cache(maxsize=1024)
def pattern_of(tesa: TeSA, block: tuple[int, int]) -> Pattern:
    return Pattern.of(tesa, block)


@functools.lru_cache(maxsize=4096)
def is_exact(tesa: TeSA, block: tuple[int, int]) -> bool:
    """Whether the live blocks hold no dead element."""
    return TeSA.blocks(tesa.block_mask(block), block, tesa.shape).nnz == tesa.nnz


def why_not_native(problem: SpMM | SDDMM, *dtypes: np.dtype) -> str | None:
    """What keeps any native kernel from `problem`: platform, library, dtypes, layout."""
    if (why := native.why_not_device(problem.device)) is not None:
        return why
    if (why := native.why_not_dtypes(*dtypes)) is not None:
        return why
    if problem.layout.format not in ("dense", "bsr"):
        return f"cannot read {problem.layout}"
    return None


def blocks_for(problem: SpMM | SDDMM) -> list[Block]:
    """The layout's own block, or for a dense weight those of `BLOCKS` that cover its pattern with little waste."""
    if problem.layout.block is not None:
        return [Block(*problem.layout.block)]
    executed = {block: live_in(problem.pattern, block) for block in BLOCKS}
    least = min(executed.values())
    return [Block(*block) for block in BLOCKS if executed[block] <= WASTE * least]


@dataclasses.dataclass(frozen=True)
class NativeBsrSpMM:
    """Packed panels of x times the live blocks, a block column's sums in registers all the while; always full float32, or
    float64 where the operands are."""

    name: str = "native_bsr_spmm"
    implementation: str = "native"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        why = why_not_native(problem, problem.x_dtype, problem.w_dtype, problem.out_dtype)
        return why or why_not_epilogue(problem.epilogue)

    def configs(self, problem: SpMM) -> list[Block]:
        found = blocks_for(problem)
        turnable = problem.transposed and problem.layout != DENSE
        return [*found, *(Block(b.br, b.bc, True) for b in found if turnable)]

    def cost(self, problem: SpMM, config: Block) -> Cost:
        if not config.turned:
            return sparse_cost(problem, self.name, config.shape)
        turned = Layout("bsr", (config.bc, config.br))
        plain = dataclasses.replace(problem, transposed=False, pattern=problem.pattern.transpose(), layout=turned)
        cost = sparse_cost(plain, self.name, (config.bc, config.br))
        return dataclasses.replace(cost, seconds=cost.seconds + TURN_SECONDS * live_in(problem.pattern, config.shape))

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
        if config.turned:
            blocks = blocks.swapaxes(1, 2).at[order].get(mode="promise_in_bounds", unique_indices=True)
            order = None
        product = functools.partial(native.spmm, x, blocks, indptr, indices, problem.n, dtype=problem.out_dtype, order=order)
        return with_epilogue(product, problem.epilogue, extras)


register(NativeBsrSpMM())
