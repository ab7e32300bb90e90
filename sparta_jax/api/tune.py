"""Tuning one call: the problems of its sites, and of its gradient, timed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ..errors import SpartaTypeError, SpartaValueError
from ..interpreters import jaxprs_in, weight_entries
from ..problem import DENSE, SDDMM, Device, SpMM
from ..products import problem_of
from ..specialize import Chooser, tune
from ..stored import layout_of
from .analysis import Analysis
from .call import Signature
from .compress import problems_of


def tuned(analysis: Analysis, device: Device, cached: bool, gradients: bool | None, gradient: Callable[[], Any]) -> Chooser:
    """The call's chooser, with what the candidates at its sites were measured to take.

    Args:
      analysis: of the call.
      device: that this process computes on.
      cached: see `specialize.tune`.
      gradients: whether the products of the gradient are timed, too; None: where the params are compressed.
      gradient: makes its jaxpr.

    Raises:
      SpartaTypeError: if the gradient of packed params is asked for.
      SpartaValueError: if the function is made for another platform than this process computes on.
    """
    here = jax.default_backend().replace("gpu", "cuda")
    if device.platform != here:
        raise SpartaValueError(f"`tune` times kernels, and this process computes on {here}, not on {device.platform}")
    if gradients and analysis.call.packed:
        raise SpartaTypeError("packed params have no gradient: give `tune` the params themselves, or compressed ones")
    asked = problems(analysis, device)
    if bool(analysis.call.kept) if gradients is None else gradients:
        asked += products_in(gradient(), device)
    return tune(analysis.chooser, asked, cached)


def gradient_of(fn: Callable[..., Any], signature: Signature, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The jaxpr of the gradient, in the params, of the sum of a call's real outputs."""
    constants = {name: value for name, value in kwargs.items() if name in signature.static_names}
    dynamic = {name: value for name, value in kwargs.items() if name not in constants}
    fixed = functools.partial(fn, **constants)

    def loss(*args, **kwargs):
        floats = [leaf for leaf in jax.tree.leaves(fixed(*args, **kwargs)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return sum((jnp.sum(leaf, dtype=jnp.float32) for leaf in floats), jnp.float32(0))

    gradient = jax.grad(loss, signature.argnums, allow_int=True)
    return jax.make_jaxpr(gradient, static_argnums=tuple(signature.statics(args)))(*args, **dynamic)


def products_in(jaxpr: Any, device: Device) -> Iterator[SpMM | SDDMM]:
    """The problems of the products in a program, those in its loops and calls among them."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name, avals = equation.primitive.name, [v.aval for v in equation.invars]
        problem = problem_of(name, equation.params["product"], avals, device) if "product" in equation.params else None
        if problem is not None:
            yield problem
            continue
        for inner in jaxprs_in(equation.params):
            yield from products_in(inner, device)


def problems(analysis: Analysis, device: Device) -> list[SpMM | SDDMM]:
    """What kernels are asked at every site, packed weights in the layouts that they have; of compressed ones also in a
    gradient."""
    compressed = problems_of(analysis, device)
    stored = {k: v for p in analysis.call.packed for k, v in p.entries.items()}
    found: list[SpMM | SDDMM] = []
    for place in analysis.places:
        for site in place.rewritten.sites:
            if site in compressed:
                found += compressed[site]
                continue
            for entry in weight_entries(site, place.origins):
                layout = layout_of(stored[entry.key]) if entry.key in stored else DENSE
                found.append(analysis.problem(site, entry.index, layout, device))
    return found
