"""The body of the sampled product: `x.T @ g` at live blocks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.experimental.pallas as pl
import jax.numpy as jnp
from jax import lax

from ...formats.bsr import Pattern
from . import compat, pipeline
from .tiling import CONSUMERS, Tiling


class Operands(NamedTuple):
    """What the kernel reads, as arrays or as refs.

    Attributes:
      x: `[m, K]`, whole steps and blocks; transposed where `wgmma` reads along the contraction only, in TF32.
      g: `[m, N]`, whole steps and blocks; transposed as `x`.
      rows, cols: `i32[nnzb]`, where each live block stands.
    """

    x: Any
    g: Any
    rows: Any
    cols: Any


def sddmm(x: jax.Array, g: jax.Array, pattern: Pattern, *, tiling: Tiling, num_sms: int, out_dtype: Any) -> jax.Array:
    """`[splits, nnzb, rows, cols]`: the live blocks of `x.T @ g`, one summand per part of the contraction.

    All items (a block, a part) cost the same; thread block `c` makes the items `c, c + ctas, ...`, so that those in flight at
    one time are neighbours and share operands in the L2 cache.

    Args:
      x: `[m, K]`, with `m` a multiple of `splits * depth` and `K` one of `rows`.
      g: `[m, N]`, in the dtype of `x`, with `N` a multiple of `cols`.
      pattern: of blocks `(rows, cols)`; at least one is live.
      tiling: of one thread block.
      num_sms: thread blocks that run at once.
      out_dtype: of the result.
    """
    items = tiling.splits * pattern.nnzb
    ctas = min(num_sms, items)
    steps = x.shape[0] // (tiling.splits * tiling.depth)
    turned = x.dtype == jnp.float32
    operands = Operands(x.T if turned else x, g.T if turned else g, jnp.asarray(pattern.indices), jnp.asarray(pattern.columns))
    out_type = jax.ShapeDtypeStruct((items, tiling.rows, tiling.cols), out_dtype)

    def body(refs: Operands, out: Any, *scratch: Any) -> None:
        _body(refs, out, pipeline.Scratch(*scratch), tiling, turned, items, ctas, steps)

    kernel = compat.persistent(
        body,
        name="sparta_bsr_sddmm",
        ctas=ctas,
        warpgroups=CONSUMERS + 1,
        out_type=out_type,
        scratch_types=tuple(_scratch(tiling, x.dtype, out_dtype)),
        approx_math=False,
        cost=pl.CostEstimate(
            flops=2 * x.shape[0] * pattern.nnzb * tiling.rows * tiling.cols,
            bytes_accessed=(x.size + g.size) * x.dtype.itemsize + out_type.size * out_type.dtype.itemsize,
            transcendentals=0,
        ),
    )
    return kernel(operands).reshape(tiling.splits, pattern.nnzb, tiling.rows, tiling.cols)


def _scratch(tiling: Tiling, dtype: Any, out_dtype: Any) -> pipeline.Scratch:
    rows, cols, depth = tiling.rows, tiling.cols, tiling.depth
    if dtype == jnp.float32:
        return pipeline.scratch(tiling, (rows, depth), (cols, depth), depth, dtype, out_dtype)
    return pipeline.scratch(tiling, (depth, rows), (depth, cols), min(tiling.part), dtype, out_dtype)


def _body(
    refs: Operands, out: Any, scratch: pipeline.Scratch, tiling: Tiling, turned: bool, items: int, ctas: int, steps: int
) -> None:
    cta = lax.axis_index("cta")
    rows, cols, depth = tiling.rows, tiling.cols, tiling.depth
    part_rows, part_cols = tiling.part
    blocks = items // tiling.splits

    def item(tile):
        return cta + tile * ctas

    def load(tile, step):
        split, block = lax.div(item(tile), blocks), lax.rem(item(tile), blocks)
        m = pl.ds((split * steps + step) * depth, depth)
        sides = pl.ds(refs.rows[block] * rows, rows), pl.ds(refs.cols[block] * cols, cols)
        return tuple(a.at[(side, m) if turned else (m, side)] for a, side in zip((refs.x, refs.g), sides, strict=True))

    def operands(consumer, slot):
        row, col = tiling.origin(consumer)
        if turned:
            return scratch.a.at[slot, pl.ds(row, part_rows)], scratch.b.at[slot, pl.ds(col, part_cols)].transpose((1, 0))
        return scratch.a.at[slot, :, pl.ds(row, part_rows)].transpose((1, 0)), scratch.b.at[slot, :, pl.ds(col, part_cols)]

    def finish(consumer, tile, result):
        row, col = tiling.origin(consumer)
        staging = scratch.out.at[consumer]
        chunk = staging.shape[-1]
        pipeline.write(
            staging,
            part_cols // chunk,
            lambda c: result[:, c * chunk : (c + 1) * chunk],
            lambda c: out.at[item(tile), pl.ds(row, part_rows), pl.ds(col + c * chunk, chunk)],
        )

    tiles = lax.div(items - cta + ctas - 1, ctas)
    pipeline.run(scratch, tiling, (jnp.int32(0), tiles), lambda tile: (jnp.int32(0), jnp.int32(steps)), load, operands, finish)
