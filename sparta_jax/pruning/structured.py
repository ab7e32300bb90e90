"""Structured pruning: whole channels, so that what is left is a smaller network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..errors import SpartaValueError
from ..masks.budgets import Scope, check_density, check_scope, live_units
from ..masks.leaves import Paths, each, scores_of
from ..tesa import TeSA
from ..trees import Leaf, leaves_of, selected
from .groups import Group, groups


def structured(
    fn: Callable[..., Any],
    params: Any,
    *args,
    density: float,
    scores: Any = None,
    paths: Paths = None,
    scope: Scope = "tensor",
    **kwargs,
) -> Any:
    """Keeps the channels of largest score in each of the `groups` of `fn(params, *args, **kwargs)`, and kills the others whole.

    What is dead is dead everywhere: `sparsify(fn, tesa)` computes what the network cut to its live channels does. Fang et al.,
    "DepGraph: Towards Any Structural Pruning", 2023.

    Args:
      density: share of each group's channels that live: exactly `round(density * channels)`; of equal ones the first.
      scores: as in `masks.by_score`. The score of a channel is the root mean square over its slices of params with two axes or
        more, if it has any.
      paths: one or several regexes: only groups all of whose params with two axes or more are hit are pruned. None: all groups.
      scope: whether each group keeps its share (`"tensor"`), or all channels compete (`"global"`).

    Returns:
      A tree like `params` with a TeSA per param that has dead slices, None elsewhere.

    Raises:
      SpartaValueError: names what has no score, or a NaN; a density outside [0, 1], a regex that hits nothing, or `paths` that
        hold no group whole.
    """
    check_scope(scope)
    if scope == "erk":
        raise SpartaValueError("scope='erk' is of weights, not of channels; there are 'tensor' and 'global'")
    leaves = leaves_of(params)
    check_density(density, leaves)
    pruned = _selected(groups(fn, params, *args, **kwargs), leaves, paths)
    sizes = _squares(pruned, leaves, scores_of(scores, params))
    live = live_units([_scores(group, sizes) for group in pruned], [(g.channels,) for g in pruned], density, scope)
    tesas = [TeSA.dense(leaf.shape) for leaf in leaves]
    for group, kept in zip(pruned, live, strict=True):
        for i, s in enumerate(group.slices):
            tesas[s.leaf] &= TeSA.channels(group.live(kept, i), s.axis, s.shape)
    return jax.tree.unflatten(jax.tree.structure(params), [None if t.is_dense else t for t in tesas])


def _selected(found: Sequence[Group], leaves: Sequence[Leaf], paths: Paths) -> list[Group]:
    """The groups whose weights are all hit."""
    if paths is None:
        return list(found)
    hit = selected(paths, leaves)
    kept = [group for group in found if all(hit[s.leaf] for s in _weights(group))]
    if not kept:
        lines = "\n  ".join(str(group) for group in found)
        raise SpartaValueError(f"paths={paths!r} hit all weights of no group; there are\n  {lines or 'none'}")
    return kept


def _weights(group: Group) -> list[Any]:
    """The slices of params with two axes or more; all, where there are none."""
    return [s for s in group.slices if len(s.shape) > 1] or list(group.slices)


def _squares(pruned: Sequence[Group], leaves: Sequence[Leaf], score: Callable[[Leaf], np.ndarray]) -> dict[int, np.ndarray]:
    """The squared scores of the params that count."""
    used = sorted({s.leaf for group in pruned for s in _weights(group)})
    found = each(lambda leaf: np.square(score(leaf), dtype=np.float64), [leaves[i] for i in used], "params")
    return dict(zip(used, found, strict=True))


def _scores(group: Group, squares: dict[int, np.ndarray]) -> np.ndarray:
    """The root mean square of each channel."""
    sums, counts = np.zeros(group.channels), np.zeros(group.channels)
    for s in _weights(group):
        along = squares[s.leaf].sum(tuple(d for d in range(len(s.shape)) if d != s.axis))
        known = s.channel >= 0
        np.add.at(sums, s.channel[known], along[known])
        np.add.at(counts, s.channel[known], squares[s.leaf].size / s.shape[s.axis])
    return np.sqrt(sums / np.maximum(counts, 1))
