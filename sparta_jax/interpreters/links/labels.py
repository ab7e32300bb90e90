"""Labels along the axes of values, and which of them name one channel."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

PINNED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Factor:
    """Labels of the positions along some axes of a value.

    Several axes where one that carried labels was split: the label of `[head, width]` is then that of a position of both.

    Attributes:
      axes: increasing.
      labels: int `[sizes of the axes]`.
    """

    axes: tuple[int, ...]
    labels: np.ndarray

    @property
    def is_pinned(self) -> bool:
        return not self.labels.any()


Labels = tuple[Factor, ...]  # of one value: no axis is in two factors; an axis in none is free


def factors(axes: Sequence[int], labels: np.ndarray) -> Labels:
    """The labels along some axes, in any order: without axes of one position and those that they do not vary along."""
    order = np.argsort(axes)
    axes, labels = [axes[i] for i in order], labels.transpose(order)
    if not labels.size:
        return ()
    if not labels.any():
        return tuple(Factor((a,), np.zeros(n, np.int64)) for a, n in zip(axes, labels.shape, strict=True) if n > 1)
    for d in reversed(range(labels.ndim)):
        if labels.shape[d] == 1 or (len(axes) > 1 and (labels == labels.take([0], d)).all()):
            labels, axes = labels.take(0, d), axes[:d] + axes[d + 1 :]
    return (Factor(tuple(axes), labels),) if axes else ()


def pinned(shape: Sequence[int], axes: Iterable[int] | None = None) -> Labels:
    """Labels of a value no channel of which may die, along these axes (all, unless told)."""
    along = range(len(shape)) if axes is None else axes
    return tuple(f for d in along for f in factors((d,), np.zeros(shape[d], np.int64)))


def renamed(labels: Labels, places: dict[int, int]) -> Labels:
    """The axes under other numbers."""
    return tuple(f for old in labels for f in factors([places[a] for a in old.axes], old.labels))


class Links:
    """Collects which labels name one channel."""

    def __init__(self) -> None:
        self._edges: list[np.ndarray] = []
        self._next = PINNED + 1

    def fresh(self, shape: Sequence[int]) -> np.ndarray:
        """A label of its own for every position."""
        size = int(np.prod(shape, dtype=np.int64))
        self._next += size
        return np.arange(self._next - size, self._next).reshape(shape)

    def unite(self, a: np.ndarray, b: np.ndarray | int) -> None:
        """These are one channel, position by position."""
        pairs = np.stack([x.ravel() for x in np.broadcast_arrays(a, b)], 1)
        self._edges.append(np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0))

    def pin(self, labels: Labels) -> None:
        """None of these may die."""
        for factor in labels:
            self.unite(factor.labels, PINNED)

    def narrowed(self, factor: Factor, kept: Iterable[int]) -> Labels:
        """The labels along `kept` axes alone: what differs along the others only is one channel from here on."""
        kept = set(kept)
        axes = [a for a in factor.axes if a in kept]
        if len(axes) == len(factor.axes) or not axes:
            return (factor,) if axes else ()
        first = factor.labels[tuple(slice(None) if a in kept else slice(0, 1) for a in factor.axes)]
        self.unite(factor.labels, first)
        return factors(axes, first.reshape([n for n, a in zip(factor.labels.shape, factor.axes, strict=True) if a in kept]))

    def joined(self, *all_labels: Labels) -> Labels:
        """The labels of a value of which each position meets that of every other value."""
        return functools.reduce(self._joined, all_labels, ())

    def _joined(self, a: Labels, b: Labels) -> Labels:
        """Factors of several axes that meet others are narrowed to their first axis; what meets the rest is pinned."""
        out: list[Factor] = []
        for cluster in _clusters([*a, *b]):
            if len({f.axes for f in cluster}) > 1:
                cluster = self._narrowed_to_first(cluster)
            by_axes: dict[tuple[int, ...], list[Factor]] = {}
            for factor in cluster:
                by_axes.setdefault(factor.axes, []).append(factor)
            for first, *others in by_axes.values():
                for other in others:
                    self.unite(first.labels, other.labels)
                out.append(next((f for f in (first, *others) if f.is_pinned), first))
        return tuple(out)

    def _narrowed_to_first(self, cluster: list[Factor]) -> list[Factor]:
        several = [f for f in cluster if len(f.axes) > 1]
        kept = {f.axes[0] for f in several}
        lost = {a for f in several for a in f.axes} - kept
        self.pin(tuple(f for f in cluster if f.axes[0] in lost))
        free = [f for f in cluster if f.axes[0] not in lost]
        return [g for f in free for g in self.narrowed(f, f.axes[:1])]

    def without(self, labels: Labels, dropped: Iterable[int]) -> Labels:
        """The labels of a value that is summed over some axes; the others keep their numbers."""
        dropped = set(dropped)
        return tuple(g for f in labels for g in self.narrowed(f, set(f.axes) - dropped))

    def fixed(self, labels: Labels, axes: Iterable[int]) -> Labels:
        """The labels of a value without those along axes that are used as a whole: these are pinned."""
        axes = set(axes)
        self.pin(tuple(f for f in labels if axes.intersection(f.axes)))
        return tuple(f for f in labels if axes.isdisjoint(f.axes))

    def channels(self) -> np.ndarray:
        """For each label the smallest one of its channel."""
        parent = np.arange(self._next)
        edges = np.concatenate([np.empty((0, 2), np.int64), *self._edges])
        while True:
            a, b = parent[edges[:, 0]], parent[edges[:, 1]]
            differ = a != b
            if not differ.any():
                return parent
            np.minimum.at(parent, np.maximum(a, b)[differ], np.minimum(a, b)[differ])
            while (parent != (parent := parent[parent])).any():
                pass


def _clusters(items: list[Factor]) -> list[list[Factor]]:
    """The factors, those that share an axis together."""
    clusters: list[list[Factor]] = []
    for item in items:
        touching = [c for c in clusters if any(set(f.axes) & set(item.axes) for f in c)]
        clusters = [c for c in clusters if c not in touching] + [[f for c in touching for f in c] + [item]]
    return clusters
