"""Conversion of an array from one view of a tensor to another: slices where they are contiguous, gathers elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .view import View

FEW = 8  # contiguous runs that are taken as slices rather than by a gather


def convert(x: jax.Array, have: View, want: View) -> jax.Array:
    """An array `[have.sizes]` as `[want.sizes]`; zero in what it does not hold."""
    narrowing = [d for d in range(x.ndim) if want.sizes[d] < x.shape[d]]
    for axis in sorted(range(x.ndim), key=lambda d: d not in narrowing):  # the smaller first
        x = _convert_axis(x, axis, have, want)
    return x


def moves(have: View, want: View) -> bool:
    """Whether a conversion does anything."""
    return have.key != want.key


def fill(x: jax.Array, have: View, want: View, value: jax.Array) -> jax.Array:
    """`x [want.sizes]` with `value` where `have` held nothing; `value` has the whole tensor's axes, size 1 where uniform."""
    outside = ~inside(have, want)
    if not outside.any():
        return x
    return jnp.where(outside, reduced(value, want), x)


def inside(have: View, want: View) -> np.ndarray:
    """Boolean, of `want`'s axes (size 1 where it is uniform): what of `want` is held by `have`."""
    out = np.ones([1] * len(have.shape), bool)
    for axis, kept in enumerate(have.kept):
        if kept is None:
            continue
        line = have.inside(axis)[want.indices(axis)]
        out = out & line.reshape([-1 if d == axis else 1 for d in range(out.ndim)])
    return out


def reduced(value: jax.Array, view: View) -> jax.Array:
    """The part that a view holds of an array whose uniform axes have size 1."""
    kept = [None if n == 1 else k for n, k in zip(value.shape, view.kept, strict=True)]
    return convert(value, View.whole(value.shape), View.of(value.shape, kept))


def _convert_axis(x: jax.Array, axis: int, have: View, want: View) -> jax.Array:
    from_, to = have.kept[axis], want.kept[axis]
    if from_ is None and to is None:
        return x
    source, target = have.indices(axis), want.indices(axis)
    if len(source) == len(target) and (source == target).all():
        return x
    if not len(source) or not len(target):
        return jnp.zeros([len(target) if d == axis else n for d, n in enumerate(x.shape)], x.dtype)
    at = np.minimum(np.searchsorted(source, target), len(source) - 1)
    return take(x, axis, np.where(source[at] == target, at, -1))


def take(x: jax.Array, axis: int, at: np.ndarray) -> jax.Array:
    """The slices at fixed places of an axis, in that order; zeros where the place is -1."""
    runs = _runs(at)
    if len(runs) == 1 and at[0] >= 0:
        return lax.slice_in_dim(x, int(at[0]), int(at[-1]) + 1, axis=axis)
    if len(runs) <= FEW:
        return lax.concatenate([_run(x, axis, at[a:b]) for a, b in runs], axis)
    if (at < 0).any():
        x = lax.concatenate([x, _zeros(x, axis, 1)], axis)
        at = np.where(at < 0, x.shape[axis] - 1, at)
    index = (slice(None),) * axis
    return x.at[(*index, at)].get(mode="promise_in_bounds", unique_indices=len(np.unique(at)) == len(at))


def _run(x: jax.Array, axis: int, at: np.ndarray) -> jax.Array:
    if at[0] < 0:
        return _zeros(x, axis, len(at))
    return lax.slice_in_dim(x, int(at[0]), int(at[-1]) + 1, axis=axis)


def _zeros(x: jax.Array, axis: int, size: int) -> jax.Array:
    return jnp.zeros([size if d == axis else n for d, n in enumerate(x.shape)], x.dtype)


def _runs(at: np.ndarray) -> Sequence[tuple[int, int]]:
    """The contiguous runs of a list of places, and the runs of -1, as `(start, end)`."""
    same = np.where(at[1:] < 0, at[:-1] < 0, (at[1:] == at[:-1] + 1) & (at[:-1] >= 0))
    edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(at)]
    return list(zip(edges[:-1], edges[1:], strict=True))
