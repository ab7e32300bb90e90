"""Batches of products: a batch of x is a further leading axis; a batch of weights is one product each."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching

from .primitives import bind, sddmm_p, spmm_epilogue_p, spmm_p
from .product import Product

UNROLLED_BATCH = 8


def _each(primitive: Primitive, operands, axes, product: Product):
    size = next(a.shape[d] for a, d in zip(operands, axes, strict=True) if d is not None)
    moved = [a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(operands, axes, strict=True)]
    one = lambda i: bind(primitive, product, *(a if d is None else a[i] for a, d in zip(moved, axes, strict=True)))
    if size <= UNROLLED_BATCH:
        return jnp.stack([one(i) for i in range(size)]), 0
    return jax.lax.map(one, jnp.arange(size)), 0


def _spmm_batch(primitive: Primitive, operands, axes, *, product: Product, call):
    residual = len(operands) - 1 if product.epilogue.residual else 0
    folding = {0, residual}
    if any(d is not None for i, d in enumerate(axes) if i not in folding) or any(axes[i] is None for i in folding):
        return _each(primitive, operands, axes, product)
    moved = [jnp.moveaxis(a, axes[i], 0) if i in folding else a for i, a in enumerate(operands)]
    return bind(primitive, product, *moved), 0


def _sddmm_batch(operands, axes, *, product: Product, call):
    return _each(sddmm_p, operands, axes, product)


batching.primitive_batchers[spmm_p] = functools.partial(_spmm_batch, spmm_p)
batching.primitive_batchers[spmm_epilogue_p] = functools.partial(_spmm_batch, spmm_epilogue_p)
batching.primitive_batchers[sddmm_p] = _sddmm_batch
