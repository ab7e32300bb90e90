"""Attention by XLA's own operations, as the program writes it: always correct, always a candidate."""

from __future__ import annotations

import dataclasses

import jax

from ..problem import Attention, Cost
from .dense import Whole
from .table import register

# Operations' worth of time that XLA's passes over a score, and over an element of k and v, take besides the products: where the
# scores, or k and v, stay in a core's cache, and where they do not (measured on x86-64).
SCORE, ELEMENT = (180.0, 900.0), (40.0, 150.0)
CACHED_BYTES = 2 << 20


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
        elements = float(problem.batch * problem.heads * problem.keys * (problem.size + problem.v_size))
        out_of_cache = [4.0 * count > CACHED_BYTES for count in (scores, elements)]
        around = SCORE[out_of_cache[0]] * scores + ELEMENT[out_of_cache[1]] * elements
        return Cost(2.0 * scores * (problem.size + problem.v_size) + around, attention_bytes(problem))

    def run(self, problem: Attention, config: Whole, *operands: jax.Array) -> jax.Array:
        return problem.operation.reference(*operands)


def attention_bytes(problem: Attention) -> float:
    """Of q, k, v and the result."""
    rows = problem.batch * problem.queries * problem.heads * (problem.size + problem.v_size)
    keys = problem.batch * problem.keys * problem.kv_heads * (problem.size + problem.v_size)
    return 4.0 * (rows + keys)


register(DenseAttention())
