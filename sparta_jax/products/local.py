"""The inner primitives: what one device runs."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import jax
from jax.extend.core import Primitive
from jax.interpreters import mlir

from ..stored import Stored, arrays_of
from .avals import on_one_device, sddmm_aval, spmm_aval
from .device import PLATFORMS, default_device
from .problems import sddmm_problem, spmm_problem
from .product import Product


def _run_spmm(product: Product, plan, x, values, *rest):
    tables, extras = rest[: product.tables], list(rest[product.tables :])
    if product.epilogue.residual:
        extras[-1] = extras[-1].reshape(-1, product.n)
    y = plan.run(x.reshape(-1, x.shape[-1]), product.weight(values, tables), *extras)
    return y.reshape(*x.shape[:-1], product.n)


def _run_sddmm(product: Product, plan, x, g):
    return plan.run(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1]))


def _inner(name: str, out_aval: Callable, problem: Callable, run: Callable) -> Primitive:
    primitive = Primitive(name + "_local")
    primitive.def_abstract_eval(out_aval)

    def lower(ctx, *operands, product: Product, platform: str):
        plan = product.planner.plan(problem(product, ctx.avals_in, default_device(platform)))
        with warnings.catch_warnings():
            # Since jax 0.11, of kernels that are there for as long as that backend is.
            warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
            return mlir.lower_fun(functools.partial(run, product, plan), multiple_results=False)(on_one_device(ctx), *operands)

    mlir.register_lowering(primitive, functools.partial(lower, platform="other"))
    for platform in PLATFORMS:
        mlir.register_lowering(primitive, functools.partial(lower, platform=platform), platform=platform)
    return primitive


spmm_local_p = _inner("spmm", spmm_aval, spmm_problem, _run_spmm)
sddmm_local_p = _inner("sddmm", sddmm_aval, sddmm_problem, _run_sddmm)
spmm_epilogue_local_p = _inner("spmm_epilogue", spmm_aval, spmm_problem, _run_spmm)


def spmm_here(product: Product, x: jax.Array, weight: Stored, *extras: jax.Array) -> jax.Array:
    """`spmm_epilogue` inside what one device runs."""
    primitive = spmm_epilogue_local_p if product.epilogue else spmm_local_p
    return primitive.bind(x, *arrays_of(weight), *extras, product=product)
