"""The types of operands and results: their shapes, and over which devices they vary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.core import ShapedArray
from jax.interpreters import mlir
from jax.sharding import PartitionSpec

from .product import Product


def vary_alike(operands: list[jax.Array]) -> list[jax.Array]:
    """Inside `shard_map`: all operands made to vary over the same mesh axes, as JAX's own products do.

    Without this the gradient of a replicated weight is not summed over the devices, silently."""
    axes = [jax.typeof(a).manual_axis_type.varying for a in operands]
    union = frozenset().union(*axes)
    return [a if v == union else jax.lax.pcast(a, tuple(union - v), to="varying") for a, v in zip(operands, axes, strict=True)]


def varying_as(value: Any, aval) -> Any:
    """A value made to vary over the mesh axes over which `aval` does."""
    missing = aval.manual_axis_type.varying - jax.typeof(value).manual_axis_type.varying
    return jax.lax.pcast(value, tuple(missing), to="varying") if missing else value


def aval_like(aval, shape: tuple[int, ...], dtype, spec: Sequence[Any]):
    """`aval` (its varying axes, its mesh) with another shape, dtype and explicit sharding."""
    return aval.update(shape=shape, dtype=dtype, weak_type=False, sharding=aval.sharding.update(spec=PartitionSpec(*spec)))


def spmm_aval(x, *_, product: Product):
    lead = tuple(x.sharding.spec)[: x.ndim - 1]
    return aval_like(x, (*x.shape[:-1], product.n), product.out_dtype, (*lead, None))


def sddmm_aval(x, _, *, product: Product):
    shape = product.values_shape()
    return aval_like(x, shape, product.out_dtype, [None] * len(shape))


def on_one_device(ctx: mlir.LoweringRuleContext) -> mlir.LoweringRuleContext:
    """The context of a lowering rule inside `shard_map`, where what varies over devices no longer matters: kernels mix operands
    with constants of their own."""
    varies = lambda a: bool(a.manual_axis_type.varying) if hasattr(a, "manual_axis_type") else False
    if not any(map(varies, (*ctx.avals_in, *ctx.avals_out))):
        return ctx
    plain = lambda avals: [ShapedArray(a.shape, a.dtype) for a in avals]
    return ctx.replace(avals_in=plain(ctx.avals_in), avals_out=plain(ctx.avals_out))
