"""Attention by XLA's own operations, as the program writes it: always correct, always a candidate."""

from __future__ import annotations

import dataclasses

import jax

from ..problem import Attention, Cost
from .dense import Whole
from .table import register

SCORE = 170.0  # operations' worth of time that XLA's passes over the scores take, each (measured on x86-64)


@dataclasses.dataclass(frozen=True)
class DenseAttention:
    """The reference itself. The scores are written out and read again several times."""

    name: str = "dense_attention"
    implementation: str = "dense"
    problem: type = Attention

    def why_not(self, problem: Attention) -> str | None:
        return None

    def configs(self, problem: Attention) -> list[Whole]:
        return [Whole()]

    def cost(self, problem: Attention, config: Whole) -> Cost:
        scores = float(problem.m * problem.keys)
        flops = 2.0 * scores * (problem.size + problem.v_size) + SCORE * scores
        return Cost(flops, attention_bytes(problem) + 32.0 * scores, 0.85)

    def run(self, problem: Attention, config: Whole, *operands: jax.Array) -> jax.Array:
        return problem.operation.reference(*operands)


def attention_bytes(problem: Attention) -> float:
    """Of q, k, v and the result."""
    rows = problem.batch * problem.queries * problem.heads * (problem.size + problem.v_size)
    keys = problem.batch * problem.keys * problem.kv_heads * (problem.size + problem.v_size)
    return 4.0 * (rows + keys)


register(DenseAttention())
