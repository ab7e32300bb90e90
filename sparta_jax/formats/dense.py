"""Masked dense storage: the whole array, zero where dead."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from ..tesa import TeSA

SMALLEST_UNIT = 4  # elements per axis; below it a mask enters the program element by element


def masked(array: jax.Array, tesa: TeSA) -> jax.Array:
    """`array` with zeros in place of its dead elements, whatever they hold; differentiable, the gradient masked alike."""
    if tesa.is_dense:
        return array
    return jnp.where(live_elements(tesa), array, jnp.zeros((), array.dtype))


def live_elements(tesa: TeSA) -> jax.Array:
    """`bool[shape]`, True where live; enters a program as one entry per block where the mask is made of blocks."""
    units = [_unit(cut) for cut in tesa.cuts]
    if tesa.ndim == 0 or 0 in tesa.shape or max(units) < SMALLEST_UNIT:
        return jnp.asarray(tesa.mask)
    cells = jnp.asarray(tesa.block_mask(units))
    spread = jax.lax.broadcast_in_dim(
        cells, [s for n, u in zip(cells.shape, units, strict=True) for s in (n, u)], range(0, 2 * tesa.ndim, 2)
    )
    whole = spread.reshape([n * u for n, u in zip(cells.shape, units, strict=True)])
    return whole[tuple(slice(n) for n in tesa.shape)]


def _unit(cut: np.ndarray) -> int:
    """The largest size whose multiples hold all inner cuts of an axis."""
    return math.gcd(*(int(c) for c in cut[1:-1])) or int(cut[-1])
