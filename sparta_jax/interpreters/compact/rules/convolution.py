"""Compaction of convolutions and pooling: channels that are dead or constant are left out."""

from __future__ import annotations

import jax
import numpy as np

from ...jaxprs import Equation, apply
from ..convert import reduced
from ..emission import Emission, Held, compacts, whole
from ..small import expanded, windowed
from ..view import Kept, View, meet


@compacts("conv_general_dilated")
def conv_general_dilated_compact(emission: Emission, equation: Equation) -> list[Held]:
    """What constant channels contribute is an offset, a map where the padding makes the edges differ."""
    p = equation.params
    if p["batch_group_count"] != 1:
        return whole(emission, equation)
    return _grouped(emission, equation) if p["feature_group_count"] > 1 else _plain(emission, equation)


def _plain(emission: Emission, equation: Equation) -> list[Held]:
    x, w = equation.inputs
    numbers = equation.params["dimension_numbers"]
    (x_batch, x_feature), (w_out, w_in) = numbers.lhs_spec[:2], numbers.rhs_spec[:2]
    o_batch, o_feature = numbers.out_spec[:2]
    ideal = emission.target(equation.outputs[0])
    view = ideal.whole_along([d for d in range(len(x.shape)) if d not in (o_batch, o_feature)])
    folding = emission.folds(x) and emission.is_fixed(w)
    live = emission.ideal(w, fold=False).kept[w_in]
    base = meet(emission.ideal(x, fold=False).kept[x_feature], live)
    held = meet(emission.ideal(x, fold=folding).kept[x_feature], live)
    source = View.whole(x.shape).along(x_batch, view.kept[o_batch])
    weight = View.whole(w.shape).along(w_out, view.kept[o_feature])
    values = [emission.want(x, source.along(x_feature, held)), emission.want(w, weight.along(w_in, held))]
    (y,) = apply(equation, values)
    out = _difference(base, held, x.shape[x_feature])
    if not len(out):
        return [Held(view, y)]
    shadow = _image(emission, equation, source.along(x_feature, out))
    kernel = emission.want(w, weight.along(w_in, out))
    return [Held(view, y, apply(equation, [shadow, kernel])[0])]


def _image(emission: Emission, equation: Equation, view: View) -> jax.Array:
    """The shadow of the operand in a view, whole but for the batch."""
    x = equation.inputs[0]
    batch = equation.params["dimension_numbers"].lhs_spec[0]
    shadow = reduced(emission.shadow(x), view)
    return expanded(shadow, view.sizes, [d for d in range(shadow.ndim) if d != batch])


def _grouped(emission: Emission, equation: Equation) -> list[Held]:
    """Whole groups are left out: of a depthwise convolution, channels."""
    x, w = equation.inputs
    p = equation.params
    numbers, groups = p["dimension_numbers"], p["feature_group_count"]
    x_feature, w_out = numbers.lhs_spec[1], numbers.rhs_spec[0]
    o_feature = numbers.out_spec[1]
    ideal = emission.target(equation.outputs[0])
    width = ideal.shape[o_feature] // groups
    live = np.unique(ideal.indices(o_feature) // width)
    members = lambda size: (live[:, None] * (size // groups) + np.arange(size // groups)).ravel()
    view = View.whole(ideal.shape).along(o_feature, members(ideal.shape[o_feature]))
    source = View.whole(x.shape).along(x_feature, members(x.shape[x_feature]))
    weight = View.whole(w.shape).along(w_out, members(w.shape[w_out]))
    values = [emission.want(x, source), emission.want(w, weight)]
    return [Held(view, apply(equation, values, feature_group_count=len(live))[0])]


def _difference(a: Kept, b: Kept, size: int) -> np.ndarray:
    every = np.arange(size)
    return np.setdiff1d(every if a is None else a, every if b is None else b, assume_unique=True)


@compacts("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def reduce_window_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Axes with windows are whole; channels that are constant before are so behind."""
    view = emission.target(equation.outputs[0]).whole_along(windowed(equation))
    source = View.of(equation.inputs[0].shape, view.kept)
    return [Held(view, apply(equation, [emission.want(equation.inputs[0], source)])[0])]
