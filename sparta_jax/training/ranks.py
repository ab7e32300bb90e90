"""Exact choices of a number of elements that is known only at run time."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def largest(scores: jax.Array, count: jax.Array | int) -> jax.Array:
    """True at the `count` largest scores, of equal ones the first; a NaN counts as 0."""
    flat = jnp.nan_to_num(scores.ravel(), nan=0.0)
    order = jnp.argsort(-flat, stable=True)
    ranks = jnp.zeros(flat.shape, jnp.int32).at[order].set(jnp.arange(flat.size, dtype=jnp.int32))
    return (ranks < count).reshape(scores.shape)


def sizes(x: jax.Array) -> jax.Array:
    """Magnitudes in at least float32."""
    return jnp.abs(x).astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)


def outside(excluded: jax.Array, scores: jax.Array) -> jax.Array:
    """The scores, those of `excluded` elements below all others."""
    return jnp.where(excluded, jnp.full((), -1, scores.dtype), jnp.nan_to_num(scores, nan=0.0))
