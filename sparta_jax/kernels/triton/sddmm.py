"""The body of the sampled product: `x.T @ g` at live blocks."""

from __future__ import annotations

from typing import Any

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.triton as plt
import jax.numpy as jnp
from jax import lax

from ...formats.bsr import Pattern
from .grid import on_grid
from .tile import Tile


def sddmm(x: jax.Array, g: jax.Array, pattern: Pattern, *, tile: Tile, precision: lax.Precision, out_dtype: Any) -> jax.Array:
    """`[splits, nnzb, rows, cols]`: the live blocks of `x.T @ g`, one summand per part of the contraction.

    Args:
      x: `[m, K]`, with `m` a multiple of `splits * depth` and `K` one of `rows`.
      g: `[m, N]`, in the dtype of `x`, with `N` a multiple of `cols`.
      pattern: of blocks `(rows, cols)`; at least one is live.
      tile: of one program.
      precision: of the products of float32 operands.
      out_dtype: of the result.
    """
    steps = x.shape[0] // (tile.splits * tile.depth)
    out_type = jax.ShapeDtypeStruct((tile.splits, pattern.nnzb, tile.rows, tile.cols), out_dtype)

    def body(rows, cols, x, g, out):
        block, split = pl.program_id(0), pl.program_id(1)
        row, col = rows[block], cols[block]

        def step(i, total):
            m = pl.ds((split * steps + i) * tile.depth, tile.depth)
            a = plt.load(x.at[m, pl.ds(row * tile.rows, tile.rows)])
            b = plt.load(g.at[m, pl.ds(col * tile.cols, tile.cols)])
            return total + plt.dot(a, b, trans_a=True, precision=precision)

        result = lax.fori_loop(0, steps, step, jnp.zeros((tile.rows, tile.cols), jnp.float32))
        plt.store(out.at[split, block, :, :], result.astype(out.dtype))

    kernel = on_grid(
        body,
        name="sparta_bsr_sddmm",
        grid=(pattern.nnzb, tile.splits),
        out_type=out_type,
        warps=tile.warps,
        stages=tile.stages,
        cost=pl.CostEstimate(
            flops=2 * x.shape[0] * pattern.nnzb * tile.rows * tile.cols,
            bytes_accessed=(x.size + g.size) * x.dtype.itemsize + out_type.size * out_type.dtype.itemsize,
            transcendentals=0,
        ),
    )
    return kernel(jnp.asarray(pattern.indices), jnp.asarray(pattern.columns), x, g)
