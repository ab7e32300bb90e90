"""How the windows that indices select lie in an operand: gather and scatter are each other's transposes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jax.lax import GatherScatterMode

from ...grid import Grid
from ..facts import LIVE, Fact, Need


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one operand, and the array that holds them: a gather's result, a scatter's updates.

    Attributes:
      operand: the operand's shape.
      array: the shape of the array of windows.
      indexed: operand axes with a start index.
      offsets: for each operand axis that the array keeps, its axis in the array.
      batched: for each operand axis that goes along with an axis of the indices, its axis in the array.
      sizes: the window's size along each operand axis.
      batch: axes of the array that count windows, in the order of the indices' axes.
      moving: boolean grid of the array's shape: the window's position depends on data.
      rows: where a single axis is indexed, row by row at known positions, the row of each window; else None.
      in_bounds: whether all positions are known to lie inside the operand.
    """

    operand: tuple[int, ...]
    array: tuple[int, ...]
    indexed: tuple[int, ...]
    offsets: dict[int, int]
    batched: dict[int, int]
    sizes: tuple[int, ...]
    batch: tuple[int, ...]
    moving: Grid
    rows: np.ndarray | None
    in_bounds: bool

    @classmethod
    def of_gather(cls, operand: Sequence[int], indices: Fact, numbers, sizes: Sequence[int], mode) -> Windows:
        """The windows of a gather with `GatherDimensionNumbers`."""
        kept = _kept(operand, numbers.collapsed_slice_dims, numbers.operand_batching_dims)
        offsets = dict(zip(kept, sorted(numbers.offset_dims), strict=True))
        lengths = {offsets[d]: sizes[d] for d in kept}
        batch = [d for d in range(len(kept) + len(indices.shape) - 1) if d not in lengths]
        lengths.update(zip(batch, indices.shape[:-1], strict=True))
        array = [lengths[d] for d in range(len(lengths))]
        along = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
        return cls._make(operand, array, numbers.start_index_map, offsets, along, sizes, batch, indices, mode)

    @classmethod
    def of_scatter(cls, operand: Sequence[int], indices: Fact, updates: Sequence[int], numbers, mode) -> Windows:
        """The windows of a scatter with `ScatterDimensionNumbers`."""
        kept = _kept(operand, numbers.inserted_window_dims, numbers.operand_batching_dims)
        offsets = dict(zip(kept, sorted(numbers.update_window_dims), strict=True))
        sizes = [updates[offsets[d]] if d in offsets else 1 for d in range(len(operand))]
        batch = [d for d in range(len(updates)) if d not in offsets.values()]
        along = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
        return cls._make(operand, updates, numbers.scatter_dims_to_operand_dims, offsets, along, sizes, batch, indices, mode)

    @classmethod
    def _make(cls, operand, array, indexed, offsets, along, sizes, batch, indices: Fact, mode) -> Windows:
        batched = {d: batch[i] for d, i in along}
        moving = indices.value.map(lambda c: c == LIVE).reduce([len(indices.shape) - 1]).broadcast(array, batch)
        last = [operand[d] - sizes[d] for d in indexed]
        rows, in_bounds = None, not indexed
        if indices.known is not None and indexed:
            in_bounds = bool(((indices.known >= 0) & (indices.known <= last)).all())
            if len(indexed) == 1 and indexed[0] not in offsets and not batched:
                clipped = indices.known if in_bounds else np.clip(indices.known, 0, last)
                rows = clipped.ravel() if in_bounds or mode != GatherScatterMode.FILL_OR_DROP else None
        shapes = tuple(operand), tuple(array)
        return cls(*shapes, tuple(indexed), offsets, batched, tuple(sizes), tuple(batch), moving, rows, in_bounds)

    def gather(self, grid: Grid, join: np.ufunc) -> Grid:
        """A grid of the operand, seen through the windows; `join` over all places where a window may lie.

        No axis of the operand is empty."""
        axes = []  # of the array, one per axis of `grid`
        for d in reversed(range(len(self.operand))):
            if d in self.indexed and self.rows is not None:
                counts = [self.array[b] for b in self.batch]
                grid = grid.take(d, self.rows)
                grid = grid.reshape([*grid.shape[:d], *counts, *grid.shape[d + 1 :]])
                axes = [*self.batch, *axes]
            elif d in self.batched:
                axes = [self.batched[d], *axes]
            elif d not in self.offsets:
                grid = grid.reduce([d], join)
            else:
                grid = grid.reduce([d], join, keepdims=True) if d in self.indexed else _head(grid, d, self.sizes[d])
                axes = [self.offsets[d], *axes]
        order = sorted(range(len(axes)), key=axes.__getitem__)
        return grid.transpose(order).broadcast(self.array, [axes[i] for i in order])

    def spread(self, grid: Grid, fill, join: np.ufunc) -> Grid:
        """A grid of the array of windows, put back to every place of the operand where a window may lie, `fill` elsewhere."""
        if self.rows is None:
            counting = [b for b in self.batch if b not in self.batched.values()]
            back = {a: d for d, a in (*self.offsets.items(), *self.batched.items())}
            axes = [back[a] for a in range(grid.ndim) if a not in counting]
            grid = grid.reduce(counting, join)
        else:
            kept = sorted(self.offsets, key=self.offsets.__getitem__)
            grid = grid.transpose([*self.batch, *(self.offsets[d] for d in kept)])
            grid = grid.reshape([len(self.rows), *grid.shape[len(self.batch) :]])
            grid = _put_rows(grid, self.rows, self.operand[self.indexed[0]], fill, join)
            axes = [self.indexed[0], *kept]
        order = sorted(range(len(axes)), key=axes.__getitem__)
        grid, axes = grid.transpose(order), [axes[i] for i in order]
        grid = grid.reduce([i for i, d in enumerate(axes) if d in self.indexed and self.rows is None], join, keepdims=True)
        stays = [d in self.batched or d in self.indexed for d in axes]
        high = [0 if stay else self.operand[d] - n for d, n, stay in zip(axes, grid.shape, stays, strict=True)]
        return grid.pad(fill, [0] * len(axes), high).broadcast(self.operand, axes)

    def to_indices(self, need: Need, shape: Sequence[int]) -> Need:
        """The need of indices of `shape`: an index is needed iff an element of its window is."""
        own = need.reduce([d for d in range(need.ndim) if d not in self.batch])
        return own.broadcast(shape, range(own.ndim))


def _kept(operand: Sequence[int], *dropped: Sequence[int]) -> list[int]:
    return [d for d in range(len(operand)) if not any(d in axes for axes in dropped)]


def _head(grid: Grid, axis: int, size: int) -> Grid:
    return grid.slice([0] * grid.ndim, [size if d == axis else n for d, n in enumerate(grid.shape)])


def _put_rows(grid: Grid, rows: np.ndarray, size: int, fill, join: np.ufunc) -> Grid:
    """Row `i` of a grid goes to row `rows[i]` of one with `size` rows; `join` where they meet, `fill` where none goes."""
    cells = grid.refined([np.arange(len(rows) + 1), *grid.cuts[1:]])
    out = np.full((size, *cells.shape[1:]), fill, cells.dtype)
    join.at(out, rows, cells)
    return Grid.make(out, [np.arange(size + 1), *grid.cuts[1:]])
