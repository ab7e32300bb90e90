"""Views: which slices of a tensor are held, axis by axis."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from ...grid import Grid

Kept = np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """The part of a tensor that is a product of index sets.

    Attributes:
      shape: of the whole tensor.
      kept: for each axis the sorted indices that are held, None for all.
    """

    shape: tuple[int, ...]
    kept: tuple[Kept, ...]

    @classmethod
    def of(cls, shape: Sequence[int], kept: Sequence[Kept]) -> View:
        """The view with these index sets; one that holds all of its axis becomes None."""
        sets = (None if k is None or len(k) == n else np.asarray(k, np.int64) for n, k in zip(shape, kept, strict=True))
        return cls(tuple(shape), tuple(sets))

    @classmethod
    def whole(cls, shape: Sequence[int]) -> View:
        return cls(tuple(shape), (None,) * len(shape))

    @classmethod
    def empty(cls, shape: Sequence[int]) -> View:
        return cls.of(shape, [np.zeros(0, np.int64)] * len(shape))

    @classmethod
    def around(cls, keep: Grid) -> View:
        """The smallest view that holds every True element of a grid."""
        axes = range(keep.ndim)
        return cls.of(keep.shape, [_positions(keep.reduce([d for d in axes if d != axis])) for axis in axes])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of what is held."""
        return tuple(n if k is None else len(k) for n, k in zip(self.shape, self.kept, strict=True))

    @property
    def is_whole(self) -> bool:
        return all(k is None for k in self.kept)

    @property
    def is_empty(self) -> bool:
        return 0 in self.sizes

    @property
    def nonempty(self) -> View:
        """A view that holds something: an array without elements is nobody's operand."""
        return View.of(self.shape, [np.zeros(1, np.int64) if k is not None and not len(k) else k for k in self.kept])

    @functools.cached_property
    def key(self) -> tuple:
        """Hashable; the same for views that hold the same."""
        return (self.shape, *(k if k is None else k.tobytes() for k in self.kept))

    def indices(self, axis: int) -> np.ndarray:
        kept = self.kept[axis]
        return np.arange(self.shape[axis]) if kept is None else kept

    def along(self, axis: int, kept: Kept) -> View:
        """With another index set along one axis."""
        return View.of(self.shape, [kept if d == axis else k for d, k in enumerate(self.kept)])

    def whole_along(self, axes: Sequence[int]) -> View:
        return View(self.shape, tuple(None if d in axes else k for d, k in enumerate(self.kept)))

    def transpose(self, permutation: Sequence[int]) -> View:
        return View(tuple(self.shape[p] for p in permutation), tuple(self.kept[p] for p in permutation))

    def __or__(self, other: View) -> View:
        """The smallest view that holds both."""
        return View.of(self.shape, list(map(_union, self.kept, other.kept)))

    def __and__(self, other: View) -> View:
        return View.of(self.shape, list(map(meet, self.kept, other.kept)))

    def holds(self, other: View) -> bool:
        """Whether it holds all that another does."""
        return all(map(holds, self.kept, other.kept))

    def inside(self, axis: int) -> np.ndarray:
        """`bool[shape[axis]]`: which indices are held."""
        out = np.zeros(self.shape[axis], bool)
        out[self.indices(axis)] = True
        return out


def holds(a: Kept, b: Kept) -> bool:
    """Whether an index set holds all of another."""
    return a is None or b is not None and bool(np.isin(b, a).all())


def meet(a: Kept, b: Kept) -> Kept:
    """The intersection of two index sets."""
    if a is None or b is None:
        return b if a is None else a
    return np.intersect1d(a, b, assume_unique=True)


def _union(a: Kept, b: Kept) -> Kept:
    return None if a is None or b is None else np.union1d(a, b)


def _positions(line: Grid) -> Kept:
    values = line.elements()
    return None if values.all() else np.flatnonzero(values)


def mapped(kept: Kept, fn: Callable[[np.ndarray], np.ndarray]) -> Kept:
    """The sorted images of an index set; None stays None."""
    return None if kept is None else np.unique(fn(kept))


def view_of_operand(shape: Sequence[int], view: View) -> View:
    """A result's view as that of an operand, of which axes of size 1 are stretched."""
    if len(shape) != len(view.shape):
        return View.whole(shape)
    return View.of(shape, [k if n == m else None for n, m, k in zip(shape, view.shape, view.kept, strict=True)])
