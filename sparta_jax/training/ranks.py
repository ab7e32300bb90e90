"""Exact choices of a number of units that is known only at run time."""

from __future__ import annotations

from collections.abc import Sequence

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


def by_block(x: jax.Array, block: Sequence[int]) -> jax.Array:
    """The root mean square of each block of non-negative entries, with zeros behind the edges."""
    if all(b == 1 for b in block):
        return x
    padded = jnp.pad(x, [(0, -n % b) for n, b in zip(x.shape, block, strict=True)])
    parts = [size for n, b in zip(padded.shape, block, strict=True) for size in (n // b, b)]
    return jnp.sqrt(jnp.square(padded.reshape(parts)).mean(tuple(range(1, 2 * x.ndim, 2))))


def spread(units: jax.Array, block: Sequence[int], shape: Sequence[int]) -> jax.Array:
    """An entry per element, from one per block."""
    for axis, b in enumerate(block):
        units = jnp.repeat(units, b, axis) if b > 1 else units
    return units[tuple(slice(n) for n in shape)]
