"""How fast a GPU's multiprocessors fetch by TMA what lies in the L2 cache: what bounds products of small blocks."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
from jax import lax

from sparta_jax.kernels.mosaic import compat

ROWS, COLS, SLOTS = 128, 64, 8
STRIDE = 37
TILES = 512  # 8 MiB in bfloat16


def fetch(x: jax.Array, ctas: int, steps: int) -> jax.Array:
    """`[ctas, ROWS, COLS]`: the last of `steps` tiles that each thread block fetched, `SLOTS` at a time."""
    tiles = x.shape[0] // ROWS

    def body(x: Any, out: Any, ring: Any, full: Any) -> None:
        cta = lax.axis_index("cta")

        def start(step, slot):
            tile = tile_of(cta, step, tiles)
            plgpu.copy_gmem_to_smem(x.at[pl.ds(tile * ROWS, ROWS)], ring.at[slot], full.at[slot])

        for slot in range(SLOTS):
            start(jnp.int32(slot), slot)

        def step(i, carry):
            slot = lax.rem(i, SLOTS)
            plgpu.barrier_wait(full.at[slot])

            @pl.when(i + SLOTS < steps)
            def _next():
                start(i + SLOTS, slot)

            return carry

        lax.fori_loop(0, steps, step, None)
        plgpu.copy_smem_to_gmem(ring.at[(steps - 1) % SLOTS], out.at[cta])
        plgpu.wait_smem_to_gmem(0)

    out = jax.ShapeDtypeStruct((ctas, ROWS, COLS), x.dtype)
    read = ctas * steps * ROWS * COLS * x.dtype.itemsize
    kernel = compat.persistent(
        body,
        name="sparta_l2_bandwidth",
        ctas=ctas,
        warpgroups=1,
        out_type=out,
        scratch_types=(plgpu.SMEM((SLOTS, ROWS, COLS), x.dtype), plgpu.Barrier(num_arrivals=1, num_barriers=SLOTS)),
        approx_math=False,
        cost=pl.CostEstimate(flops=0, bytes_accessed=read, transcendentals=0),
    )
    return kernel(x)


def tile_of(cta: Any, step: Any, tiles: int) -> Any:
    """Which tile a thread block fetches in a step: neighbours begin at different ones."""
    return lax.rem(cta * STRIDE + step, tiles)


def measure(ctas: int, steps: int = 20_000) -> float:
    """Bytes per second of all thread blocks together; the median of five runs."""
    x = jax.random.normal(jax.random.key(0), (TILES * ROWS, COLS), jnp.bfloat16)
    run = jax.jit(lambda x: fetch(x, ctas, steps))
    run(x).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run(x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return ctas * steps * ROWS * COLS * 2 / sorted(seconds)[2]
