"""Units: what lives or dies as a whole, and its score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import SpartaTypeError, SpartaValueError
from ..tesa import check_axis, check_block

Block = Sequence[int | None] | None


def sizes_of(block: Block, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Elements per block along each axis."""
    if block is None:
        return (1,) * len(shape)
    sizes: Any = block
    if isinstance(block, Sequence) and len(block) == len(shape):
        sizes = tuple(max(n, 1) if b is None else b for b, n in zip(block, shape, strict=True))
    check_block(sizes, shape)
    return sizes


def root_mean_squares(sizes: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """One entry per block: the root of the mean of the squares, with zeros behind the edges."""
    if all(b == 1 for b in block):
        return sizes
    rows = block[0] * max(1, 2**20 // max(1, block[0] * math.prod(sizes.shape[1:])))  # a slab's squares stay in the cache
    slabs = [_sums_of_squares(sizes[i : i + rows], block) for i in range(0, max(len(sizes), 1), rows)]
    return np.sqrt(np.concatenate(slabs) / math.prod(block))


def _sums_of_squares(sizes: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    sums = np.square(sizes, dtype=np.float64)
    for axis in reversed(range(sums.ndim)):
        if block[axis] > 1 and sums.shape[axis]:
            sums = np.add.reduceat(sums, np.arange(0, sums.shape[axis], block[axis]), axis)
    return sums


def slice_of(axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The size of one slice along an axis."""
    along = check_axis(axis, shape)
    return tuple(1 if d == along else max(n, 1) for d, n in enumerate(shape))


def head_of(axis: int, heads: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The size of one of `heads` equal runs of slices along an axis."""
    along = check_axis(axis, shape)
    if isinstance(heads, bool) or not isinstance(heads, int | np.integer):
        raise SpartaTypeError(f"heads={heads!r} is no integer")
    if heads < 1 or shape[along] % heads:
        raise SpartaValueError(
            f"axis {along} of shape {shape} does not hold {heads} equal heads; leave this leaf out by `paths`"
        )
    return tuple(max(n // heads, 1) if d == along else max(n, 1) for d, n in enumerate(shape))
