"""How windows slide over an axis: convolutions, poolings and their gradients meet in the same triples of positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ...grid import Grid, contract

OUT, BASE, TAP = "out", "base", "tap"
MEETINGS = 1 << 21  # of outputs and taps along one axis that are looked at one by one
ENTRIES = 1 << 24  # of one table or array; beyond it facts along the windows' axes are joined first


@dataclasses.dataclass(frozen=True)
class Sliding:
    """One axis of windows over a base.

    Output `o` meets element `b` of the base at tap `t` iff `o * stride + t * window_dilation == b * base_dilation + low`.

    Attributes:
      base: the base's size.
      taps: the window's size.
      stride: how far the window moves from one output to the next.
      low, high: padding; negative amounts cut off.
      base_dilation, window_dilation: how far neighbours lie apart.
    """

    base: int
    taps: int
    stride: int
    low: int
    high: int
    base_dilation: int
    window_dilation: int

    @property
    def out(self) -> int:
        padded = _dilated(self.base, self.base_dilation) + self.low + self.high
        return max((padded - _dilated(self.taps, self.window_dilation)) // self.stride + 1, 0)

    @property
    def is_identity(self) -> bool:
        return (self.taps, self.stride, self.low, self.high, self.base_dilation) == (1, 1, 0, 0, 1)

    @property
    def is_long(self) -> bool:
        """Whether too much may meet to be looked at one by one: then all is said to meet all."""
        return self.out * self.taps > MEETINGS or self.out * self.base > ENTRIES

    @property
    def surely_meets(self) -> bool:
        """Whether no window can lie in the padding, or between elements, alone."""
        return (self.base_dilation, self.window_dilation) == (1, 1) and max(self.low, self.high) < self.taps and self.base > 0

    def size(self, role: str) -> int:
        return {OUT: self.out, BASE: self.base, TAP: self.taps}[role]

    def table(self, target: str, left: tuple[str, np.ndarray], right: tuple[str, np.ndarray]) -> Table:
        """Which cells of `left` and `right` (a role and its cuts) meet at each position of `target`.

        Exact, but for an axis with very many positions: there all meet all."""
        cells = len(left[1]) - 1, len(right[1]) - 1
        size = self.size(target)
        if self.out * self.taps > MEETINGS or size * cells[0] * cells[1] > ENTRIES:
            return Table(np.ones((min(size, 1), *cells), np.bool_), np.zeros(size, np.int64))
        out, tap = (a.ravel() for a in np.indices((self.out, self.taps)))
        base, rest = np.divmod(out * self.stride + tap * self.window_dilation - self.low, self.base_dilation)
        valid = (rest == 0) & (base >= 0) & (base < self.base)
        at = {OUT: out[valid], BASE: base[valid], TAP: tap[valid]}
        table = np.zeros((size, *cells), np.bool_)
        cell = lambda role, cuts: np.searchsorted(cuts, at[role], "right") - 1
        table[at[target], cell(*left), cell(*right)] = True
        rows = np.packbits(table.reshape(size, -1), axis=1)
        kinds, kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)[1:]
        return Table(table[kinds], kind.reshape(-1))


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """What meets at the positions of an axis, one row per kind of position.

    Attributes:
      kinds: `bool[kind, x, y]`: the cells `x` and `y` meet.
      kind: each position's.
    """

    kinds: np.ndarray
    kind: np.ndarray


def slide(grid: Grid, slides: Sequence[Sliding], source: str, target: str) -> Grid:
    """A boolean grid of the outputs (the base), seen from the base (the outputs): True iff some tap leads to a True."""
    for axis, s in enumerate(slides):
        if s.is_identity:
            continue
        table = s.table(target, (source, grid.cuts[axis]), (TAP, np.array([0, s.taps])))
        cells = np.moveaxis(_apply(np.moveaxis(grid.cells, axis, -1), table.kinds[:, :, 0]), -1, axis)
        grid = _expanded(cells, grid.cuts, {axis: table})
    return grid


def meet(slides: Sequence[Sliding], target: str, left_role: str, left: Grid, right_role: str, right: Grid) -> Grid:
    """`out[g, m, n, z...]` is True iff some `k` and some `x`, `y` that meet at `z` have both `left[g, m, k, x...]` and
    `right[g, n, k, y...]`; too much work is saved by joining facts along `x` or `y`, which only adds to what is True."""
    sizes = [s.size(target) for s in slides]
    shape = [*left.shape[:2], right.shape[1], *sizes]
    if 0 in shape or not (left.cells.any() and right.cells.any()):
        return Grid.uniform(shape, False)
    axes = zip(slides, left.cuts[3:], right.cuts[3:], strict=True)
    tables = [s.table(target, (left_role, x), (right_role, y)) for s, x, y in axes]
    if (coarse := _coarser(tables, left, right)) is not None:
        return meet(slides, target, left_role, coarse[0], right_role, coarse[1])
    cells = left.cells
    for table in tables:  # the axis `x` in front becomes the axes `z` and `y` behind
        z, x, y = table.kinds.shape
        cells = _apply(np.moveaxis(cells, 3, -1), table.kinds.transpose(0, 2, 1).reshape(-1, x))
        cells = cells.reshape(*cells.shape[:-1], z, y)
    units = lambda sizes: [np.arange(n + 1) for n in sizes]
    seen = Grid.make(cells, [*left.cuts[:3], *units(cells.shape[3:])])
    taps = [4 + 2 * i for i in range(len(slides))]
    right = Grid(right.cells, (*right.cuts[:3], *units(right.cells.shape[3:])))
    out = contract(seen, right, [2, *taps], [2, *range(3, right.ndim)], [0], [0])
    out = out.transpose([0, 1, out.ndim - 1, *range(2, out.ndim - 1)])
    kinds = out.refined([*out.cuts[:3], *units(out.shape[3:])])
    return _expanded(kinds, out.cuts, {3 + i: table for i, table in enumerate(tables)})


def _expanded(cells: np.ndarray, cuts: Sequence[np.ndarray], tables: dict[int, Table]) -> Grid:
    """The grid with each of the axes in `tables` taken position by position from its kinds."""
    cuts = list(cuts)
    for axis, table in tables.items():
        first = np.flatnonzero(np.append(True, table.kind[1:] != table.kind[:-1])) if len(table.kind) else np.zeros(0, np.int64)
        cuts[axis] = np.append(first, len(table.kind))
        cells = np.take(cells, table.kind[first], axis)
    return Grid.make(cells, cuts)


def _coarser(tables, left: Grid, right: Grid) -> tuple[Grid, Grid] | None:
    """The two with the facts of the finer one joined along the sliding axes, where meeting them is too much work."""
    seen = np.prod([float(n) for n in left.cells.shape[:3]]) * np.prod([float(t.kinds[:, 0].size) for t in tables])
    if seen <= ENTRIES and seen * right.cells.shape[1] <= 64 * ENTRIES:
        return None
    finer = np.prod(left.cells.shape[3:]) >= np.prod(right.cells.shape[3:])
    if left.cells.shape[3:] == right.cells.shape[3:] == (1,) * len(tables):
        return None
    join = lambda grid: grid.reduce(range(3, grid.ndim), keepdims=True).broadcast(grid.shape)
    return (join(left), right) if finer else (left, join(right))


def _apply(cells: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`out[..., z]` is True iff some `x` has both `cells[..., x]` and `table[z, x]`."""
    if table.shape[1] == 1:
        return cells & table[:, 0]
    return cells.astype(np.float32) @ table.T.astype(np.float32) > 0


def _dilated(size: int, dilation: int) -> int:
    return (size - 1) * dilation + 1 if size else 0
