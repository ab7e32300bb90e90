"""What all sparse transforms share: an inner transform of masked gradients, and the mask as the last word."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..errors import SpartaTypeError
from .schedules import Schedule
from .state import SparseState, where

Leaves = list[Any]  # one entry per param; None where it stays dense

# (masks, params, dense gradients, step, key) -> masks, all of them lists of the sparse leaves' arrays.
Choose = Callable[[list, list, list, jax.Array, Any], list]


def sparse(
    inner: optax.GradientTransformation,
    masks: Callable[[Any], Leaves],
    schedule: Schedule | None = None,
    change: Choose | None = None,
    *,
    trains: bool = True,
    seed: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The inner transform of masked gradients, whose updates leave every dead weight at exactly zero.

    Args:
      inner: it sees gradients that are zero where weights are dead; whatever it answers there is overruled.
      masks: the first masks of the params.
      schedule: when masks change; None: never.
      change: the new masks, from the updated params.
      trains: whether weights are updated at a step that changes masks too.
      seed: what random choices start from.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> SparseState:
        tree = jax.tree.structure(params)
        first = [None if m is None else _placed(m, p) for m, p in zip(masks(params), jax.tree.leaves(params), strict=True)]
        zero = jnp.zeros((), jnp.int32)
        key = None if seed is None else jax.random.key_data(jax.random.key(seed))
        return SparseState(jax.tree.unflatten(tree, first), zero, zero.copy(), _due(schedule, zero), key, inner.init(params))

    def update(updates: Any, state: SparseState, params: Any = None, *, growth: Any = None, **extra):
        grads = updates
        if params is None:
            raise SpartaTypeError("sparse updates need the params: call `update(grads, state, params)`")
        leaves, tree = jax.tree.flatten(params)
        old, dense = tree.flatten_up_to(state.masks), tree.flatten_up_to(grads if growth is None else growth)
        spots = [i for i, m in enumerate(old) if m is not None]
        of_grads = _over(spots, tree.flatten_up_to(grads), lambda i, g: where(old[i], g))

        def train(inner_state):
            return inner.update(jax.tree.unflatten(tree, of_grads), inner_state, params, **extra)

        def rest(inner_state):
            shapes, _ = jax.eval_shape(train, inner_state)
            return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), inner_state

        if change is None or schedule is None:
            updates, inner_state = train(state.inner)
            kept, new, changed = old, old, jnp.zeros((), jnp.int32)
        else:
            due = schedule.is_due(state.step)
            updates, inner_state = train(state.inner) if trains else jax.lax.cond(due, rest, train, state.inner)
            after = [_applied(leaves[i], u) for i, u in zip(spots, _at(spots, tree.flatten_up_to(updates)), strict=True)]
            pick = functools.partial(change, _at(spots, old), after, _at(spots, dense), state.step, state.key)
            picked = jax.lax.cond(due, pick, lambda: _at(spots, old))
            new = _over(spots, old, lambda i, _: picked[spots.index(i)])
            kept = _over(spots, old, lambda i, m: m & new[i])
            inner_state = jax.lax.cond(due, lambda s: _reset(s, tree, kept), lambda s: s, inner_state)
            changed = due.astype(jnp.int32)
        final = _over(spots, tree.flatten_up_to(updates), lambda i, u: jnp.where(kept[i], u, -leaves[i].astype(u.dtype)))
        step = state.step + 1
        masks_now = jax.tree.unflatten(tree, new)
        state = SparseState(masks_now, step, state.changes + changed, _due(schedule, step), state.key, inner_state)
        return jax.tree.unflatten(tree, final), state

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _placed(mask: Any, param: Any) -> jax.Array:
    """The mask as an array that lies where the param does."""
    return jnp.ones_like(param, dtype=jnp.bool_) & jnp.asarray(mask)


def _due(schedule: Schedule | None, step: jax.Array) -> jax.Array:
    return jnp.zeros((), jnp.bool_) if schedule is None else schedule.is_due(step)


def _at(spots: Sequence[int], leaves: Sequence[Any]) -> list:
    return [leaves[i] for i in spots]


def _over(spots: Sequence[int], leaves: Sequence[Any], fn: Callable[[int, Any], Any]) -> list:
    """The leaves, those at `spots` changed."""
    at = set(spots)
    return [fn(i, leaf) if i in at else leaf for i, leaf in enumerate(leaves)]


def _applied(param: jax.Array, update: jax.Array) -> jax.Array:
    return (param + update.astype(param.dtype)).astype(param.dtype)


def _reset(state: Any, tree: Any, kept: Leaves) -> Any:
    """What the inner transform remembers of weights that died or were born is zero, in whatever trees are like the params.

    Transforms of some params alone (`optax.masked`, `optax.multi_transform`) have a `MaskedNode` in the place of the others.
    """
    is_absent = lambda node: isinstance(node, optax.MaskedNode)
    is_like = lambda node: jax.tree.structure(node, is_leaf=is_absent) == tree

    def cleared(node):
        if not is_like(node):
            return node
        memories = jax.tree.leaves(node, is_leaf=is_absent)
        return jax.tree.unflatten(tree, [_live(m, mask) for m, mask in zip(memories, kept, strict=True)])

    return jax.tree.map(cleared, state, is_leaf=is_like)


def _live(memory: Any, mask: Any) -> Any:
    """A param's entry in such a tree, zero outside the mask; as it is where it is of another shape."""
    if mask is None or isinstance(memory, optax.MaskedNode) or jnp.shape(memory) != mask.shape:
        return memory
    return where(mask, memory)
