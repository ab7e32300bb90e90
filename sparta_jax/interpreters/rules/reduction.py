"""Rules for reductions, cumulative sums and sorting: what meets along an axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from ...grid import Grid, combine
from ..facts import CONST, LIVE, ZERO, Fact, Need
from ..registry import backward, forward
from .shapes import result_shapes

ARG_REDUCTIONS = (p.argmax_p, p.argmin_p)
SUMS = (p.reduce_sum_p, p.reduce_max_p, p.reduce_min_p, p.reduce_or_p, p.reduce_xor_p)
PRODUCTS = (p.reduce_prod_p, p.reduce_and_p)
RUNNING = (p.cumsum_p, p.cummax_p, p.cummin_p)


@forward(*SUMS)
def reduce_sum_forward(x: Fact, *, axes, **_) -> Fact:
    """Zero iff all elements are, also of a maximum."""
    if 0 in x.shape:
        return Fact.const([n for d, n in enumerate(x.shape) if d not in axes])
    return Fact(x.value.reduce(axes, np.maximum))


@forward(*ARG_REDUCTIONS)
def argmax_forward(x: Fact, *, axes, **_) -> Fact:
    """A constant unless an element is live."""
    return Fact(x.value.reduce(axes, np.maximum).map(lambda c: np.maximum(c, CONST)))


@backward(*SUMS, *ARG_REDUCTIONS)
def reduce_sum_backward(out: Need, x: Fact, *, axes, **_) -> tuple[Need]:
    """Needed iff the output is."""
    return (_along(out, x.shape, axes),)


@forward(*PRODUCTS)
def reduce_prod_forward(x: Fact, *, axes, **_) -> Fact:
    """Zero iff one element is."""
    if 0 in x.shape:
        return Fact.const([n for d, n in enumerate(x.shape) if d not in axes])
    return Fact(combine(_absorb, x.value.reduce(axes, np.maximum), x.value.reduce(axes, np.minimum)))


@backward(*PRODUCTS)
def reduce_prod_backward(out: Need, x: Fact, *, axes, **_) -> tuple[Need]:
    """Beside a zero no factor is needed."""
    need = _along(out, x.shape, axes)
    if 0 in x.shape:
        return (need,)
    least = x.value.reduce(axes, np.minimum, keepdims=True)
    return (combine(lambda n, low: n & (low != ZERO), need, least),)


@forward(*RUNNING)
def cumsum_forward(x: Fact, *, axis, reverse, **_) -> Fact:
    """Zero as long as all elements so far are."""
    return Fact(running(np.maximum, x.value, axis, reverse))


@forward(p.cumlogsumexp_p)
def cumlogsumexp_forward(x: Fact, *, axis, reverse, **_) -> Fact:
    """`log(exp(0) + ...)` is a constant."""
    return Fact(running(np.maximum, x.value, axis, reverse).map(lambda c: np.maximum(c, CONST)))


@forward(p.cumprod_p)
def cumprod_forward(x: Fact, *, axis, reverse, **_) -> Fact:
    """Zero from the first zero on."""
    so_far = lambda fn: running(fn, x.value, axis, reverse)
    return Fact(combine(_absorb, so_far(np.maximum), so_far(np.minimum)))


@backward(*RUNNING, p.cumlogsumexp_p, p.cumprod_p)
def cumsum_backward(out: Need, x: Fact, *, axis, reverse, **_) -> tuple[Need]:
    """Needed iff an output at it or behind it is."""
    return (running(np.logical_or, out, axis, not reverse),)


@forward(p.sort_p)
def sort_forward(*xs: Fact, dimension, num_keys, **_) -> list[Fact]:
    """Along the axis elements mix; the keys move all operands."""
    if 0 in xs[0].shape:
        return [Fact.live(x.shape) for x in xs]
    rows = [x.value.reduce([dimension], np.maximum, keepdims=True) for x in xs]
    moved = lambda row: combine(lambda value, *keys: _moved(value, np.maximum.reduce(keys)), row, *rows[:num_keys])
    return [Fact(moved(row).broadcast(x.shape)) for row, x in zip(rows, xs, strict=True)]


@backward(p.sort_p)
def sort_backward(outs: list[Need], *xs: Fact, dimension, num_keys, **_) -> list[Need]:
    """A row is needed where one of its elements is, the keys where any operand's row is."""
    rows = [out.reduce([dimension], keepdims=True) for out in outs]
    keys = combine(lambda *cells: np.logical_or.reduce(cells), *rows)
    return [(keys if i < num_keys else row).broadcast(x.shape) for i, (row, x) in enumerate(zip(rows, xs, strict=True))]


@forward(p.top_k_p)
def top_k_forward(x: Fact, *, k, axis=-1, **_) -> list[Fact]:
    """The values mix along the axis; the positions are constants unless an element is live."""
    axis = axis % len(x.shape)
    return _largest(x, axis, [k if d == axis else n for d, n in enumerate(x.shape)])


@backward(p.top_k_p)
def top_k_backward(outs: list[Need], x: Fact, *, axis=-1, **_) -> tuple[Need]:
    """A row is needed where one of its outputs is."""
    row = combine(np.logical_or, *outs).reduce([axis % len(x.shape)], keepdims=True)
    return (row.broadcast(x.shape),)


@forward(p.approx_top_k_p)
def approx_top_k_forward(x: Fact, *, reduction_dimension, **params) -> list[Fact]:
    """As of `top_k`."""
    axis = reduction_dimension % len(x.shape)
    return _largest(x, axis, result_shapes(p.approx_top_k_p, {**params, "reduction_dimension": axis}, x.shape)[0])


@backward(p.approx_top_k_p)
def approx_top_k_backward(outs: list[Need], x: Fact, *, reduction_dimension, **_) -> tuple[Need]:
    """As of `top_k`."""
    return top_k_backward(outs, x, axis=reduction_dimension)


def _largest(x: Fact, axis: int, shape: Sequence[int]) -> list[Fact]:
    """Values and positions of the largest elements along an axis."""
    if 0 in x.shape:
        return [Fact.live(shape), Fact.live(shape)]
    row = x.value.reduce([axis], np.maximum, keepdims=True).broadcast(shape)
    return [Fact(row), Fact(row.map(lambda c: np.maximum(c, CONST)))]


def _along(out: Need, shape: Sequence[int], axes: Sequence[int]) -> Need:
    """An output's need, spread along the axes that it lost."""
    return out.broadcast(shape, [d for d in range(len(shape)) if d not in axes])


def running(fn: np.ufunc, grid: Grid, axis: int, reverse: bool) -> Grid:
    """`fn` of all cells up to each; exact for an idempotent `fn`, as a cell's elements are alike."""
    cells = np.flip(grid.cells, axis) if reverse else grid.cells
    cells = fn.accumulate(cells, axis)
    return Grid.make(np.flip(cells, axis) if reverse else cells, grid.cuts)


def _absorb(most: np.ndarray, least: np.ndarray) -> np.ndarray:
    return np.where(least == ZERO, ZERO, most)


def _moved(value: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """A value that is not zero is as live as what chooses it."""
    return np.where((value != ZERO) & (keys == LIVE), LIVE, value)
