"""Fixed masks, and masks that get sparser while training: gradual magnitude pruning."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..masks.budgets import Scope, check_scope, erk_counts
from ..masks.leaves import Paths, chosen
from ..trees import match
from .ranks import largest, outside, sizes
from .schedules import Densities
from .transform import Leaves, sparse


def fixed(inner: optax.GradientTransformation, tesa: Any) -> optax.GradientTransformationExtraArgs:
    """Training in which what is dead stays dead.

    Args:
      inner: any optax transform; weight decay, momentum and clipping are those of the live weights.
      tesa: TeSAs as `sparsify` takes them: a tree, regexes, a callable.
    """
    return sparse(inner, lambda params: given(tesa, params))


def gradual(
    inner: optax.GradientTransformation, schedule: Densities, *, paths: Paths = None, scope: Scope = "tensor"
) -> optax.GradientTransformationExtraArgs:
    """Prunes the smallest weights while training, at the steps and to the densities of a schedule.

    Zhu and Gupta, "To prune, or not to prune", 2017. What died stays dead. A weight is judged behind the step's update.

    Args:
      inner: any optax transform.
      schedule: `polynomial(...)` or `one_shot(...)`.
      paths, scope: as in `masks.magnitude`; counts are exact, `round(density * elements)`.
    """
    check_scope(scope)

    def start(params: Any) -> Leaves:
        return [None if leaf is None else np.ones(leaf.shape, np.bool_) for leaf in chosen(params, paths)]

    def choose(masks, params, grads, step, key):
        scores = [outside(~m, sizes(p)) for m, p in zip(masks, params, strict=True)]
        table = np.array([_counts(masks, schedule.density(s), scope) for s in schedule.steps], np.int32)
        counts = jnp.asarray(table)[(step - schedule.begin) // schedule.every]
        if scope == "global":
            flat = largest(jnp.concatenate([s.ravel() for s in scores]), counts[0])
            ends = np.cumsum([m.size for m in masks])[:-1]
            live = [part.reshape(m.shape) for part, m in zip(jnp.split(flat, ends), masks, strict=True)]
        else:
            live = [largest(s, counts[i]) for i, s in enumerate(scores)]
        return [m & new for m, new in zip(masks, live, strict=True)]

    return sparse(inner, start, schedule, choose)


def given(tesa: Any, params: Any) -> Leaves:
    """The masks that a user's TeSAs say; None for dense."""
    return [None if t is None else t.mask for t in match(tesa, params)]


def _counts(masks: list[jax.Array], density: float, scope: Scope) -> list[int]:
    """How many elements live: of each leaf, or of all together."""
    units = [m.size for m in masks]
    if scope == "erk":
        return erk_counts([m.shape for m in masks], units, density)
    return [round(density * sum(units))] if scope == "global" else [round(density * n) for n in units]
