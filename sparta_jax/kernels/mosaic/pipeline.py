"""The pipeline of a persistent, warp-specialized matrix product: one warpgroup fetches, two multiply and write.

A ring of slots in shared memory lies between them. The fetching warpgroup runs ahead of the others by as many steps as there
are slots, across the ends of tiles too, so the tensor cores do not wait when a tile begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
from jax import lax

from .tiling import CONSUMERS, Tiling

COPIES_PER_STEP = 2
# A streaming multiprocessor has 512 registers per lane of four warps; the producer needs few, the consumers hold the result.
PRODUCER_REGISTERS = 40
CONSUMER_REGISTERS = 232

Range = tuple[Any, Any]


class Scratch(NamedTuple):
    """Shared memory of a thread block, as types or as refs.

    Attributes:
      a, b: `[stages, ...]`, the operands of the steps in flight.
      out: `[consumers, 2, *chunk]`, results on their way to memory.
      full: barriers, one per slot: both operands have arrived.
      empty: barriers, one per slot: both consumers have read them.
    """

    a: Any
    b: Any
    out: Any
    full: Any
    empty: Any


def scratch(tiling: Tiling, a: tuple[int, int], b: tuple[int, int], read: int, dtype: Any, out_dtype: Any) -> Scratch:
    """The scratch types.

    Args:
      tiling: of the kernel.
      a, b: the shapes of one step's operands, as they are fetched.
      read: of how many columns `wgmma` reads both of them, at the most: both operands must be swizzled alike.
      dtype: of the operands.
      out_dtype: of the result.
    """
    chunk = tiling.chunk(jnp.dtype(out_dtype).itemsize)
    return Scratch(
        _swizzled((tiling.stages, *a), dtype, read),
        _swizzled((tiling.stages, *b), dtype, read),
        _swizzled((CONSUMERS, 2, *chunk), out_dtype, chunk[1]),
        plgpu.Barrier(num_arrivals=COPIES_PER_STEP, num_barriers=tiling.stages),
        plgpu.Barrier(num_arrivals=CONSUMERS, num_barriers=tiling.stages),
    )


def _swizzled(shape: tuple[int, ...], dtype: Any, columns: int) -> Any:
    """Shared memory in the layout of TMA and `wgmma`, in swizzled runs of at most `columns`."""
    itemsize = jnp.dtype(dtype).itemsize
    swizzle = plgpu.find_swizzle(columns * itemsize * 8)
    transforms = (plgpu.TilingTransform((8, swizzle // itemsize)), plgpu.SwizzleTransform(swizzle))
    return plgpu.SMEM(shape, dtype, transforms=transforms)


def run(
    scratch: Scratch,
    tiling: Tiling,
    tiles: Range,
    steps: Callable[[Any], Range],
    load: Callable[[Any, Any], tuple[Any, Any]],
    operands: Callable[[Any, Any], tuple[Any, Any]],
    finish: Callable[[Any, Any, jax.Array], None],
) -> None:
    """Computes `finish(tile, sum over steps(tile) of a @ b)` for every tile of one thread block.

    Args:
      scratch: the refs.
      tiling: of the kernel.
      tiles: first and last (exclusive) tile.
      steps: of a tile: its first and last (exclusive) step.
      load: `load(tile, step)` gives the refs in memory of a step's two operands.
      operands: `operands(consumer, slot)` gives the refs `a` and `b` whose product is of the accumulator's shape.
      finish: `finish(consumer, tile, result)` gets the sum, of that shape, in float32.
    """
    warpgroup = lax.axis_index("warpgroup")

    @pl.when(warpgroup == CONSUMERS)
    def _producer():
        plgpu.set_max_registers(PRODUCER_REGISTERS, action="decrease")
        _produce(scratch, tiling.stages, tiles, steps, load)

    @pl.when(warpgroup < CONSUMERS)
    def _consumer():
        plgpu.set_max_registers(CONSUMER_REGISTERS, action="increase")

        def tile_body(tile, done):
            result, done = _accumulate(scratch, tiling, steps(tile), lambda slot: operands(warpgroup, slot), done)
            finish(warpgroup, tile, result)
            return done

        first, last = tiles
        lax.fori_loop(first, last, tile_body, jnp.int32(0))
        plgpu.wait_smem_to_gmem(0)


def _produce(scratch: Scratch, stages: int, tiles: Range, steps: Callable, load: Callable) -> None:
    """Fetches every step of every tile, each into the next slot as soon as that is empty."""

    def tile_body(tile, done):
        def step_body(step, done):
            slot = lax.rem(done, stages)

            @pl.when(done >= stages)
            def _wait():
                plgpu.barrier_wait(scratch.empty.at[slot])

            for source, ring in zip(load(tile, step), (scratch.a, scratch.b), strict=True):
                plgpu.copy_gmem_to_smem(source, ring.at[slot], scratch.full.at[slot])
            return done + 1

        first, last = steps(tile)
        return lax.fori_loop(first, last, step_body, done)

    first, last = tiles
    done = lax.fori_loop(first, last, tile_body, jnp.int32(0))

    def drain(step, carry):
        plgpu.barrier_wait(scratch.empty.at[lax.rem(step, stages)])
        return carry

    # A thread block must not end with a barrier that others still arrive on.
    lax.fori_loop(lax.max(done - stages, 0), done, drain, None)


def _accumulate(scratch: Scratch, tiling: Tiling, steps: Range, operands: Callable, done: Any) -> tuple[jax.Array, Any]:
    """The sum of the products of `steps` (zero where there is none), and the count of all steps done by then."""
    first, last = steps

    def release(step):
        plgpu.barrier_arrive(scratch.empty.at[lax.rem(step, tiling.stages)])

    def scope(acc):
        def step_body(step, done):
            slot = lax.rem(done, tiling.stages)
            plgpu.barrier_wait(scratch.full.at[slot])
            plgpu.wgmma(acc, *operands(slot))
            plgpu.wgmma_wait(1)

            # One product stays in flight, so the slot to give back is that of the one before.
            @pl.when(step > first)
            def _release_previous():
                release(done - 1)

            return done + 1

        end = lax.fori_loop(first, last, step_body, done)
        result = acc[...]

        @pl.when(last > first)
        def _release_last():
            release(end - 1)

        return result, end

    return pl.run_scoped(scope, plgpu.ACC(tiling.accumulator, jnp.float32))


def write(
    out: Any, chunks: int, value: Callable[[int], jax.Array], target: Callable[[int], Any], swapped: bool = False
) -> None:
    """Sends `value(c)`, or its transpose, to `target(c)` in memory for every chunk, through the two buffers of `out`."""
    for c in range(chunks):
        plgpu.wait_smem_to_gmem(1, wait_read_only=True)
        if swapped:
            turned = plgpu.layout_cast(value(c).astype(out.dtype), plgpu.Layout.WGMMA_TRANSPOSED)
            out.at[c % 2].transpose((1, 0))[...] = turned
        else:
            out[c % 2] = value(c).astype(out.dtype)
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(out.at[c % 2], target(c))
    if chunks % 2:
        # The next tile starts with buffer 0 again, which this one used last.
        plgpu.wait_smem_to_gmem(0, wait_read_only=True)
