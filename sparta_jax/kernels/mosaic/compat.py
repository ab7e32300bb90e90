"""What the JAX versions spell differently in Pallas for Mosaic GPU."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu

# jax 0.10: `load(ref, idx)` with a mandatory index; 0.11: the index is deprecated; 0.12: it is gone.
_LOAD_TAKES_INDEX = getattr(inspect.signature(plgpu.load).parameters.get("idx"), "default", None) is inspect.Parameter.empty
# jax 0.12 and later.
_KERNEL_TAKES_COST = "cost_estimate" in inspect.signature(plgpu.kernel).parameters


def load(ref: Any, *index: Any, **options: Any) -> jax.Array:
    """`ref[index]` in registers; `options` are those of `plgpu.load`."""
    return plgpu.load(ref, index, **options) if _LOAD_TAKES_INDEX else plgpu.load(ref.at[index], **options)


def persistent(
    body: Callable[..., None],
    *,
    name: str,
    ctas: int,
    warpgroups: int,
    out_type: jax.ShapeDtypeStruct,
    scratch_types: tuple,
    approx_math: bool,
    cost: pl.CostEstimate,
) -> Callable[..., jax.Array]:
    """The kernel that runs `body` on a grid of `ctas` along axis `"cta"`, each with `warpgroups` along axis `"warpgroup"`."""
    options: dict[str, Any] = {"cost_estimate": cost} if _KERNEL_TAKES_COST else {}
    return plgpu.kernel(
        body,
        out_type=out_type,
        scratch_types=scratch_types,
        grid=(ctas,),
        grid_names=("cta",),
        num_threads=warpgroups,
        thread_name="warpgroup",
        kernel_name=name,
        compiler_params=plgpu.CompilerParams(approx_math=approx_math, lowering_semantics=plgpu.LoweringSemantics.Warpgroup),
        **options,
    )
