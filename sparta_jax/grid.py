"""A tensor-shaped table of facts in which neighbours that are equal share one cell."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Cuts = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Facts about the elements of a tensor, one per cell.

    The axes are cut at sorted positions, and a cell is a product of intervals: cell `(i, j)` covers the elements
    `cuts[0][i]:cuts[0][i + 1], cuts[1][j]:cuts[1][j + 1]`. A grid is always as coarse as its content allows: a cut stands
    only where the slices on its two sides differ. So equal content means equal cells and cuts.

    Attributes:
      cells: `[cells of axis 0, cells of axis 1, ...]`, any dtype; read-only.
      cuts: one array per axis, from 0 to the axis' size, strictly increasing. An axis of size 0 has the one cut 0 and no cell.
    """

    cells: np.ndarray
    cuts: Cuts

    @classmethod
    def make(cls, cells: np.ndarray, cuts: Iterable[Sequence[int] | np.ndarray]) -> Grid:
        """The grid with these cells, made as coarse as its content allows. It may keep `cells` itself: hand over a copy."""
        cuts = tuple(np.asarray(c, np.int64) for c in cuts)
        assert cells.shape == tuple(len(c) - 1 for c in cuts), (cells.shape, cuts)
        for axis in range(cells.ndim):
            cells, cut = _coarsen(cells, cuts[axis], axis)
            cuts = (*cuts[:axis], cut, *cuts[axis + 1 :])
        cells = np.asarray(cells).view()  # read-only here, and the caller's array stays as it is
        cells.flags.writeable = False
        return cls(cells, cuts)

    @classmethod
    def of_elements(cls, elements: np.ndarray) -> Grid:
        """The grid of an array with one entry per element."""
        return cls.make(elements, [np.arange(n + 1) for n in elements.shape])

    @classmethod
    def uniform(cls, shape: Sequence[int], value) -> Grid:
        """The grid of one cell."""
        cells = np.full([min(n, 1) for n in shape], value)
        cells.flags.writeable = False
        return cls(cells, tuple(np.array([0, n] if n else [0]) for n in shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(c[-1]) for c in self.cuts)

    @property
    def ndim(self) -> int:
        return len(self.cuts)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_uniform(self) -> bool:
        """Whether all elements share one value (true of an empty tensor)."""
        return self.cells.size <= 1

    @functools.cached_property
    def weights(self) -> np.ndarray:
        """`int64[cells]`: how many elements each cell covers."""
        out = np.ones((), np.int64)
        for cut in self.cuts:
            out = out[..., None] * np.diff(cut)
        return out

    @property
    def nnz(self) -> int:
        """How many elements are not zero."""
        count = self.cells.astype(np.bool_, copy=False)
        for cut in reversed(self.cuts):
            count = _weighted_sum(count, np.diff(cut))
        return int(count)

    def elements(self) -> np.ndarray:
        """The table with one entry per element (a read-only view where an axis is one cell)."""
        out = self.cells
        for axis, cut in enumerate(self.cuts):
            if out.shape[axis] > 1:
                out = np.repeat(out, np.diff(cut), axis)
        return np.broadcast_to(out, self.shape)

    def __eq__(self, other) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return (
            self.shape == other.shape
            and self.cells.shape == other.cells.shape
            and all(np.array_equal(a, b) for a, b in zip(self.cuts, other.cuts, strict=True))
            and np.array_equal(self.cells, other.cells)
        )

    __hash__ = None  # type: ignore[assignment]

    # -- combining

    def map(self, fn: Callable[[np.ndarray], np.ndarray]) -> Grid:
        """`fn` of every cell, elementwise."""
        return Grid.make(np.asarray(fn(self.cells)), self.cuts)

    def refined(self, cuts: Iterable[np.ndarray]) -> np.ndarray:
        """The cells at finer `cuts`, which contain this grid's own."""
        out = self.cells
        for axis, (own, new) in enumerate(zip(self.cuts, cuts, strict=True)):
            if len(own) != len(new):
                out = np.take(out, np.searchsorted(own, new[:-1], "right") - 1, axis)
        return out

    def block(self, sizes: Sequence[int], reduce=np.logical_or) -> np.ndarray:
        """One entry per block of `sizes` (the last block of an axis may be smaller): `reduce` over its elements."""
        out, runs = self._runs_of_blocks(sizes, reduce)
        for axis, lengths in enumerate(runs):
            out = np.repeat(out, lengths, axis)
        return out

    def count_blocks(self, sizes: Sequence[int]) -> int:
        """How many blocks of `sizes` hold a True element."""
        out, runs = self._runs_of_blocks(sizes, np.logical_or)
        for lengths in reversed(runs):
            out = out @ lengths
        return int(out)

    def _runs_of_blocks(self, sizes: Sequence[int], reduce) -> tuple[np.ndarray, list[np.ndarray]]:
        """One entry per run of neighbouring blocks that lie in the same cell, and along each axis the lengths of the runs."""
        out, runs = self.cells, []
        for axis in reversed(range(self.ndim)):  # the last axis first: numpy reduces it ten times as fast as any other
            cut, size = self.cuts[axis], sizes[axis]
            edges = np.append(np.arange(0, cut[-1], size), cut[-1])
            first, end = np.searchsorted(cut, edges[:-1], "right") - 1, np.searchsorted(cut, edges[1:], "left")
            starts = np.flatnonzero(np.diff(first, prepend=-1) | np.diff(end, prepend=-1))
            lengths = (end - first)[starts]
            before = np.cumsum(lengths) - lengths
            out = np.take(out, np.repeat(first[starts] - before, lengths) + np.arange(lengths.sum()), axis)
            if (lengths > 1).any():
                out = reduce.reduceat(out, before, axis)
            runs.insert(0, np.diff(starts, append=len(first)))
        return out, runs

    # -- movement

    def transpose(self, permutation: Sequence[int]) -> Grid:
        return Grid(self.cells.transpose(permutation), tuple(self.cuts[p] for p in permutation))

    def broadcast(self, shape: Sequence[int], axes: Sequence[int] | None = None) -> Grid:
        """Axis `i` becomes axis `axes[i]` of `shape` (aligned at the end unless told); size 1 stretches, new axes repeat."""
        axes = range(len(shape) - self.ndim, len(shape)) if axes is None else axes
        assert list(axes) == sorted(axes)
        if 0 in shape:
            return Grid.uniform(shape, self.cells.flat[0] if self.cells.size else np.zeros((), self.cells.dtype))
        cells = np.expand_dims(self.cells, [d for d in range(len(shape)) if d not in axes])
        cuts = [np.array([0, n]) for n in shape]
        for own, axis in zip(self.cuts, axes, strict=True):
            if own[-1] == shape[axis]:
                cuts[axis] = own
        return Grid(cells, tuple(cuts))

    def reshape(self, shape: Sequence[int]) -> Grid:
        """The same elements in row-major order; only axes that are merged or split are cut finer."""
        shape = tuple(shape)
        if shape == self.shape:
            return self
        if self.is_uniform:
            return Grid.uniform(shape, self.cells.flat[0] if self.cells.size else np.zeros((), self.cells.dtype))
        cells, cuts, out = self.cells, list(self.cuts), []
        axis = 0
        for olds, news in reshape_groups(self.shape, shape):
            cells, flat = _merge(cells, cuts[: len(olds)], axis)
            cuts = cuts[len(olds) :]
            cells, new = _split(cells, flat, news, axis)
            out += new
            axis += len(news)
        return Grid.make(cells, out)

    def slice(self, starts: Sequence[int], limits: Sequence[int], strides: Sequence[int] | None = None) -> Grid:
        strides = strides or (1,) * self.ndim
        grid = self
        for axis, (start, limit, stride) in enumerate(zip(starts, limits, strides, strict=True)):
            grid = grid._slice_axis(axis, start, limit, stride)
        return Grid.make(grid.cells, grid.cuts)

    def _slice_axis(self, axis: int, start: int, limit: int, stride: int) -> Grid:
        cut = self.cuts[axis]
        if (start, limit, stride) == (0, cut[-1], 1):
            return self
        size = len(range(start, limit, stride))
        inner = np.clip(-(-(cut[1:-1] - start) // stride), 0, size)  # the first output element at or behind each cut
        cuts = np.unique(np.concatenate([[0, size], inner]))
        cells = np.take(self.cells, np.searchsorted(cut, start + cuts[:-1] * stride, "right") - 1, axis)
        return Grid(cells, (*self.cuts[:axis], cuts, *self.cuts[axis + 1 :]))

    def take(self, axis: int, indices: np.ndarray) -> Grid:
        """The slices at `indices` of one axis, in that order."""
        cells = np.take(self.cells, np.searchsorted(self.cuts[axis], indices, "right") - 1, axis)
        cuts = np.arange(len(indices) + 1)
        return Grid.make(cells, (*self.cuts[:axis], cuts, *self.cuts[axis + 1 :]))

    def reverse(self, axes: Sequence[int]) -> Grid:
        cuts = tuple((c[-1] - c)[::-1] if d in axes else c for d, c in enumerate(self.cuts))
        return Grid(np.flip(self.cells, tuple(axes)), cuts)

    def pad(self, value, low: Sequence[int], high: Sequence[int], interior: Sequence[int] | None = None) -> Grid:
        """As `lax.pad`: negative amounts cut off, interior ones lie between neighbours."""
        grid = self
        for axis in range(self.ndim):
            grid = grid._pad_axis(axis, value, low[axis], high[axis], interior[axis] if interior else 0)
        return grid

    def _pad_axis(self, axis: int, value, low: int, high: int, interior: int) -> Grid:
        if not (low or high or interior):
            return self
        size = self.shape[axis]
        spread = max(size + (size - 1) * interior, 0) if size else 0
        where = np.full(max(spread + low + high, 0), -1)
        at = low + np.arange(size) * (interior + 1)
        inside = (at >= 0) & (at < len(where))
        where[at[inside]] = np.arange(size)[inside]
        padding = Grid.uniform([*self.shape[:axis], 1, *self.shape[axis + 1 :]], np.asarray(value, self.cells.dtype))
        return concatenate([self, padding], axis).take(axis, np.where(where < 0, size, where))

    # -- reduction

    def reduce(self, axes: Sequence[int], fn=np.logical_or, keepdims: bool = False) -> Grid:
        """`fn` over all elements along `axes`; `fn` must be idempotent (any, all, max, min)."""
        cells = fn.reduce(self.cells, axis=tuple(axes), keepdims=keepdims)
        if keepdims:
            return Grid.make(cells, [np.array([0, 1]) if d in axes else c for d, c in enumerate(self.cuts)])
        return Grid.make(np.asarray(cells), [c for d, c in enumerate(self.cuts) if d not in axes])


def combine(fn: Callable[..., np.ndarray], *grids: Grid) -> Grid:
    """`fn` of the cells of several grids, elementwise; axes of size 1 and scalars stretch."""
    if all(g.ndim == 0 or g.is_uniform and g.cells.size for g in grids):
        values = [g.cells.reshape(()) for g in grids]
        return Grid.uniform(np.broadcast_shapes(*(g.shape for g in grids)), fn(*values))
    shape = np.broadcast_shapes(*(g.shape for g in grids))
    grids = tuple(g if g.shape == shape else g.broadcast(shape) for g in grids)
    cuts = tuple(functools.reduce(_union, cs) for cs in zip(*(g.cuts for g in grids), strict=True))
    return Grid.make(np.asarray(fn(*(g.refined(cuts) for g in grids))), cuts)


def concatenate(grids: Sequence[Grid], axis: int) -> Grid:
    others = [functools.reduce(_union, cs) for d, cs in enumerate(zip(*(g.cuts for g in grids), strict=True)) if d != axis]
    cells, cuts, at = [], [np.zeros(1, np.int64)], 0
    for g in grids:
        cells.append(g.refined([*others[:axis], g.cuts[axis], *others[axis:]]))
        cuts.append(g.cuts[axis][1:] + at)
        at += g.shape[axis]
    return Grid.make(np.concatenate(cells, axis), [*others[:axis], np.concatenate(cuts), *others[axis:]])


def contract(lhs: Grid, rhs: Grid, l_contract, r_contract, l_batch=(), r_batch=()) -> Grid:
    """`out[b, m, n]` is True iff some `k` has both `lhs[b, m, k]` and `rhs[b, k, n]`; axes ordered as by `dot_general`."""
    l_free = [d for d in range(lhs.ndim) if d not in (*l_contract, *l_batch)]
    r_free = [d for d in range(rhs.ndim) if d not in (*r_contract, *r_batch)]
    shape = [lhs.shape[d] for d in (*l_batch, *l_free)] + [rhs.shape[d] for d in r_free]
    if not (lhs.cells.any() and rhs.cells.any()) or 0 in shape:
        return Grid.uniform(shape, False)
    if lhs.is_uniform and rhs.is_uniform:
        return Grid.uniform(shape, True)
    l_cuts, r_cuts = list(lhs.cuts), list(rhs.cuts)
    for i, j in zip((*l_contract, *l_batch), (*r_contract, *r_batch), strict=True):
        l_cuts[i] = r_cuts[j] = _union(lhs.cuts[i], rhs.cuts[j])
    left = lhs.refined(l_cuts).transpose(*l_batch, *l_free, *l_contract)
    right = rhs.refined(r_cuts).transpose(*r_batch, *r_contract, *r_free)
    batch = left.shape[: len(l_batch)]
    m, n = left.shape[len(batch) : len(batch) + len(l_free)], right.shape[len(batch) + len(r_contract) :]
    flat_l = left.reshape(*batch, math.prod(m), -1).astype(np.float32)
    flat_r = right.reshape(*batch, -1, math.prod(n)).astype(np.float32)
    cells = (flat_l @ flat_r > 0).reshape((*batch, *m, *n))
    return Grid.make(cells, [*(l_cuts[d] for d in (*l_batch, *l_free)), *(r_cuts[d] for d in r_free)])


def _coarsen(cells: np.ndarray, cut: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    if cells.shape[axis] <= 1:
        return cells, cut
    moved = np.moveaxis(cells, axis, 0)
    differs = (moved[1:] != moved[:-1]).any(axis=tuple(range(1, moved.ndim)))
    if differs.all():
        return cells, cut
    first = np.flatnonzero(np.append(True, differs))
    return np.take(cells, first, axis), np.append(cut[first], cut[-1])


def _weighted_sum(cells: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """`cells @ widths`, counting what is not zero where `cells` is boolean: widths are few, and no wide integers are made."""
    if cells.dtype != np.bool_:
        return cells @ widths
    total = np.zeros(cells.shape[:-1], np.int64)
    for width in np.unique(widths):
        alike = widths == width
        total += width * np.count_nonzero(cells if alike.all() else cells[..., alike], axis=-1)
    return total


def _union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a if a is b or len(b) <= 2 else b if len(a) <= 2 else np.union1d(a, b)


def reshape_groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Splits a reshape into the smallest runs of axes with equal products (no axis is empty)."""
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        a, b = old[i : i + 1], new[j : j + 1]
        i, j = i + len(a), j + len(b)
        while math.prod(a) != math.prod(b):
            if math.prod(a) < math.prod(b):
                a, i = (*a, old[i]), i + 1
            else:
                b, j = (*b, new[j]), j + 1
        groups.append((a, b))
    return groups


def _merge(cells: np.ndarray, cuts: list[np.ndarray], axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Merges the axes `axis, axis + 1, ...` that `cuts` belong to into one."""
    if not cuts:
        return np.expand_dims(cells, axis), np.array([0, 1])
    flat = cuts[0]
    for inner in cuts[1:]:
        size = inner[-1]
        if len(inner) == 2:
            cells, flat = cells.squeeze(axis + 1), flat * size
            continue
        cells = np.repeat(cells, np.diff(flat), axis)
        cells = cells.reshape(*cells.shape[:axis], -1, *cells.shape[axis + 2 :])
        flat = np.append((np.arange(flat[-1])[:, None] * size + inner[:-1]).ravel(), flat[-1] * size)
    return cells, flat


def _split(cells: np.ndarray, flat: np.ndarray, sizes: tuple[int, ...], axis: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Splits the axis with the cuts `flat` into axes of `sizes`."""
    if not sizes:
        return cells.squeeze(axis), []
    cuts = []
    for k in range(len(sizes) - 1):
        outer, inner = sizes[k], math.prod(sizes[k + 1 :])
        residues = np.unique(flat % inner)
        if len(residues) == 1:
            rows, within = flat // inner, np.array([0, inner])
        else:
            rows, within = np.arange(outer + 1), np.append(residues, inner)
        fine = np.append((rows[:-1, None] * inner + within[:-1]).ravel(), flat[-1])
        cells = np.take(cells, np.searchsorted(flat, fine[:-1], "right") - 1, axis)
        cells = cells.reshape(*cells.shape[:axis], len(rows) - 1, len(within) - 1, *cells.shape[axis + 1 :])
        cuts.append(rows)
        flat, axis = within, axis + 1
    return cells, [*cuts, flat]
