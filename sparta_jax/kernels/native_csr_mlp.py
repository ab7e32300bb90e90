"""Feed-forward networks by elements on CPUs: a panel of rows goes through all products while it stays in a core's cache."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from ..problem import MLP, Cost
from . import native_csr
from .dense import Whole
from .native_csr_spmm import NativeCsrSpMM
from .table import register

SAVED = 1e-9  # seconds of one core for each number between that is not turned, written and read (0.5 to 3 measured on Zen 4)
LARGEST_ROW = 5120  # float32 numbers of a row, x and what lies between: 32 rows of so many stay in a second-level cache
LANES = 16  # rows in a vector
ROWS_EACH = 32  # rows that each thread must have, to work on vectors of them


@dataclasses.dataclass(frozen=True)
class NativeCsrMLP:
    """What lies between the products stays in panels, turned so that vectors run over rows, with bias and activation."""

    name: str = "native_csr_mlp"
    implementation: str = "native"
    problem: type = MLP

    def why_not(self, problem: MLP) -> str | None:
        chosen = {plan.kernel.name for plan in problem.operation.plans(problem)}
        if chosen != {NativeCsrSpMM.name}:
            return f"needs all products on {NativeCsrSpMM.name}, got " + ", ".join(sorted(chosen))
        if len({d for p in problem.products for d in (p.x_dtype, p.w_dtype, p.out_dtype)}) > 1:
            return "needs products of one dtype"
        if (least := ROWS_EACH * problem.device.cores) > problem.m:
            return f"needs {least} rows, {ROWS_EACH} for each thread"
        if (row := problem.k + problem.hidden) > (most := LARGEST_ROW * 4 // max(problem.up.x_dtype.itemsize, 4)):
            return f"keeps at most {most} numbers of a row in cache, of {row}"
        return None

    def configs(self, problem: MLP) -> list[Whole]:
        return [Whole()]

    def cost(self, problem: MLP, config: Whole) -> Cost:
        separate = sum(plan.seconds for plan in problem.operation.plans(problem))
        saved = SAVED * problem.m * problem.hidden / problem.device.cores
        return Cost(0.0, 0.0, seconds=max(separate - saved, separate / 2) * busiest(problem))

    def run(self, problem: MLP, config: Whole, x: jax.Array, *operands: jax.Array) -> jax.Array:
        layers = list(problem.operation.layers(operands))
        up, *gate, down = map(_layer, layers)
        residual = layers[-1].extras[-1].reshape(-1, problem.n) if problem.down.epilogue.residual else None
        y = native_csr.mlp(
            x.reshape(-1, problem.k),
            up,
            gate[0] if gate else None,
            down,
            problem.n,
            threads=problem.device.cores,
            residual=residual,
        )
        return y.reshape(*x.shape[:-1], problem.n)


def busiest(problem: MLP) -> float:
    """The rows of the busiest thread, as a multiple of an equal share: panels are not cut, single products are, by columns."""
    cores, vectors = problem.device.cores, -(-problem.m // LANES)
    most = max(1, min(3, LARGEST_ROW * 2 // (problem.k + problem.hidden)))
    each = -(-vectors // (-(-vectors // (most * cores)) * cores))
    panels = -(-vectors // each)
    return -(-panels // cores) * each * cores / vectors


def _layer(layer: Any) -> native_csr.Layer:
    """A `fused.Layer` as the library is given it."""
    weight, epilogue = layer.weight, layer.product.epilogue
    bias = layer.extras[0] if epilogue.bias else None
    return native_csr.Layer(weight.values, weight.indptr, weight.indices, bias, epilogue.activation)


register(NativeCsrMLP())
