"""Derivatives of the products: of a product they are products; of a fused epilogue, those of the two unfused."""

from __future__ import annotations

import dataclasses
import functools

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad

from ..problem import Epilogue
from ..stored import tables_of
from .epilogue import apply_epilogue
from .primitives import bind, sddmm_p, spmm_epilogue_p, spmm_p
from .product import Product


def _is_zero(tangent) -> bool:
    return type(tangent) is ad.Zero


def _bilinear_jvp(primitive: Primitive, primals, tangents, *, product: Product, call):
    (a, b, *tables), (da, db, *_) = primals, tangents
    y = bind(primitive, product, a, b, *tables)
    terms = [bind(primitive, product, *pair, *tables) for pair in ((da, b), (a, db)) if not any(map(_is_zero, pair))]
    return y, functools.reduce(ad.add_jaxvals, terms) if terms else ad.Zero(jax.typeof(y))


def _spmm_transpose(ct, x, values, *tables, product: Product, call):
    nothing = [None] * len(tables)
    if _is_zero(ct):
        return None, None, *nothing
    if ad.is_undefined_primal(x):
        back = dataclasses.replace(product, transposed=not product.transposed)
        return _as(bind(spmm_p, back, ct, values, *tables), x.aval), None, *nothing
    plain = dataclasses.replace(product, transposed=False)
    operands = (ct, x) if product.transposed else (x, ct)
    return None, _as(bind(sddmm_p, plain, *operands), values.aval), *nothing


def _sddmm_transpose(ct, x, g, *, product: Product, call):
    if _is_zero(ct):
        return None, None
    tables = tables_of(product.pattern, product.layout)
    if ad.is_undefined_primal(x):
        back = dataclasses.replace(product, transposed=True)
        return _as(bind(spmm_p, back, g, ct, *tables), x.aval), None
    return None, _as(bind(spmm_p, product, x, ct, *tables), g.aval)


def _as(value: jax.Array, aval) -> jax.Array:
    return value if value.dtype == aval.dtype else value.astype(aval.dtype)


def _unfused(product: Product, x, values, *rest):
    plain = dataclasses.replace(product, epilogue=Epilogue())
    y = bind(spmm_p, plain, x, values, *rest[: product.tables])
    return apply_epilogue(product.epilogue, y, *rest[product.tables :])


def _epilogue_jvp(primals, tangents, *, product: Product, call):
    moving = [i for i, t in enumerate(tangents) if not _is_zero(t)]

    def along(*values):
        operands = list(primals)
        for i, value in zip(moving, values, strict=True):
            operands[i] = value
        return _unfused(product, *operands)

    return jax.jvp(along, [primals[i] for i in moving], [tangents[i] for i in moving])


ad.primitive_jvps[spmm_p] = functools.partial(_bilinear_jvp, spmm_p)
ad.primitive_jvps[sddmm_p] = functools.partial(_bilinear_jvp, sddmm_p)
ad.primitive_jvps[spmm_epilogue_p] = _epilogue_jvp
ad.primitive_transposes[spmm_p] = _spmm_transpose
ad.primitive_transposes[sddmm_p] = _sddmm_transpose
