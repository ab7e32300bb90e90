"""Compaction of reductions, cumulative sums and sorting."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ...jaxprs import Equation, apply
from ..convert import inside, reduced
from ..emission import Emission, Held, compacts, whole
from ..small import expanded
from ..view import Kept, View


@compacts("reduce_sum")
def reduce_sum_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Zeros are left out; what constants contribute is an offset."""
    (x,), axes = equation.inputs, equation.params["axes"]
    view = emission.target(equation.outputs[0])
    held = _source(x.shape, view, axes, emission.ideal(x).kept)
    (y,) = apply(equation, [emission.want(x, held)])
    if not emission.folds(x):
        return [Held(view, y)]
    base = _source(x.shape, view, axes, emission.ideal(x, fold=False).kept)
    return [Held(view, y, _offset(emission, equation, held, base))]


def _offset(emission: Emission, equation: Equation, held: View, base: View) -> jax.Array | None:
    """The sum of the constants in `base` that are not in `held`."""
    (x,), axes = equation.inputs, equation.params["axes"]
    if held.key == base.key:
        return None
    shadow = reduced(emission.shadow(x), base)
    others = [d for d in range(shadow.ndim) if d not in axes]
    shadow = jnp.where(inside(held.whole_along(others), base), jnp.zeros((), shadow.dtype), shadow)
    return apply(equation, [expanded(shadow, base.sizes, axes)])[0]


@compacts("reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin")
def reduce_compact(emission: Emission, equation: Equation) -> list[Held]:
    """The reduced axes are whole: a maximum counts zeros."""
    (x,), axes = equation.inputs, equation.params["axes"]
    view = emission.target(equation.outputs[0])
    source = _source(x.shape, view, axes, [None] * len(x.shape))
    return [Held(view, apply(equation, [emission.want(x, source)])[0])]


def _source(shape: Sequence[int], view: View, axes: Sequence[int], along: Sequence[Kept]) -> View:
    """A reduction's operand: in the result's view along the axes that stay, `along` the others."""
    rest = iter(view.kept)
    return View.of(shape, [along[d] if d in axes else next(rest) for d in range(len(shape))])


@compacts("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative_compact(emission: Emission, equation: Equation) -> list[Held]:
    view = emission.target(equation.outputs[0]).whole_along([equation.params["axis"]])
    return [Held(view, apply(equation, [emission.want(equation.inputs[0], view)])[0])]


@compacts("sort")
def sort_compact(emission: Emission, equation: Equation) -> list[Held]:
    """All operands in one view, the sorted axis whole."""
    ideals = [emission.target(v) for v in equation.outputs]
    view = ideals[0]
    for other in ideals[1:]:
        view = view | other
    view = view.whole_along([equation.params["dimension"]])
    values = [emission.want(a, view) for a in equation.inputs]
    return [Held(view, y) for y in apply(equation, values)]


@compacts("top_k")
def top_k_compact(emission: Emission, equation: Equation) -> list[Held]:
    (x,) = equation.inputs
    axis = equation.params.get("axis", -1) % len(x.shape)
    view = (emission.target(equation.outputs[0]) | emission.target(equation.outputs[1])).whole_along([axis])
    if view.is_empty:
        return whole(emission, equation)
    value = emission.want(x, View.of(x.shape, view.kept))
    return [Held(view, y) for y in apply(equation, [value])]
