"""What a sampled product's tiles become: the values of a weight in the layout that a problem asks for."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from ...formats.bsr import BSR, Pattern
from ...problem import SDDMM
from ..dense import masked
from .steps import steps


def stored_size(problem: SDDMM) -> int:
    """How many values the layout stores."""
    block = problem.layout.block
    return problem.k * problem.n if block is None else steps(problem.pattern, block, False).count * math.prod(block)


def zeros(problem: SDDMM) -> jax.Array:
    """The values where nothing is summed."""
    block = problem.layout.block
    shape = (problem.k, problem.n) if block is None else (steps(problem.pattern, block, False).count, *block)
    return jnp.zeros(shape, problem.out_dtype)


def as_dense(problem: SDDMM, pattern: Pattern, blocks: jax.Array) -> jax.Array:
    """`[K, N]` of the blocks of a pattern, zero at dead elements."""
    bsr = BSR(blocks, jnp.asarray(pattern.indptr), jnp.asarray(pattern.indices), (problem.k, problem.n))
    return masked(bsr.to_dense(), problem.pattern)


def cut(problem: SDDMM, block: tuple[int, int], pattern: Pattern, tiles: jax.Array) -> jax.Array:
    """`[nnzb, br, bc]`: the layout's blocks, each out of the tile `[rows, cols]` that holds it."""
    (br, bc), (_, rows, cols) = block, tiles.shape
    if (br, bc) == (rows, cols):
        return tiles
    wanted = Pattern.of(problem.pattern, block)
    row, in_row = np.divmod(wanted.indices, rows // br)
    col, in_col = np.divmod(wanted.columns, cols // bc)
    height = -(-problem.k // rows)
    # Tiles are listed by column, then by row: their keys ascend.
    tile = np.searchsorted(pattern.columns.astype(np.int64) * height + pattern.indices, col.astype(np.int64) * height + row)
    return tiles.reshape(-1, rows // br, br, cols // bc, bc)[tile, in_row, :, in_col, :]
