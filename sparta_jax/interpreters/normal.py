"""One normaliser for every `dot_general`: batch, rows, contracted, columns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from ..grid import Grid
from .jaxprs import Equation


@dataclasses.dataclass(frozen=True)
class Normal:
    """How one `dot_general` reads as `y[b, ..., n] = sum_k x[b, ..., k] w[b, k, n]`.

    Attributes:
      side: which operand is the weight, 0 or 1.
      x_order, w_order: the operands' axes as (batch, free, contracted) and (batch, contracted, free).
      batch: sizes of the batch axes.
      rows: sizes of x's free axes, kept apart (they may be sharded).
      k, n: the contracted size and the number of columns.
      columns: sizes of w's free axes.
      y_order: the axes of `[batch, rows, columns]` in the order of the result.
    """

    side: int
    x_order: tuple[int, ...]
    w_order: tuple[int, ...]
    batch: tuple[int, ...]
    rows: tuple[int, ...]
    k: int
    n: int
    columns: tuple[int, ...]
    y_order: tuple[int, ...]

    @property
    def keeps_order(self) -> bool:
        """Whether the product's own result is the equation's, but for a reshape of its last axis."""
        return not self.batch and self.y_order == tuple(range(len(self.y_order)))

    def x(self, x: jax.Array) -> jax.Array:
        """`[*batch, *rows, k]`"""
        return x.transpose(self.x_order).reshape(*self.batch, *self.rows, self.k)

    def w(self, w: jax.Array) -> jax.Array:
        """`[prod(batch), k, n]`"""
        return w.transpose(self.w_order).reshape(-1, self.k, self.n)

    def w_grid(self, grid: Grid) -> Grid:
        """The facts of `w(weight)`, from those of the weight."""
        return grid.transpose(self.w_order).reshape((math.prod(self.batch), self.k, self.n))

    def w_back(self, w: jax.Array) -> jax.Array:
        """The weight, from `[prod(batch), k, n]`."""
        sizes = [*self.batch, *self.contracted, *self.columns]
        return w.reshape(sizes).transpose([int(i) for i in np.argsort(self.w_order)])

    def y(self, y: jax.Array) -> jax.Array:
        """The equation's result, from `[*batch, *rows, n]`."""
        return y.reshape((*self.batch, *self.rows, *self.columns)).transpose(self.y_order)

    contracted: tuple[int, ...] = ()


def normalise(equation: Equation, side: int) -> Normal:
    """The normal form of a `dot_general` whose operand `side` is the weight."""
    (l_contract, r_contract), (l_batch, r_batch) = equation.params["dimension_numbers"]
    contract, batch = [(l_contract, l_batch), (r_contract, r_batch)], [l_batch, r_batch]
    shapes = [v.shape for v in equation.inputs]
    w_contract, w_batch = contract[side]
    x_contract, x_batch = contract[1 - side]
    x_shape, w_shape = shapes[1 - side], shapes[side]
    x_free, w_free = _free(x_shape, x_contract, x_batch), _free(w_shape, w_contract, w_batch)
    pick = lambda shape, axes: tuple(shape[a] for a in axes)
    nb, nx, nw = len(batch[0]), len(x_free), len(w_free)
    x_places, w_places = range(nb, nb + nx), range(nb + nx, nb + nx + nw)
    return Normal(
        side=side,
        x_order=(*x_batch, *x_free, *x_contract),
        w_order=(*w_batch, *w_contract, *w_free),
        batch=pick(w_shape, w_batch),
        rows=pick(x_shape, x_free),
        k=math.prod(pick(w_shape, w_contract)),
        n=math.prod(pick(w_shape, w_free)),
        columns=pick(w_shape, w_free),
        y_order=(*range(nb), *((*w_places, *x_places) if side == 0 else (*x_places, *w_places))),
        contracted=pick(w_shape, w_contract),
    )


def _free(shape: Sequence[int], contract: Sequence[int], batch: Sequence[int]) -> list[int]:
    return [d for d in range(len(shape)) if d not in (*contract, *batch)]
