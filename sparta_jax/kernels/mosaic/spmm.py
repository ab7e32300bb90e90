"""The body of the block-sparse product `activation(scale * (x @ W) + bias) + residual`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
from jax import lax

from ..gpu.epilogue import Extras, finished
from ..gpu.steps import Steps
from . import compat, pipeline
from .schedule import Tiles
from .tiling import CONSUMERS, Tiling


class Operands(NamedTuple):
    """What the kernel reads, as arrays or as refs; see `Tiles` and `Steps` for the lists.

    Attributes:
      x: `[m, k]`, whole tiles.
      w: `[K, N]`, whole tiles, or the live blocks `[nnzb, br, bc]`.
      extras: of the epilogue.
      tile_ptr, tile_row, tile_col: of `Tiles`.
      step_ptr, step_at: of `Steps`.
      step_entry: of `Steps`; None where `w` is not packed.
    """

    x: Any
    w: Any
    extras: Extras
    tile_ptr: Any
    tile_row: Any
    tile_col: Any
    step_ptr: Any
    step_at: Any
    step_entry: Any


def spmm(
    x: jax.Array,
    w: jax.Array,
    extras: Extras,
    *,
    tiling: Tiling,
    steps: Steps,
    tiles: Tiles,
    transposed: bool,
    activation: str | None,
    out_dtype: Any,
) -> jax.Array:
    """`[m, n]`: the product with `W`, or with its transpose, and its epilogue; accumulated in float32.

    Args:
      x: `[m, k]`, whole tiles of `tiling.rows` and `tiling.depth`.
      w: `[K, N]`, whole tiles of `tiling.depth` (contracted) and `tiling.cols`, or `[nnzb, br, bc]` with sides that those
        divide; in the dtype of `x`.
      extras: of the epilogue, of whole tiles; no residual where `tiling.swapped`.
      tiling: of one thread block.
      steps: at least one, of blocks of `tiling.depth` and `tiling.cols`.
      tiles: all output tiles.
      transposed: whether the weight is contracted along its last axis.
      activation: a key of `ACTIVATIONS`.
      out_dtype: of the result.
    """
    if x.dtype == jnp.float32 and not transposed:
        # `wgmma` reads TF32 along the contraction only: the weight's last axis.
        w, transposed = w.swapaxes(-1, -2), True
    packed = w.ndim == 3
    lists = [tiles.ptr, tiles.row, tiles.col, steps.ptr, steps.at, steps.entry if packed else None]
    operands = Operands(x, w, extras, *map(_as_array, lists))
    out_type = jax.ShapeDtypeStruct((x.shape[0], steps.columns * tiling.cols), out_dtype)

    def body(refs: Operands, y: Any, *scratch: Any) -> None:
        _body(refs, y, pipeline.Scratch(*scratch), tiling, transposed, activation)

    kernel = compat.persistent(
        body,
        name="sparta_bsr_spmm",
        ctas=tiles.ctas,
        warpgroups=CONSUMERS + 1,
        out_type=out_type,
        scratch_types=tuple(_scratch(tiling, x.dtype, transposed, out_dtype)),
        # An approximate tanh has 11 bits: more than bfloat16 keeps, fewer than float16 and float32.
        approx_math=out_type.dtype == jnp.bfloat16,
        cost=_cost(operands, steps, tiling, out_type),
    )
    return kernel(operands)


def _as_array(a):
    return None if a is None else jnp.asarray(a)


def _scratch(tiling: Tiling, dtype: Any, transposed: bool, out_dtype: Any) -> pipeline.Scratch:
    w = (tiling.cols, tiling.depth) if transposed else (tiling.depth, tiling.cols)
    read = tiling.depth if transposed else min(tiling.depth, tiling.part[1])
    return pipeline.scratch(tiling, (tiling.rows, tiling.depth), w, read, dtype, out_dtype)


def _cost(operands: Operands, steps: Steps, tiling: Tiling, out: jax.ShapeDtypeStruct) -> pl.CostEstimate:
    x, itemsize, residual = operands.x, operands.x.dtype.itemsize, operands.extras.residual
    added = 0 if residual is None else residual.size * residual.dtype.itemsize
    weight = steps.count * tiling.depth * tiling.cols
    return pl.CostEstimate(
        flops=2 * x.shape[0] * weight,
        bytes_accessed=(x.size + weight) * itemsize + out.size * out.dtype.itemsize + added,
        transcendentals=0,
    )


def _sides(w: Any, transposed: bool) -> tuple[int, int]:
    """The contracted side of the weight's blocks, and the other."""
    br, bc = w.shape[-2:]
    return (bc, br) if transposed else (br, bc)


def _body(refs: Operands, y: Any, scratch: pipeline.Scratch, tiling: Tiling, transposed: bool, activation: str | None) -> None:
    cta = lax.axis_index("cta")
    rows, cols, depth = tiling.rows, tiling.cols, tiling.depth
    part_rows, part_cols = tiling.part

    def steps(tile):
        col = refs.tile_col[tile]
        return refs.step_ptr[col], refs.step_ptr[col + 1]

    def block(tile, step, at):
        """The ref of a step's part of the weight."""
        if refs.step_entry is None:
            index, contracted, out = (), at, refs.tile_col[tile]
        else:
            contracted_side, out_side = _sides(refs.w, transposed)
            entry, parts = refs.step_entry[step], contracted_side // depth
            index, contracted = (lax.div(entry, parts),), lax.rem(entry, parts)
            out = lax.rem(refs.tile_col[tile], out_side // cols)
        sides = pl.ds(contracted * depth, depth), pl.ds(out * cols, cols)
        return refs.w.at[(*index, *(sides[::-1] if transposed else sides))]

    def load(tile, step):
        at = refs.step_at[step]
        x = refs.x.at[pl.ds(refs.tile_row[tile] * rows, rows), pl.ds(at * depth, depth)]
        return x, block(tile, step, at)

    def operands(consumer, slot):
        row, col = tiling.origin(consumer)
        out = pl.ds(col, part_cols)
        x = scratch.a.at[slot, pl.ds(row, part_rows)]
        w = scratch.b.at[slot, out] if transposed else scratch.b.at[slot, :, out]
        if tiling.swapped:
            return w if transposed else w.transpose((1, 0)), x.transpose((1, 0))
        return x, w.transpose((1, 0)) if transposed else w

    def finish(consumer, tile, result):
        row, col = tiling.origin(consumer)
        row, col = refs.tile_row[tile] * rows + row, refs.tile_col[tile] * cols + col
        out = scratch.out.at[consumer]
        chunk_rows, chunk_cols = out.shape[-2:]
        # Chunks follow one another along the columns; those of a swapped tile along its rows. Both are the sum's last axis.
        width = chunk_rows if tiling.swapped else chunk_cols
        down, right = (width, 0) if tiling.swapped else (0, width)

        def place(c):
            return pl.ds(row + c * down, chunk_rows), pl.ds(col + c * right, chunk_cols)

        def value(c):
            v = result[:, c * width : (c + 1) * width]

            def vector(ref):
                along = 1 if tiling.swapped else 0
                read = compat.load(ref, place(c)[1], layout=plgpu.Layout.WGMMA.reduce(along), optimized=False)
                return lax.broadcast_in_dim(read, v.shape, (1 - along,))

            added = refs.extras.residual
            if added is not None:
                added = compat.load(added, *place(c), layout=plgpu.Layout.WGMMA, optimized=False)
            return finished(v, activation, refs.extras, vector, added)

        def target(c):
            return y.at[place(c)]

        pipeline.write(out, tiling.accumulator[1] // width, value, target, tiling.swapped)

    pipeline.run(scratch, tiling, (refs.tile_ptr[cta], refs.tile_ptr[cta + 1]), steps, load, operands, finish)
