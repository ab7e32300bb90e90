"""Rules for iota, dynamic slices, gather and scatter: exact where the positions are known or an axis is taken whole.

Along an axis whose positions are data, what holds of all its elements holds of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p
from jax.lax import GatherScatterMode

from ...grid import Grid, combine
from ..facts import CONST, LIVE, ZERO, Fact, Need, needed, unneeded
from ..registry import backward, forward
from .windows import Windows


@forward(p.iota_p)
def iota_forward(*sizes: Fact, shape, dimension, **_) -> Fact:
    """The position along an axis."""
    along = np.where(np.arange(shape[dimension]) > 0, CONST, ZERO)
    return Fact(Grid.of_elements(along).broadcast(shape, [dimension]))


@backward(p.iota_p)
def iota_backward(out: Need, *sizes: Fact, **_) -> list[Need]:
    return [needed(s.shape) for s in sizes]


@forward(p.dynamic_slice_p)
def dynamic_slice_forward(x: Fact, *starts: Fact, slice_sizes, **_) -> Fact:
    """`x[starts:starts + slice_sizes]`, moved inside where it sticks out."""
    if 0 in x.shape:
        return Fact.live(slice_sizes)
    grid, free = x.value, []
    for axis, (start, size) in enumerate(zip(starts, slice_sizes, strict=True)):
        grid, at = _cut(grid, axis, start, size, np.maximum)
        free += [start] if at is None else []
    grid = grid.broadcast(slice_sizes)
    return Fact(grid.map(lambda c: np.where(c != ZERO, LIVE, ZERO)) if _any_live(free) else grid)


@backward(p.dynamic_slice_p)
def dynamic_slice_backward(out: Need, x: Fact, *starts: Fact, slice_sizes, **_) -> list[Need]:
    """What no window can reach is not needed, nor is the start along an axis that is taken whole."""
    need = _uncut(out, x.shape, starts, slice_sizes, np.logical_or)
    return [need, *_needs_of_starts(out, x.shape, starts, slice_sizes)]


@forward(p.dynamic_update_slice_p)
def dynamic_update_slice_forward(x: Fact, update: Fact, *starts: Fact, **_) -> Fact:
    """The update inside its window, the operand outside, either where the window may lie."""
    if 0 in update.shape:
        return Fact(x.value)
    window = _uncut(Grid.uniform(update.shape, True), x.shape, starts, update.shape, np.logical_or)
    written = _uncut(update.value, x.shape, starts, update.shape, np.maximum)
    free = [s for d, s in enumerate(starts) if _position(s, x.shape[d], update.shape[d]) is None]
    moving = _any_live(free)

    def merge(value, inside, new):
        join = np.maximum(value, new)
        both = np.where((join != ZERO) & moving, LIVE, join) if free else new
        return np.where(inside, both, value)

    return Fact(combine(merge, x.value, window, written))


@backward(p.dynamic_update_slice_p)
def dynamic_update_slice_backward(out: Need, x: Fact, update: Fact, *starts: Fact, **_) -> list[Need]:
    """What is surely overwritten is not needed."""
    if 0 in update.shape:
        return [out, unneeded(update.shape), *(unneeded(()) for _ in starts)]
    known = all(_position(s, n, m) is not None for s, n, m in zip(starts, x.shape, update.shape, strict=True))
    window = _uncut(Grid.uniform(update.shape, known), x.shape, starts, update.shape, np.logical_or)
    need = out
    for axis, (start, size) in enumerate(zip(starts, update.shape, strict=True)):
        need, _ = _cut(need, axis, start, size, np.logical_or)
    outside = combine(lambda n, inside: n & ~inside, out, window)
    return [outside, need.broadcast(update.shape), *_needs_of_starts(out, x.shape, starts, update.shape)]


@forward(p.gather_p)
def gather_forward(x: Fact, indices: Fact, *, dimension_numbers, slice_sizes, mode, fill_value, **_) -> Fact:
    """`out[i] = x[indices[i]]`, window by window; what `fill` may put there is not zero."""
    windows = Windows.of_gather(x.shape, indices, dimension_numbers, slice_sizes, mode)
    if 0 in x.shape or 0 in windows.array:
        return Fact.live(windows.array)
    may_fill = mode == GatherScatterMode.FILL_OR_DROP and not windows.in_bounds and fill_value != 0

    def merge(value, moving):
        full = np.where(moving, LIVE, np.maximum(value, CONST))
        return full if may_fill else np.where(value == ZERO, ZERO, full)

    return Fact(combine(merge, windows.gather(x.value, np.maximum), windows.moving))


@backward(p.gather_p)
def gather_backward(out: Need, x: Fact, indices: Fact, *, dimension_numbers, slice_sizes, mode, **_) -> tuple[Need, Need]:
    """A row is needed iff a needed output may come from it, an index iff its window is."""
    windows = Windows.of_gather(x.shape, indices, dimension_numbers, slice_sizes, mode)
    if 0 in x.shape or 0 in windows.array:
        return needed(x.shape), needed(indices.shape)
    return windows.spread(out, False, np.logical_or), windows.to_indices(out, indices.shape)


@forward(p.scatter_p)
def scatter_forward(x: Fact, indices: Fact, updates: Fact, *, dimension_numbers, mode, update_jaxpr=None, **_) -> Fact:
    """The update where a window lies, the operand elsewhere, either where a window may lie; anything where a function is
    applied there (`x.at[i].apply(fn)`)."""
    if 0 in x.shape or 0 in updates.shape:
        return Fact.live(x.shape)
    windows = Windows.of_scatter(x.shape, indices, updates.shape, dimension_numbers, mode)
    written, moving, covered = _written(windows, updates)
    if update_jaxpr is not None:
        return Fact(combine(lambda value, c: np.where(c, LIVE, value), x.value, covered))
    if windows.rows is None:
        return Fact(combine(_meet, x.value, written, moving))
    return Fact(combine(lambda value, new, c: np.where(c, new, value), x.value, written, covered))


@forward("scatter-add", "scatter-sub")
def scatter_add_forward(x: Fact, indices: Fact, updates: Fact, *, dimension_numbers, mode, **_) -> Fact:
    """Zero where the operand is and no update that may come there is not."""
    if 0 in x.shape or 0 in updates.shape:
        return Fact.live(x.shape)
    windows = Windows.of_scatter(x.shape, indices, updates.shape, dimension_numbers, mode)
    written, moving, _ = _written(windows, updates)
    return Fact(combine(lambda value, new, m: _meet(value, new, m & (new != ZERO)), x.value, written, moving))


@forward("scatter-min", "scatter-max")
def scatter_min_forward(x: Fact, indices: Fact, updates: Fact, *, dimension_numbers, mode, **_) -> Fact:
    """Zero where the operand is and no update that may come there is not."""
    if 0 in x.shape or 0 in updates.shape:
        return Fact.live(x.shape)
    written, moving, _ = _written(Windows.of_scatter(x.shape, indices, updates.shape, dimension_numbers, mode), updates)
    return Fact(combine(_meet, x.value, written, moving))


@forward("scatter-mul")
def scatter_mul_forward(x: Fact, indices: Fact, updates: Fact, *, dimension_numbers, mode, **_) -> Fact:
    """Zero where the operand is."""
    if 0 in x.shape or 0 in updates.shape:
        return Fact.live(x.shape)
    written, moving, _ = _written(Windows.of_scatter(x.shape, indices, updates.shape, dimension_numbers, mode), updates)
    return Fact(combine(lambda value, new, m: np.where(value == ZERO, ZERO, _meet(value, new, m)), x.value, written, moving))


@backward(p.scatter_p)
def scatter_backward(
    out: Need, x: Fact, indices: Fact, updates: Fact, *, dimension_numbers, mode, update_jaxpr=None, **_
) -> list[Need]:
    """As of `scatter-add`, but what is surely overwritten is not needed."""
    needs = scatter_add_backward(out, x, indices, updates, dimension_numbers=dimension_numbers, mode=mode)
    if 0 in x.shape or 0 in updates.shape or update_jaxpr is not None:
        return needs
    windows = Windows.of_scatter(x.shape, indices, updates.shape, dimension_numbers, mode)
    if windows.rows is not None:
        covered = windows.spread(Grid.uniform(updates.shape, True), False, np.logical_or)
        needs[0] = combine(lambda need, c: need & ~c, out, covered)
    return needs


@backward("scatter-add", "scatter-sub", "scatter-min", "scatter-max", "scatter-mul")
def scatter_add_backward(out: Need, x: Fact, indices: Fact, updates: Fact, *, dimension_numbers, mode, **_) -> list[Need]:
    """An update is needed iff an output where it may come is; of the operand what is needed of the output."""
    if 0 in x.shape or 0 in updates.shape:
        return [out, needed(indices.shape), needed(updates.shape)]
    windows = Windows.of_scatter(x.shape, indices, updates.shape, dimension_numbers, mode)
    return [out, Grid.uniform(indices.shape, bool(out.cells.any())), windows.gather(out, np.logical_or)]


def _written(windows: Windows, updates: Fact) -> tuple[Grid, Grid, Grid]:
    """Per element of the operand: what may be written there, whether data says so, whether anything is."""
    covered = Grid.uniform(updates.shape, True)
    spread = lambda grid: windows.spread(grid, False, np.logical_or)
    return windows.spread(updates.value, ZERO, np.maximum), spread(windows.moving), spread(covered)


def _meet(value: np.ndarray, new: np.ndarray, moving: np.ndarray) -> np.ndarray:
    join = np.maximum(value, new)
    return np.where(moving & (join != ZERO), LIVE, join)


def _position(start: Fact, size: int, window: int) -> int | None:
    """Where a window begins, or None."""
    if size == window:
        return 0
    return None if start.known is None else int(np.clip(start.known, 0, size - window))


def _cut(grid: Grid, axis: int, start: Fact, window: int, join: np.ufunc) -> tuple[Grid, int | None]:
    """A window of one axis, or what holds of the axis (size 1) where the position is not known; and the position."""
    at = _position(start, grid.shape[axis], window)
    if at is None:
        return grid.reduce([axis], join, keepdims=True), None
    bounds = lambda position, whole: [position if d == axis else n for d, n in enumerate(whole)]
    return grid.slice(bounds(at, [0] * grid.ndim), bounds(at + window, grid.shape)), at


def _uncut(grid: Grid, shape: Sequence[int], starts: Sequence[Fact], sizes: Sequence[int], join: np.ufunc) -> Grid:
    """The transpose of a cut along all axes: a window's grid put back to where it may lie, zero elsewhere."""
    at = [_position(*args) for args in zip(starts, shape, sizes, strict=True)]
    grid = grid.reduce([d for d, a in enumerate(at) if a is None], join, keepdims=True)
    high = [0 if a is None else n - m - a for a, n, m in zip(at, shape, sizes, strict=True)]
    return grid.pad(0, [a or 0 for a in at], high).broadcast(shape)


def _needs_of_starts(out: Need, shape: Sequence[int], starts: Sequence[Fact], sizes: Sequence[int]) -> list[Need]:
    any_needed = bool(out.cells.any())
    return [Grid.uniform((), any_needed and n != m) for _, n, m in zip(starts, shape, sizes, strict=True)]


def _any_live(facts: Sequence[Fact]) -> bool:
    return any(not f.is_const for f in facts)
