"""Block-sparse product in XLA operations alone: gather, batched product, segment sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..formats.bsr import BSR, Pattern
from ..problem import DENSE, Cost, Device, SpMM, accumulator
from ..products import apply_epilogue
from .curves import live_in, several, sparse_cost
from .dense import epilogue_cost
from .gpu.costs import dense_efficiency, measured
from .table import register

BLOCKS = ((16, 16), (32, 32), (64, 64), (128, 128))
PART_BYTES = 8 << 20  # of partial products alive at once, so that memory stays bounded and the partials stay in cache


@dataclasses.dataclass(frozen=True)
class Blocks:
    """
    Attributes:
      block: `(br, bc)` of the stored weight.
      rows: rows of x that are multiplied at once.
    """

    block: tuple[int, int]
    rows: int

    def __str__(self) -> str:
        return f"block {self.block[0]}x{self.block[1]}, {self.rows} rows at once"


@dataclasses.dataclass(frozen=True)
class XlaBsrSpMM:
    """Works on every platform; ahead of dense on a CPU only for few rows and low density."""

    name: str = "xla_bsr_spmm"
    implementation: str = "xla"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        if problem.m == 0 or problem.k == 0 or problem.n == 0:
            return "the product is empty"
        if problem.layout.format == "csr":
            return "reads dense and bsr weights, not csr"
        return None

    def configs(self, problem: SpMM) -> list[Blocks]:
        blocks = BLOCKS if problem.layout == DENSE else (problem.layout.block,)
        return [Blocks(b, self._rows(problem, b)) for b in blocks if b is not None]

    def _rows(self, problem: SpMM, block: tuple[int, int]) -> int:
        partials = live_in(problem.pattern, block) // (block[1] if problem.transposed else block[0])
        rows = max(PART_BYTES // max(4 * partials, 1), 8)
        return min(problem.m, 1 << (rows.bit_length() - 1))

    def cost(self, problem: SpMM, config: Blocks) -> Cost:
        if problem.device.platform == "cpu":
            return several(sparse_cost(problem, self.name, config.block))
        br, bc = config.block
        nnzb = problem.pattern.nnzb(config.block)
        stored = nnzb * br * bc * problem.w_dtype.itemsize
        packing = 2 * stored + problem.k * problem.n * problem.w_dtype.itemsize if problem.layout == DENSE else 0.0
        partials = 2.0 * problem.m * nnzb * (br + bc) * 4
        edges = problem.m * (problem.k * problem.x_dtype.itemsize + problem.n * problem.out_dtype.itemsize)
        chunks = -(-problem.m // config.rows)
        after = epilogue_cost(problem)
        flops = 2.0 * problem.m * nnzb * br * bc
        moved = stored * chunks + partials + edges + after.bytes
        estimate = Cost(flops + after.flops, moved, dense_efficiency(problem) / 4, 2e-5 * chunks, packing)
        return measured(problem, self.name, estimate, config.block)

    def run(self, problem: SpMM, config: Blocks, x: jax.Array, weight: jax.Array | BSR, *extras: jax.Array) -> jax.Array:
        packed = weight if isinstance(weight, BSR) else BSR.pack(weight, problem.pattern, config.block)
        if packed.nnzb == 0:
            y = jnp.zeros((problem.m, problem.n), problem.out_dtype)
        else:
            y = in_chunks(lambda rows: _product(problem, packed, rows), x, config.rows).astype(problem.out_dtype)
        return apply_epilogue(problem.epilogue, y, *extras)


def in_chunks(product: Callable[[jax.Array], jax.Array], x: jax.Array, rows: int) -> jax.Array:
    """`product(x)`, of so many rows at once."""
    m = x.shape[0]
    if m <= rows:
        return product(x)
    chunks = jnp.pad(x, ((0, -m % rows), (0, 0))).reshape(-1, rows, x.shape[1])
    y = jax.lax.map(product, chunks)
    return y.reshape(-1, y.shape[-1])[:m]


def _product(problem: SpMM, w: BSR, x: jax.Array) -> jax.Array:
    """`[rows, n]` in the accumulator's dtype."""
    m, (br, bc) = x.shape[0], w.block
    blocks, read, written, columns = w.blocks, w.indices, w.columns(), -(-w.shape[1] // bc)
    if problem.transposed:
        table, order = Pattern.of(problem.pattern, w.block).transposed(-(-w.shape[0] // br))
        blocks, read, written = blocks[order].swapaxes(1, 2), table.indices, table.columns
        br, bc, columns = bc, br, -(-w.shape[0] // br)
    xb = jnp.pad(x, ((0, 0), (0, -x.shape[1] % br))).reshape(m, -1, br).swapaxes(0, 1)
    accumulate = accumulator(problem.out_dtype)
    common = operand_dtype(problem.device, x.dtype, blocks.dtype)
    parts = jnp.einsum(
        "emr,erc->emc",
        xb[read].astype(common),
        blocks.astype(common),
        precision=problem.precision,
        preferred_element_type=accumulate,
    )
    y = jax.ops.segment_sum(parts, written, num_segments=columns, indices_are_sorted=True)
    return y.swapaxes(0, 1).reshape(m, -1)[:, : problem.n]


def operand_dtype(device: Device, a, b):
    """The dtype that two operands are multiplied in.

    They differ where a gradient is wider than the weight, and XLA on CPUs has no batched product of 16-bit operands with a
    float32 result."""
    return a if a == b and device.platform != "cpu" else accumulator(a, b)


register(XlaBsrSpMM())
