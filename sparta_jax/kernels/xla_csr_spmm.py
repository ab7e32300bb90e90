"""Products with weights stored by their elements in XLA operations alone: gather, multiply, segment sum."""

from __future__ import annotations

import dataclasses

import jax

from ..formats.csr import CSR
from ..problem import CSR_LAYOUT, Cost, SpMM, accumulator
from ..products import apply_epilogue
from .curves import epilogue_seconds, machine_of, several
from .table import register
from .xla_bsr_spmm import PART_BYTES, in_chunks

ELEMENT_SECONDS, ROW_SECONDS = 4e-9, 3e-9  # per live element, and per live element and row of x


@dataclasses.dataclass(frozen=True)
class Rows:
    """
    Attributes:
      rows: rows of x that are multiplied at once.
    """

    rows: int

    def __str__(self) -> str:
        return f"{self.rows} rows at once"


@dataclasses.dataclass(frozen=True)
class XlaCsrSpMM:
    """For the few rows at which spreading the weight out to its dense shape takes longer than the product itself."""

    name: str = "xla_csr_spmm"
    implementation: str = "xla"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        if problem.device.platform != "cpu":
            return "runs on CPUs"
        if problem.layout != CSR_LAYOUT:
            return f"reads csr weights, not {problem.layout}"
        return "the product is empty" if 0 in (problem.m, problem.k, problem.n) else None

    def configs(self, problem: SpMM) -> list[Rows]:
        rows = max(PART_BYTES // max(4 * problem.pattern.nnz, 1), 1)
        return [Rows(min(problem.m, 1 << (rows.bit_length() - 1)))]

    def cost(self, problem: SpMM, config: Rows) -> Cost:
        machine, flops = machine_of(problem), 2.0 * problem.m * problem.pattern.nnz
        seconds = problem.pattern.nnz * (ELEMENT_SECONDS + ROW_SECONDS * problem.m)
        after = epilogue_seconds(problem, machine, "epilogue_xla")
        return several(Cost(flops, 0.0, flops / (seconds * machine.peak) if seconds else 1.0, after))

    def run(self, problem: SpMM, config: Rows, x: jax.Array, weight: CSR, *extras: jax.Array) -> jax.Array:
        columns, sums = weight.columns(), accumulator(problem.out_dtype)
        read, written = (columns, weight.indices) if problem.transposed else (weight.indices, columns)
        values = weight.values.astype(sums)[:, None]

        def product(x):
            parts = x.T.astype(sums)[read] * values
            y = jax.ops.segment_sum(parts, written, num_segments=problem.n, indices_are_sorted=not problem.transposed)
            return y.T

        return apply_epilogue(problem.epilogue, in_chunks(product, x, config.rows).astype(problem.out_dtype), *extras)


register(XlaCsrSpMM())
