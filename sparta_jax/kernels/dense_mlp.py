"""Feed-forward networks as the program writes them: product by product, always a candidate."""

from __future__ import annotations

import dataclasses

import jax

from ..problem import MLP, Cost
from .dense import Whole
from .table import register

MULTIPLYING = 2.2e-9  # seconds of one core that XLA's multiplication by a gate takes for each number (Zen 4)


@dataclasses.dataclass(frozen=True)
class DenseMLP:
    """The products one by one, each by the kernel that is chosen for it."""

    name: str = "dense_mlp"
    implementation: str = "dense"
    problem: type = MLP

    def why_not(self, problem: MLP) -> str | None:
        return None

    def configs(self, problem: MLP) -> list[Whole]:
        return [Whole()]

    def cost(self, problem: MLP, config: Whole) -> Cost:
        between = MULTIPLYING * problem.m * problem.hidden / max(problem.device.cores, 1) if problem.gate else 0.0
        return Cost(0.0, 0.0, seconds=between + sum(plan.seconds for plan in problem.operation.plans(problem)))

    def run(self, problem: MLP, config: Whole, *operands: jax.Array) -> jax.Array:
        return problem.operation.one_by_one(*operands)


register(DenseMLP())
