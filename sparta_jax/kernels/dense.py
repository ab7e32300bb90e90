"""The dense products: always correct, always a candidate."""

from __future__ import annotations

import dataclasses

import jax

from ..formats.dense import masked
from ..problem import DENSE, SDDMM, Cost, SpMM
from ..products import apply_epilogue
from ..stored import Stored, to_dense, values_at
from .curves import dense_cost
from .gpu import costs as gpu_costs
from .table import register


@dataclasses.dataclass(frozen=True)
class Whole:
    """The one config of a dense product."""

    def __str__(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class DenseSpMM:
    """XLA's own product with the weight as one array; a packed weight is unpacked first."""

    name: str = "dense_spmm"
    implementation: str = "dense"
    problem: type = SpMM

    def why_not(self, problem: SpMM) -> str | None:
        return None

    def configs(self, problem: SpMM) -> list[Whole]:
        return [Whole()]

    def cost(self, problem: SpMM, config: Whole) -> Cost:
        if problem.device.platform == "cpu":
            return dense_cost(problem, self.name)
        unpacking = 0.0 if problem.layout == DENSE else 2.0 * problem.k * problem.n * problem.w_dtype.itemsize
        product, after = gpu_costs.dense_cost(problem), epilogue_cost(problem)
        return dataclasses.replace(
            product, flops=product.flops + after.flops, bytes=product.bytes + after.bytes, packing=unpacking
        )

    def run(self, problem: SpMM, config: Whole, x: jax.Array, weight: Stored, *extras: jax.Array) -> jax.Array:
        w = to_dense(weight)
        contracted = 1 if problem.transposed else 0
        y = jax.lax.dot_general(
            x, w, (((1,), (contracted,)), ((), ())), precision=problem.precision, preferred_element_type=problem.out_dtype
        )
        return apply_epilogue(problem.epilogue, y, *extras)


@dataclasses.dataclass(frozen=True)
class DenseSDDMM:
    """XLA's own product, masked or packed after."""

    name: str = "dense_sddmm"
    implementation: str = "dense"
    problem: type = SDDMM

    def why_not(self, problem: SDDMM) -> str | None:
        return None

    def configs(self, problem: SDDMM) -> list[Whole]:
        return [Whole()]

    def cost(self, problem: SDDMM, config: Whole) -> Cost:
        if problem.device.platform == "cpu":
            return dense_cost(problem, self.name)
        return gpu_costs.dense_cost(problem)

    def run(self, problem: SDDMM, config: Whole, x: jax.Array, g: jax.Array) -> jax.Array:
        w = jax.lax.dot_general(
            x, g, (((0,), (0,)), ((), ())), precision=problem.precision, preferred_element_type=problem.out_dtype
        )
        if problem.layout == DENSE:
            return masked(w, problem.pattern)
        return values_at(w, problem.pattern, problem.layout)


def epilogue_cost(problem: SpMM) -> Cost:
    """What XLA's own operations behind a product take: one pass over the result, and an activation's arithmetic."""
    if not problem.epilogue:
        return Cost(0.0, 0.0)
    size = float(problem.m * problem.n)
    flops = 0 if problem.epilogue.activation is None else 140 if problem.epilogue.activation == "gelu_erf" else 40
    return Cost(flops * size, 2 * size * problem.out_dtype.itemsize)


register(DenseSpMM())
register(DenseSDDMM())
