"""How the live elements of a param are kept as one array."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..formats.dense import masked
from ..grid import Grid
from ..problem import Layout
from ..stored import Stored, of_arrays, pattern_of, tables_of, to_dense, values_at, values_shape
from ..tesa import TeSA

AT_PLACES: dict[str, Any] = dict(mode="promise_in_bounds", unique_indices=True, indices_are_sorted=True)

Steps = tuple[tuple[str, tuple[int, ...]], ...]  # ("reshape", sizes) and ("transpose", permutation)


def rearranged(array: Any, steps: Steps) -> Any:
    """A numpy or JAX array, or a grid, after these steps."""
    for kind, sizes in steps:
        array = array.reshape(sizes) if kind == "reshape" else array.transpose(sizes)
    return array


def inverse(steps: Steps, shape: tuple[int, ...]) -> Steps:
    """The steps back to an array of `shape`."""
    back: Steps = ()
    for kind, sizes in steps:
        if kind == "reshape":
            back, shape = (("reshape", shape), *back), sizes
        else:
            back = (("transpose", tuple(int(i) for i in np.argsort(sizes))), *back)
            shape = tuple(shape[p] for p in sizes)
    return back


@dataclasses.dataclass(frozen=True)
class Whole:
    """The array itself, dead elements zero."""

    def shape(self, tesa: TeSA) -> tuple[int, ...]:
        return tesa.shape

    def pack(self, array: jax.Array, tesa: TeSA) -> jax.Array:
        return masked(array, tesa)

    def unpack(self, values: jax.Array, tesa: TeSA) -> jax.Array:
        return masked(values, tesa)


@dataclasses.dataclass(frozen=True)
class Flat:
    """The live elements in row-major order, `[nnz]`."""

    def shape(self, tesa: TeSA) -> tuple[int, ...]:
        return (tesa.nnz,)

    def pack(self, array: jax.Array, tesa: TeSA) -> jax.Array:
        return array.reshape(-1).at[_places(tesa)].get(**AT_PLACES)

    def unpack(self, values: jax.Array, tesa: TeSA) -> jax.Array:
        flat = jnp.zeros((math.prod(tesa.shape),), values.dtype)
        return flat.at[_places(tesa)].set(values, **AT_PLACES).reshape(tesa.shape)


@dataclasses.dataclass(frozen=True)
class Channels:
    """The array without the slices that are dead as a whole."""

    def shape(self, tesa: TeSA) -> tuple[int, ...]:
        return tuple(len(k) for k in live_slices(tesa))

    def pack(self, array: jax.Array, tesa: TeSA) -> jax.Array:
        array = masked(array, tesa)
        for axis, kept in enumerate(live_slices(tesa)):
            if len(kept) < array.shape[axis]:
                array = array.at[(slice(None),) * axis + (kept,)].get(**AT_PLACES)
        return array

    def unpack(self, values: jax.Array, tesa: TeSA) -> jax.Array:
        for axis, kept in enumerate(live_slices(tesa)):
            values = _spread(values, axis, kept, tesa.shape[axis])
        return masked(values, tesa)


@dataclasses.dataclass(frozen=True)
class Matrices:
    """The stored values of the matrices that the array is, in one layout: those of the first matrix first.

    A dead element inside a live block is stored, as zero, and masked wherever the block is read.

    Attributes:
      steps: how the array becomes `[b, k, n]`.
      layout: of each matrix; never dense.
    """

    steps: Steps
    layout: Layout

    def shape(self, tesa: TeSA) -> tuple[int, ...]:
        shapes = [values_shape(matrix, self.layout) for matrix in self.matrices(tesa)]
        return sum(s[0] for s in shapes), *shapes[0][1:]

    def matrices(self, tesa: TeSA) -> tuple[TeSA, ...]:
        """What is live of each matrix `[k, n]`."""
        return matrices(tesa, self.steps)

    def pack(self, array: jax.Array, tesa: TeSA) -> jax.Array:
        dense = rearranged(masked(array, tesa), self.steps)
        parts = [values_at(dense[b], matrix, self.layout) for b, matrix in enumerate(self.matrices(tesa))]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    def unpack(self, values: jax.Array, tesa: TeSA) -> jax.Array:
        dense = jnp.stack([to_dense(weight) for weight in self.weights(values, tesa)])
        return rearranged(dense, inverse(self.steps, tesa.shape))

    def weights(self, values: jax.Array, tesa: TeSA) -> list[Stored]:
        """Each matrix, its dead elements zero whatever `values` holds there."""
        found = self.matrices(tesa)
        ends = np.cumsum([values_shape(matrix, self.layout)[0] for matrix in found])[:-1]
        parts = jnp.split(values, ends) if len(found) > 1 else [values]
        return [self._weight(*each) for each in zip(parts, found, strict=True)]

    def _weight(self, values: jax.Array, matrix: TeSA) -> Stored:
        if (live := _live(matrix, self.layout)) is not None:
            values = jnp.where(live, values, jnp.zeros((), values.dtype))
        return of_arrays((values, *tables_of(matrix, self.layout)), self.layout, matrix.shape)


Storage = Whole | Flat | Channels | Matrices


@functools.lru_cache(maxsize=1024)
def matrices(tesa: TeSA, steps: Steps) -> tuple[TeSA, ...]:
    """What is live of each of the matrices `[b, k, n]` that an array is after these steps."""
    grid: Grid = rearranged(tesa.grid, steps)
    b, k, n = grid.shape
    return tuple(TeSA.of_grid(grid.slice((i, 0, 0), (i + 1, k, n)).reshape((k, n))) for i in range(b))


@functools.lru_cache(maxsize=1024)
def live_slices(tesa: TeSA) -> tuple[np.ndarray, ...]:
    """Per axis the slices that hold a live element."""
    return tuple(np.flatnonzero(tesa.channel_mask(axis)) for axis in range(tesa.ndim))


@functools.lru_cache(maxsize=256)
def _live(tesa: TeSA, layout: Layout) -> np.ndarray | None:
    """Which of the stored values are live, shaped like them; None if all are."""
    if layout.block is None or math.prod(values_shape(tesa, layout)) == tesa.nnz:
        return None
    pattern = pattern_of(tesa, layout)
    padded = np.pad(tesa.mask, [(0, -n % b) for n, b in zip(tesa.shape, layout.block, strict=True)])
    (br, bc), (rows, columns) = layout.block, padded.shape
    return padded.reshape(rows // br, br, columns // bc, bc)[pattern.indices, :, pattern.columns]


@functools.lru_cache(maxsize=256)
def _places(tesa: TeSA) -> np.ndarray:
    return np.flatnonzero(tesa.mask)


def _spread(values: jax.Array, axis: int, kept: np.ndarray, size: int) -> jax.Array:
    """The slices at their places along an axis, zeros between them."""
    if len(kept) == size:
        return values
    if len(kept) == 0 or kept[-1] - kept[0] + 1 == len(kept):
        low = int(kept[0]) if len(kept) else 0
        widths = [(low, size - low - len(kept), 0) if d == axis else (0, 0, 0) for d in range(values.ndim)]
        return jax.lax.pad(values, jnp.zeros((), values.dtype), widths)
    shape: Sequence[int] = [size if d == axis else n for d, n in enumerate(values.shape)]
    return jnp.zeros(shape, values.dtype).at[(slice(None),) * axis + (kept,)].set(values, **AT_PLACES)
