"""Gather and scatter of known arrays at known positions: masks that a program builds element by element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.lax import GatherScatterMode


def gather(x, indices, *, dimension_numbers, slice_sizes, mode, **_):
    """`x` at every window's elements; None where what sticks out is filled."""
    n = dimension_numbers
    along = dict(zip(n.operand_batching_dims, n.start_indices_batching_dims, strict=True))
    at, inside = _positions(x.shape, indices, n.collapsed_slice_dims, n.offset_dims, n.start_index_map, along, slice_sizes)
    return x[at] if mode == GatherScatterMode.CLIP or inside.all() else None


def scatter(x, indices, updates, *, dimension_numbers, mode, update_jaxpr=None, **_):
    """`x` with `updates` written; None where two different ones meet, or a function is applied."""
    at, written = _written(x, indices, updates, dimension_numbers, mode)
    if update_jaxpr is not None or (written != written[:1]).any() and not _are_distinct(at, x.shape):
        return None
    out = x.copy()
    out[at] = written
    return out


def scatter_add(x, indices, updates, *, dimension_numbers, mode, **_):
    """`x` with `updates` added; None of floats where two meet: their order is XLA's own."""
    at, written = _written(x, indices, updates, dimension_numbers, mode)
    if not (np.issubdtype(x.dtype, np.integer) or _are_distinct(at, x.shape)):
        return None
    out = x.copy()
    np.add.at(out, at, written)
    return out


def _written(x, indices, updates, numbers, mode) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The positions that are written, and what is written there; windows that stick out are dropped unless clipped."""
    along = dict(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True))
    inserted, offsets, starts = numbers.inserted_window_dims, numbers.update_window_dims, numbers.scatter_dims_to_operand_dims
    kept = [d for d in range(x.ndim) if d not in (*inserted, *along)]
    sizes = [1] * x.ndim
    for d, axis in zip(kept, sorted(offsets), strict=True):
        sizes[d] = updates.shape[axis]
    at, inside = _positions(x.shape, indices, inserted, offsets, starts, along, sizes)
    kept = np.ones_like(inside) if mode == GatherScatterMode.CLIP else inside
    return tuple(a[kept] for a in at), updates[kept]


def _positions(
    shape: Sequence[int], indices, dropped, offsets, starts, along: dict[int, int], sizes: Sequence[int]
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """For each axis of the operand, the position of every element of the array of windows, clipped; whether it was inside."""
    first = indices.astype(np.int64)
    last = np.array([shape[d] - sizes[d] for d in starts], np.int64)
    inside = ((first >= 0) & (first <= last)).all(-1)
    first = np.clip(first, 0, last)
    kept = [d for d in range(len(shape)) if d not in (*dropped, *along)]
    rank = len(kept) + first.ndim - 1
    window = dict(zip(kept, sorted(offsets), strict=True))
    batch = [axis for axis in range(rank) if axis not in window.values()]
    spread = lambda array, axes: np.expand_dims(array, [a for a in range(rank) if a not in axes])
    at = [np.zeros([1] * rank, np.int64) for _ in shape]
    for i, d in enumerate(starts):
        at[d] = at[d] + spread(first[..., i], batch)
    for d, axis in window.items():
        at[d] = at[d] + spread(np.arange(sizes[d]), [axis])
    for d, i in along.items():
        at[d] = at[d] + spread(np.arange(shape[d]), [batch[i]])
    *at, inside = np.broadcast_arrays(*at, spread(inside, batch))
    return tuple(at), inside


def _are_distinct(at: tuple[np.ndarray, ...], shape: Sequence[int]) -> bool:
    flat = np.ravel_multi_index([a.ravel() for a in at], tuple(shape))
    return len(np.unique(flat)) == flat.size
