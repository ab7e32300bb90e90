"""How a Triton kernel is called."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.triton as plt


def on_grid(
    body: Callable[..., None],
    *,
    name: str,
    grid: tuple[int, ...],
    out_type: jax.ShapeDtypeStruct,
    warps: int,
    stages: int,
    cost: pl.CostEstimate,
) -> Callable[..., jax.Array]:
    """The kernel that runs `body(*operand refs, out ref)` at every point of `grid`.

    The backend is named: which one is the default differs by version."""
    body.__name__ = name  # newer JAX name the kernel after its function
    return pl.pallas_call(
        body,
        out_shape=out_type,
        grid=grid,
        name=name,
        compiler_params=plt.CompilerParams(num_warps=warps, num_stages=stages),
        cost_estimate=cost,
    )
