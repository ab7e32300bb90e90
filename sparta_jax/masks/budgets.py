"""Budgets: how many units of each leaf live, and which."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..errors import SpartaTypeError, SpartaValueError
from ..trees import Leaf

Scope = Literal["tensor", "global", "erk"]
SCOPES = ("tensor", "global", "erk")


def live_units(scores: Sequence[np.ndarray], shapes: Sequence[Sequence[int]], density: float, scope: Scope) -> list[np.ndarray]:
    """Which units live: True at the largest scores, as many as the budget gives each leaf.

    Args:
      scores: one entry per unit, one array per leaf.
      shapes: of the leaves.
      density: share of units that live.
      scope: `"tensor"`: of every leaf; `"global"`: of all together; `"erk"`: of all together, divided by `erk_densities`.
    """
    if scope == "global":
        return _largest_of_all(scores, density)
    if scope == "erk":
        counts = erk_counts(shapes, [s.size for s in scores], density)
        return [largest(s, count) for s, count in zip(scores, counts, strict=True)]
    return [largest(s, round(density * s.size)) for s in scores]


def check_scope(scope: Any) -> None:
    """Raises `SpartaValueError` unless there is such a budget."""
    if scope not in SCOPES:
        raise SpartaValueError(f"scope={scope!r} is unknown; there are 'tensor', 'global' and 'erk'")


def check_density(density: float, leaves: Sequence[Leaf]) -> None:
    """Raises an error that names the leaves unless the density is a number in [0, 1]."""
    names = ", ".join(leaf.name for leaf in leaves[:4]) + (f", ... ({len(leaves)} in all)" if len(leaves) > 4 else "")
    if isinstance(density, bool) or not isinstance(density, numbers.Real):
        raise SpartaTypeError(f"{names}: density {density!r} is no number")
    if not 0 <= density <= 1:
        raise SpartaValueError(f"{names}: density {density} is outside [0, 1]; it is the share that lives")


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """True at the `count` largest scores, of equal ones the first."""
    flat = scores.ravel()
    if count in (0, flat.size):
        return np.full(scores.shape, count > 0)
    least = np.partition(flat, flat.size - count)[flat.size - count]
    live = flat > least
    live[np.flatnonzero(flat == least)[: count - np.count_nonzero(live)]] = True
    return live.reshape(scores.shape)


def _largest_of_all(scores: Sequence[np.ndarray], density: float) -> list[np.ndarray]:
    if not scores:
        return []
    flat = np.concatenate([s.ravel() for s in scores])
    together = largest(flat, round(density * flat.size))
    ends = np.cumsum([s.size for s in scores])
    return [part.reshape(s.shape) for part, s in zip(np.split(together, ends[:-1]), scores, strict=True)]


def erk_densities(shapes: Sequence[Sequence[int]], units: Sequence[int], density: float) -> list[float]:
    """The Erdos-Renyi-Kernel densities: in proportion to `sum(shape) / prod(shape)`, at most 1, `density` on average.

    Evci et al., "Rigging the Lottery", 2020, section 3: a leaf that would need more than it has stays dense, and the others
    share what is left.

    Args:
      shapes: of the leaves.
      units: how many each has: what the average weighs by.
      density: share of all units that live.
    """
    raw = np.array([sum(s) / max(math.prod(s), 1) for s in shapes])
    sizes, whole = np.array(units, np.float64), np.zeros(len(shapes), bool)
    while True:
        rest = (raw * sizes)[~whole].sum()
        scale = (density * sizes.sum() - sizes[whole].sum()) / rest if rest > 0 else 0.0
        over = ~whole & (scale * raw > 1)
        if not over.any():
            return np.where(whole, 1.0, np.clip(scale * raw, 0, 1)).tolist()
        whole |= over


def erk_counts(shapes: Sequence[Sequence[int]], units: Sequence[int], density: float) -> list[int]:
    """How many units of each leaf live: `round(density * units)` in all, each count next to its own `erk_densities` share."""
    shares = np.array(erk_densities(shapes, units, density)) * np.array(units, np.float64)
    counts = np.floor(shares + 1e-9).astype(int)
    left = round(density * sum(units)) - int(counts.sum())
    for i in np.argsort(-(shares - counts), kind="stable")[: max(left, 0)]:
        counts[i] += 1
    return counts.tolist()
