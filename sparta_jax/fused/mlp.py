"""Feed-forward networks of sparse products: two, one behind the other, or three of which one is a gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from ..problem import MLP, Device, Plan
from ..products import Product, spmm, spmm_epilogue, spmm_here
from ..products import problem_of as problem_of_product
from ..stored import Stored
from .primitive import Operand


class Layer(NamedTuple):
    """One product with its operands.

    Attributes:
      product: with its epilogue.
      weight: as it is stored.
      extras: the bias `[n]` and the residual `[*rows, n]`, where it has them.
    """

    product: Product
    weight: Stored
    extras: tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class FeedForward:
    """`down(up(x))`, or `down(up(x) * gate(x))`; every layer is a product with its epilogue.

    Attributes:
      up, gate, down: the products, of packed weights, none with a scale; only `down` may have a residual. The operands are
        `x [*rows, k]`, then of each layer the stored weight's arrays and the bias, then the residual.
    """

    up: Product
    gate: Product | None
    down: Product

    @property
    def products(self) -> tuple[Product, ...]:
        """In the order of the operands."""
        return (self.up, self.down) if self.gate is None else (self.up, self.gate, self.down)

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (
            Operand.BATCH,
            *[Operand.SHARED] * sum(map(_own, self.products)),
            *[Operand.BATCH] * self.down.epilogue.residual,
        )

    def layers(self, operands: Sequence[Any]) -> Iterator[Layer]:
        """The products with what they are given, of all operands but `x`."""
        rest = list(operands)
        take = lambda count: tuple(rest.pop(0) for _ in range(count))
        for product in self.products:
            values, *tables = take(1 + product.tables)
            extras = take(product.epilogue.bias + product.epilogue.residual)
            yield Layer(product, product.weight(values, tables), extras)

    def reference(self, x: jax.Array, *operands: jax.Array) -> jax.Array:
        def run(layer: Layer, x: jax.Array) -> jax.Array:
            bound = spmm_epilogue if layer.product.epilogue else spmm
            return bound(layer.product, x, layer.weight, *layer.extras)

        return self._run(run, x, operands)

    def one_by_one(self, x: jax.Array, *operands: jax.Array) -> jax.Array:
        """The reference where it runs on one device: each product by the kernel that its planner chooses there."""
        return self._run(lambda layer, x: spmm_here(layer.product, x, layer.weight, *layer.extras), x, operands)

    def _run(self, run: Callable[[Layer, jax.Array], jax.Array], x: jax.Array, operands: Sequence[Any]) -> jax.Array:
        up, *gate, down = self.layers(operands)
        hidden = run(up, x) * run(gate[0], x) if gate else run(up, x)
        return run(down, hidden)

    def problem(self, avals: Sequence[Any], device: Device) -> MLP:
        x, *rest = avals
        asked = []
        for product in self.products:
            asked.append(problem_of_product("spmm", product, [x, rest[0]], device))
            rest = rest[_own(product) :]
        return mlp_problem(self, asked)

    def plans(self, problem: MLP) -> list[Plan]:
        """What is chosen for each product by itself."""
        return [product.planner.plan(asked) for product, asked in zip(self.products, problem.products, strict=True)]

    def factors(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[str, ...], ...]:
        rows = tuple(f"R{i}" for i in range(len(shapes[0]) - 1))
        residual = [(*rows, "n")] * self.down.epilogue.residual
        own = shapes[1 : len(shapes) - len(residual)]
        return ((*rows, "k"), *(tuple(f"w{i}a{d}" for d in range(len(s))) for i, s in enumerate(own)), *residual, (*rows, "n"))


def _own(product: Product) -> int:
    """How many operands are a layer's alone: the stored weight's arrays and the bias."""
    return 1 + product.tables + product.epilogue.bias


def mlp_problem(operation: FeedForward, asked: Sequence[Any]) -> MLP:
    """The problem of an operation, from those of its products in their order."""
    up, *gate, down = asked
    return MLP(operation, up, gate[0] if gate else None, down, up.device)
