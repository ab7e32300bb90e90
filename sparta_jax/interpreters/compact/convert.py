"""Conversion of an array from one view of a tensor to another: slices where they are contiguous, gathers elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..jaxprs import placed_like
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
    at = np.minimum(np.searchsorted(source, target), max(len(source) - 1, 0))
    if not np.isin(target, source).any():
        return jnp.zeros([len(target) if d == axis else n for d, n in enumerate(x.shape)], x.dtype)
    return take(x, axis, np.where(source[at] == target, at, -1))


def take(x: jax.Array, axis: int, at: np.ndarray) -> jax.Array:
    """The slices at fixed places of an axis, in that order; zeros where the place is -1."""
    runs = _runs(at)
    if len(runs) <= FEW:
        return _side_by_side(x, axis, [at[a:b] for a, b in runs])
    if (at < 0).any():
        x = _padded(x, axis, 0, 1)
        at = np.where(at < 0, x.shape[axis] - 1, at)
    index = (slice(None),) * axis
    unique = len(np.unique(at)) == len(at)
    return x.at[(*index, at)].get(mode="promise_in_bounds", unique_indices=unique, **placed_like(x))


def _side_by_side(x: jax.Array, axis: int, runs: Sequence[np.ndarray]) -> jax.Array:
    """Contiguous slices and runs of zeros. Zeros are padding of a slice beside them: they lie on a mesh as it does."""
    parts, low = [], 0
    for i, run in enumerate(runs):
        if run[0] < 0:
            low = len(run) if i == 0 else 0
            continue
        high = len(runs[i + 1]) if i + 1 < len(runs) and runs[i + 1][0] < 0 else 0
        part = lax.slice_in_dim(x, int(run[0]), int(run[-1]) + 1, axis=axis)
        parts.append(_padded(part, axis, low, high) if low or high else part)
        low = 0
    return lax.concatenate(parts, axis) if len(parts) > 1 else parts[0]


def _padded(x: jax.Array, axis: int, low: int, high: int) -> jax.Array:
    """With zeros before and behind along an axis."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(low, high, 0) if d == axis else (0, 0, 0) for d in range(x.ndim)])


def _runs(at: np.ndarray) -> Sequence[tuple[int, int]]:
    """The contiguous runs of a list of places, and the runs of -1, as `(start, end)`."""
    same = np.where(at[1:] < 0, at[:-1] < 0, (at[1:] == at[:-1] + 1) & (at[:-1] >= 0))
    edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(at)]
    return list(zip(edges[:-1], edges[1:], strict=True))
