"""Sampled product at live blocks in XLA operations alone."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ..formats.bsr import BSR, Pattern
from ..formats.dense import masked
from ..problem import DENSE, SDDMM, Cost, accumulator
from .curves import live_in, several, sparse_cost
from .gpu.costs import dense_efficiency, measured
from .table import register
from .xla_bsr_spmm import BLOCKS, PART_BYTES, operand_dtype


@dataclasses.dataclass(frozen=True)
class Blocks:
    """
    Attributes:
      block: `(br, bc)` that is computed whole.
      rows: rows of x and g that are multiplied at once.
    """

    block: tuple[int, int]
    rows: int

    def __str__(self) -> str:
        return f"block {self.block[0]}x{self.block[1]}, {self.rows} rows at once"


@dataclasses.dataclass(frozen=True)
class XlaBsrSDDMM:
    """Gathers the block columns of both operands and multiplies them block by block."""

    name: str = "xla_bsr_sddmm"
    implementation: str = "xla"
    problem: type = SDDMM

    def why_not(self, problem: SDDMM) -> str | None:
        if problem.m == 0 or problem.k == 0 or problem.n == 0:
            return "the product is empty"
        if problem.layout.format == "csr":
            return "reads dense and bsr weights, not csr"
        return None

    def configs(self, problem: SDDMM) -> list[Blocks]:
        blocks = BLOCKS if problem.layout == DENSE else (problem.layout.block,)
        return [Blocks(b, self._rows(problem, b)) for b in blocks if b is not None]

    def _rows(self, problem: SDDMM, block: tuple[int, int]) -> int:
        nnzb = max(live_in(problem.pattern, block) // (block[0] * block[1]), 1)
        rows = max(PART_BYTES // (4 * nnzb * sum(block)), 8)
        return min(problem.m, 1 << (rows.bit_length() - 1))

    def cost(self, problem: SDDMM, config: Blocks) -> Cost:
        if problem.device.platform == "cpu":
            return several(sparse_cost(problem, self.name, config.block))
        (br, bc), itemsize = config.block, problem.out_dtype.itemsize
        nnzb = problem.pattern.nnzb(config.block)
        stored = nnzb * br * bc * itemsize
        scattering = stored + problem.k * problem.n * itemsize if problem.layout == DENSE else 0
        gathered = 2.0 * problem.m * nnzb * (br * problem.x_dtype.itemsize + bc * problem.g_dtype.itemsize)
        chunks = -(-problem.m // config.rows)
        moved = gathered + 2 * stored * chunks + scattering
        estimate = Cost(2.0 * problem.m * nnzb * br * bc, moved, 0.44 * dense_efficiency(problem), 2e-5 * chunks)
        return measured(problem, self.name, estimate, config.block)

    def run(self, problem: SDDMM, config: Blocks, x: jax.Array, g: jax.Array) -> jax.Array:
        pattern = Pattern.of(problem.pattern, config.block)
        if pattern.nnzb == 0:
            blocks = jnp.zeros((0, *config.block), problem.out_dtype)
        else:
            blocks = _blocks(problem, config, pattern, x, g).astype(problem.out_dtype)
        if problem.layout.block is not None:
            return blocks
        tables = jnp.asarray(pattern.indptr), jnp.asarray(pattern.indices)
        return masked(BSR(blocks, *tables, problem.pattern.shape).to_dense(), problem.pattern)


def _blocks(problem: SDDMM, config: Blocks, pattern: Pattern, x: jax.Array, g: jax.Array) -> jax.Array:
    """`[nnzb, br, bc]` in the accumulator's dtype."""
    (br, bc), rows = config.block, config.rows
    accumulate = accumulator(problem.out_dtype)
    common = operand_dtype(problem.device, x.dtype, g.dtype)
    tile = lambda a, b: jnp.pad(a, ((0, -problem.m % rows), (0, -a.shape[1] % b))).reshape(-1, rows, -(-a.shape[1] // b), b)

    def add(total, chunk):
        xs, gs = chunk
        parts = jnp.einsum(
            "mer,mec->erc",
            xs[:, pattern.indices].astype(common),
            gs[:, pattern.columns].astype(common),
            precision=problem.precision,
            preferred_element_type=accumulate,
        )
        return total + parts, None

    start = jnp.zeros((pattern.nnzb, br, bc), accumulate)
    chunks = tile(x, br), tile(g, bc)
    if chunks[0].shape[0] == 1:
        return add(start, (chunks[0][0], chunks[1][0]))[0]
    return jax.lax.scan(add, start, chunks)[0]


register(XlaBsrSDDMM())
