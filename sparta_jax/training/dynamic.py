"""Dynamic sparse training: weights die and others are born, while each param keeps its number of live ones."""

from __future__ import annotations

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..errors import SpartaTypeError, SpartaValueError
from ..masks.units import Block, sizes_of
from .gradual import given, units_of
from .ranks import by_block, largest, outside, sizes, spread
from .schedules import Schedule, check_schedule
from .transform import sparse


def rigl(
    inner: optax.GradientTransformation, tesa: Any, schedule: Schedule, *, fraction: float = 0.3, block: Block = None
) -> optax.GradientTransformationExtraArgs:
    """At each change the live weights of smallest magnitude die, and as many are born where the dense gradient is largest.

    Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020. As there, weights are not updated at a step that
    changes masks; the share that dies falls along a cosine from `fraction` to 0 at the schedule's end; what is born is zero,
    and so is what the inner transform remembers of it.

    At these steps (`sparse_state(state).due`) the gradients must be dense, those of the loss at the masked params: `jax.grad`
    of the loss itself, or `sparsify(jax.grad(loss), tesa)`; they may also come beside sparse ones, as `update(..., growth=)`.
    `Step` sees to it.

    Args:
      inner: any optax transform.
      tesa: the first masks, as `sparsify` takes them: `masks.random(params, density=0.05, scope="erk")`.
      schedule: `periodic(...)`.
      fraction: share of the live weights that is replaced at first.
      block: what dies and is born as a whole, by root mean square, as in `masks.magnitude`; the first masks are of such blocks.
    """
    _check(fraction)
    check_schedule(schedule, Schedule)
    share = lambda step: fraction / 2 * (1 + jnp.cos(math.pi * step.astype(jnp.float32) / max(schedule.end, 1)))

    def choose(masks, params, grads, step, key):
        return [_moved(m, p, sizes(g), share(step), block) for m, p, g in zip(masks, params, grads, strict=True)]

    return sparse(inner, lambda params: given(tesa, params, block), schedule, choose, trains=False)


def evolutionary(
    inner: optax.GradientTransformation,
    tesa: Any,
    schedule: Schedule,
    *,
    fraction: float = 0.3,
    block: Block = None,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """At each change the live weights of smallest magnitude die, and as many are born at random (SET).

    Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity inspired by network
    science", 2018. What is born is zero. Sparse gradients suffice at every step.

    Args:
      fraction: share of the live weights that is replaced at each change.
      seed: what the random choices start from; they depend on it and on the step alone.

    The other arguments are those of `rigl`.
    """
    _check(fraction)
    check_schedule(schedule, Schedule)

    def choose(masks, params, grads, step, key):
        now = jax.random.fold_in(jax.random.wrap_key_data(key), step)
        keys = jax.random.split(now, max(len(masks), 1))
        draws = [jax.random.uniform(keys[i], m.shape) for i, m in enumerate(masks)]
        return [_moved(m, p, d, jnp.float32(fraction), block) for m, p, d in zip(masks, params, draws, strict=True)]

    return sparse(inner, lambda params: given(tesa, params, block), schedule, choose, seed=seed)


def _moved(mask: jax.Array, param: jax.Array, growth: jax.Array, fraction: jax.Array, block: Block) -> jax.Array:
    """The mask with the smallest `fraction` of its live units dead, and as many of the others alive, of largest `growth`."""
    block = sizes_of(block, mask.shape)
    units = units_of(mask, block)
    live = jnp.sum(units, dtype=jnp.int32)
    count = jnp.floor(fraction * live.astype(jnp.float32)).astype(jnp.int32)
    kept = largest(outside(~units, by_block(sizes(param), block)), live - count)
    born = largest(outside(kept, by_block(jnp.nan_to_num(growth, nan=0.0), block)), count)
    return spread(kept | born, block, mask.shape)


def _check(fraction: float) -> None:
    if isinstance(fraction, bool) or not isinstance(fraction, numbers.Real):
        raise SpartaTypeError(f"fraction={fraction!r} is no number")
    if not 0 <= fraction <= 1:
        raise SpartaValueError(f"fraction={fraction} is outside [0, 1]; it is the share of the live weights that is replaced")
