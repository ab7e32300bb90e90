"""Fixed masks, and masks that get sparser while training: gradual magnitude pruning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..errors import SpartaValueError
from ..masks.budgets import Scope, check_scope, erk_counts
from ..masks.leaves import Paths, chosen, each
from ..masks.units import Block, sizes_of
from ..tesa import TeSA
from ..trees import leaves_of, match
from .ranks import by_block, largest, outside, sizes, spread
from .schedules import Densities, check_schedule
from .transform import Leaves, sparse


def fixed(inner: optax.GradientTransformation, tesa: Any) -> optax.GradientTransformationExtraArgs:
    """Training in which what is dead stays dead.

    Args:
      inner: any optax transform; weight decay, momentum and clipping are those of the live weights.
      tesa: TeSAs as `sparsify` takes them: a tree, regexes, a callable.
    """
    return sparse(inner, lambda params: given(tesa, params))


def masked_updates(tesa: Any) -> optax.GradientTransformationExtraArgs:
    """The mask as the last link: `optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3), masked_updates(tesa))`.

    Dead weights are exactly zero behind every step, whatever the links before answer; the masks are in its state. Those links
    see the gradients as they come: with those of `sparsify(loss, tesa)` the chain does what `fixed` does of the same links.
    """
    return fixed(optax.identity(), tesa)


def gradual(
    inner: optax.GradientTransformation,
    schedule: Densities,
    *,
    block: Block = None,
    paths: Paths = None,
    scope: Scope = "tensor",
) -> optax.GradientTransformationExtraArgs:
    """Prunes the smallest weights while training, at the steps and to the densities of a schedule.

    Zhu and Gupta, "To prune, or not to prune", 2017. What died stays dead. A weight is judged behind the step's update.

    Args:
      inner: any optax transform.
      schedule: `polynomial(...)` or `one_shot(...)`.
      block, paths, scope: as in `masks.magnitude`; counts are exact, `round(density * units)`.
    """
    check_scope(scope)
    check_schedule(schedule, Densities)

    def start(params: Any) -> Leaves:
        leaves = chosen(params, paths)
        each(lambda leaf: sizes_of(block, leaf.shape), leaves, "params")
        return [None if leaf is None else np.ones(leaf.shape, np.bool_) for leaf in leaves]

    def choose(masks, params, grads, step, key):
        blocks = [sizes_of(block, m.shape) for m in masks]
        units = [units_of(m, b) for m, b in zip(masks, blocks, strict=True)]
        scores = [outside(~u, by_block(sizes(p), b)) for u, p, b in zip(units, params, blocks, strict=True)]
        shapes, counted = [m.shape for m in masks], [u.size for u in units]
        table = np.array([_counts(shapes, counted, schedule.density(s), scope) for s in schedule.steps], np.int32)
        counts = jnp.asarray(table)[(step - schedule.begin) // schedule.every]
        if scope == "global":
            flat = largest(jnp.concatenate([s.ravel() for s in scores]), counts[0])
            ends = np.cumsum(counted)[:-1]
            live = [part.reshape(u.shape) for part, u in zip(jnp.split(flat, ends), units, strict=True)]
        else:
            live = [largest(s, counts[i]) for i, s in enumerate(scores)]
        return [m & spread(new, b, m.shape) for m, new, b in zip(masks, live, blocks, strict=True)]

    return sparse(inner, start, schedule, choose)


def given(tesa: Any, params: Any, block: Block = None) -> Leaves:
    """The masks that a user's TeSAs say; None for dense.

    Raises:
      SpartaValueError: names the params whose masks do not fit, or have blocks that are live in part.
    """
    tesas = match(tesa, params)
    leaves = leaves_of(params)
    by_keys = {leaf.keys: t for leaf, t in zip(leaves, tesas, strict=True)}
    each(lambda leaf: _check_blocks(by_keys[leaf.keys], block, leaf.shape), leaves, "params")
    return [None if t is None else t.mask for t in tesas]


def _check_blocks(tesa: TeSA | None, block: Block, shape: tuple[int, ...]) -> None:
    if tesa is None or block is None:
        return
    if tesa.coarsen(sizes_of(block, shape)) != tesa:
        raise SpartaValueError(f"its mask has blocks of {block} that are live in part; make it by blocks of this size")


def units_of(mask: jax.Array, block: Sequence[int]) -> jax.Array:
    """Which blocks live, where each does so whole or not at all."""
    return mask[tuple(slice(None, None, b) for b in block)]


def _counts(shapes: Sequence[Sequence[int]], units: Sequence[int], density: float, scope: Scope) -> list[int]:
    """How many units live: of each leaf, or of all together."""
    if scope == "erk":
        return erk_counts(shapes, units, density)
    return [round(density * sum(units))] if scope == "global" else [round(density * n) for n in units]
