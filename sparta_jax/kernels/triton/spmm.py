"""The body of the block-sparse product `activation(scale * (x @ W) + bias) + residual`."""

from __future__ import annotations

from typing import Any

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.triton as plt
import jax.numpy as jnp
from jax import lax

from ..gpu.epilogue import Extras, finished
from ..gpu.steps import Steps, sides
from .grid import on_grid
from .tile import Tile


def spmm(
    x: jax.Array,
    w: jax.Array,
    extras: Extras,
    *,
    tile: Tile,
    steps: Steps,
    transposed: bool,
    activation: str | None,
    precision: lax.Precision,
    out_dtype: Any,
) -> jax.Array:
    """`[m, n]`: the product with `W`, or with its transpose, and its epilogue; accumulated in float32.

    Args:
      x: `[m, k]`, whole tiles of `tile.rows` and `tile.depth`.
      w: `[K, N]`, whole tiles of `tile.depth` (contracted) and `tile.cols`, or `[nnzb, br, bc]` with sides that those divide.
      extras: of the epilogue, of whole tiles.
      tile: of one program.
      steps: at least one, of blocks of `tile.depth` and `tile.cols`.
      transposed: whether the weight is contracted along its last axis.
      activation: a key of `ACTIVATIONS`.
      precision: of the products of float32 operands.
      out_dtype: of the result.
    """
    packed = w.ndim == 3
    lists = [jnp.asarray(a) for a in (steps.ptr, steps.at, *[steps.entry] * packed)]
    out_type = jax.ShapeDtypeStruct((x.shape[0], steps.columns * tile.cols), out_dtype)

    def body(ptr, at, *refs):
        entry, refs = (refs[0], refs[1:]) if packed else (None, refs)
        x, w, extras, y = refs
        row, col = pl.program_id(0), pl.program_id(1)

        def step(e, total):
            a = plt.load(x.at[pl.ds(row * tile.rows, tile.rows), pl.ds(at[e] * tile.depth, tile.depth)])
            b = plt.load(_block(w, tile, transposed, at[e], col, None if entry is None else entry[e]))
            return total + plt.dot(a, b, trans_b=transposed, precision=precision)

        result = lax.fori_loop(ptr[col], ptr[col + 1], step, jnp.zeros((tile.rows, tile.cols), jnp.float32))
        rows, cols = pl.ds(row * tile.rows, tile.rows), pl.ds(col * tile.cols, tile.cols)
        residual = None if extras.residual is None else plt.load(extras.residual.at[rows, cols])
        result = finished(result, activation, extras, lambda ref: plt.load(ref.at[cols])[None, :], residual)
        plt.store(y.at[rows, cols], result.astype(y.dtype))

    kernel = on_grid(
        body,
        name="sparta_bsr_spmm",
        # Programs that run at one time share a column, whose blocks stay in the L2 cache.
        grid=(x.shape[0] // tile.rows, steps.columns),
        out_type=out_type,
        warps=tile.warps,
        stages=tile.stages,
        cost=_cost(x, steps, tile, out_type, extras.residual),
    )
    return kernel(*lists, x, w, extras)


def _block(w: Any, tile: Tile, transposed: bool, at: Any, col: Any, entry: Any) -> Any:
    """The ref of a step's part of the weight."""
    if entry is None:
        index, contracted, out = (), at, col
    else:
        contracted_side, out_side = sides(w.shape[-2:], transposed)
        parts = contracted_side // tile.depth
        index, contracted, out = (lax.div(entry, parts),), lax.rem(entry, parts), lax.rem(col, out_side // tile.cols)
    where = pl.ds(contracted * tile.depth, tile.depth), pl.ds(out * tile.cols, tile.cols)
    return w.at[(*index, *(where[::-1] if transposed else where))]


def _cost(x: jax.Array, steps: Steps, tile: Tile, out: jax.ShapeDtypeStruct, residual: jax.Array | None) -> pl.CostEstimate:
    weight = steps.count * tile.depth * tile.cols
    added = 0 if residual is None else residual.size * residual.dtype.itemsize
    return pl.CostEstimate(
        flops=2 * x.shape[0] * weight,
        bytes_accessed=(x.size + weight) * x.dtype.itemsize + out.size * out.dtype.itemsize + added,
        transcendentals=0,
    )
