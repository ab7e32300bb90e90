"""The outer primitives: what the program sees."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import mlir

from ..stored import Stored, arrays_of
from .avals import sddmm_aval, spmm_aval, vary_alike
from .local import sddmm_local_p, spmm_epilogue_local_p, spmm_local_p
from .partitions import sddmm_partition, sddmm_rule, spmm_partition, spmm_rule
from .product import Product


def spmm(product: Product, x: jax.Array, weight: Stored) -> jax.Array:
    """`x [..., K] @ W`, or `x [..., N] @ W.T` if `product.transposed`; differentiable in `x` and in the weight's values."""
    return bind(spmm_p, product, x, *arrays_of(weight))


def sddmm(product: Product, x: jax.Array, g: jax.Array) -> jax.Array:
    """The values of a weight with `product`'s pattern and layout, from `x [..., K]` and `g [..., N]`: their outer products,
    summed over the leading axes, at the live cells."""
    return bind(sddmm_p, product, x, g)


def spmm_epilogue(product: Product, x: jax.Array, weight: Stored, *extras: jax.Array) -> jax.Array:
    """`activation(scale * (x @ W) + bias) + residual`; `extras` are the scale `[N]`, the bias `[N]` and the residual `[..., N]`
    that the epilogue has."""
    return bind(spmm_epilogue_p, product, x, *arrays_of(weight), *extras)


def bind(primitive: Primitive, product: Product, *operands) -> jax.Array:
    """One of the outer primitives at operands that may be of any kind and vary over any devices."""
    operands = vary_alike([jnp.asarray(a) for a in operands])
    shapes = tuple((a.shape, np.dtype(a.dtype)) for a in operands)
    return primitive.bind(*operands, product=product, call=_call(primitive, product, shapes))


@functools.lru_cache(maxsize=4096)
def _call(primitive: Primitive, product: Product, shapes: tuple[tuple[tuple[int, ...], np.dtype], ...]):
    """The jaxpr that calls the partitioned product at these shapes."""
    call = _PARTITIONED[primitive](product, tuple(len(shape) for shape, _ in shapes))
    return jax.make_jaxpr(call)(*(jax.ShapeDtypeStruct(*s) for s in shapes))


def _compiled(primitive: Primitive, call, product: Product, operands: Sequence[jax.Array]) -> jax.Array:
    with jax.disable_jit(False):  # a product has no other meaning than its lowering
        return _jitted(primitive, call, product)(*operands)


@functools.lru_cache(maxsize=4096)
def _jitted(primitive: Primitive, call, product: Product) -> Callable:
    return jax.jit(functools.partial(primitive.bind, call=call, product=product))


_PARTITIONED: dict[Primitive, Callable] = {}


def _outer(name: str, out_aval: Callable, inner: Primitive, rule: Callable, partition: Callable) -> Primitive:
    primitive = Primitive(name)
    primitive.def_abstract_eval(lambda *avals, call, product: out_aval(*avals, product=product))
    primitive.def_impl(lambda *operands, call, product: _compiled(primitive, call, product, operands))
    mlir.register_lowering(
        primitive,
        lambda ctx, *operands, call, product: mlir.lower_fun(jaxpr_as_fun(call), multiple_results=True)(ctx, *operands),
    )

    def partitioned(product: Product, ranks: tuple[int, ...]) -> Callable:
        local = functools.partial(inner.bind, product=product)

        @custom_partitioning
        def call(*operands):
            return local(*operands)

        call.def_partition(partition=functools.partial(partition, product, local), sharding_rule=rule(product, ranks))
        return call

    _PARTITIONED[primitive] = partitioned
    return primitive


spmm_p = _outer("spmm", spmm_aval, spmm_local_p, spmm_rule, spmm_partition)
sddmm_p = _outer("sddmm", sddmm_aval, sddmm_local_p, sddmm_rule, sddmm_partition)
spmm_epilogue_p = _outer("spmm_epilogue", spmm_aval, spmm_epilogue_local_p, spmm_rule, spmm_partition)
