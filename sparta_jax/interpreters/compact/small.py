"""Equations on arrays whose uniform axes have size 1: a bias that is broadcast over a batch stays one row.

An operand has all its axes; each has its whole size, or size 1 where all slices along it are alike. So has a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...grid import reshape_groups
from ..jaxprs import Constant, Equation, Program, Variable, apply, body
from .derivative import jvp_program, moving, with_derivative
from .elementwise import is_elementwise

SMALL: dict[str, Callable] = {}

# What is linear in each operand, or picks among elements: of finite operands its values and derivatives are finite.
MULTILINEAR = frozenset(
    {
        *("add", "sub", "mul", "add_any", "neg", "max", "min", "select_n", "clamp", "copy", "convert_element_type", "name"),
        *("stop_gradient", "real", "imag", "conj", "complex", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not"),
        *("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "rev", "iota", "slice", "split", "concatenate"),
        *("pad", "stack", "unstack", "gather", "dynamic_slice", "dynamic_update_slice", "sort", "top_k", "device_put"),
        *("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max", "optimization_barrier"),
        *("dot_general", "conv_general_dilated", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and"),
        *("reduce_or", "reduce_xor", "argmax", "argmin", "cumsum", "cumprod", "cummax", "cummin"),
        *("reduce_window_sum", "reduce_window_max", "reduce_window_min"),
    }
)


def evaluate_small(equation: Equation, values: Sequence[jax.Array]) -> list[jax.Array]:
    """The results of one equation; without a rule of its own on operands of their whole size."""
    if is_elementwise(equation):
        values = _alike([jnp.asarray(v) for v in values])
        return apply(equation, values)
    if (rule := SMALL.get(equation.name)) is not None:
        return rule(equation, *(jnp.asarray(v) for v in values))
    return apply(equation, [expanded(v, a.shape) for v, a in zip(values, equation.inputs, strict=True)])


def run_small(program: Program, inputs: Sequence[jax.Array], evaluate: Callable = evaluate_small) -> list[jax.Array]:
    """The outputs of a program on such arrays."""
    env: dict[Variable, jax.Array] = {**program.constants, **dict(zip(program.inputs, inputs, strict=True))}
    read = lambda atom: atom.value if isinstance(atom, Constant) else env[atom]
    for equation in program.equations:
        env.update(zip(equation.outputs, evaluate(equation, [read(a) for a in equation.inputs]), strict=True))
    return [jnp.asarray(read(a)) for a in program.outputs]


def expanded(value: jax.Array, shape: Sequence[int], axes: Sequence[int] | None = None) -> jax.Array:
    """A value with its whole size along `axes` (all, unless told)."""
    sizes = [n if axes is None or d in axes else m for d, (n, m) in enumerate(zip(shape, jnp.shape(value), strict=True))]
    return jnp.broadcast_to(value, sizes)


def small(*names: str) -> Callable[[Callable], Callable]:
    def add(rule: Callable) -> Callable:
        SMALL.update(dict.fromkeys(names, rule))
        return rule

    return add


def _alike(values: Sequence[jax.Array]) -> list[jax.Array]:
    """Broadcast to one shape; scalars stay scalars."""
    shape = np.broadcast_shapes(*(v.shape for v in values))
    return [v if v.ndim < len(shape) else jnp.broadcast_to(v, shape) for v in values]


@small("broadcast_in_dim")
def broadcast_in_dim_small(equation: Equation, x: jax.Array, *_) -> list[jax.Array]:
    """New axes and stretched ones are uniform."""
    at = equation.params["broadcast_dimensions"]
    shape = [1] * len(equation.params["shape"])
    for size, axis in zip(x.shape, at, strict=True):
        shape[axis] = size
    return [lax.broadcast_in_dim(x, shape, at)]


@small("reshape")
def reshape_small(equation: Equation, x: jax.Array, *_) -> list[jax.Array]:
    """Axes that are merged or split have their whole size, unless all of them are uniform."""
    shape, sizes, whole, axis = equation.inputs[0].shape, [], [], 0
    if 0 in shape:
        return apply(equation, [expanded(x, shape)])
    for olds, news in reshape_groups(shape, equation.outputs[0].shape):
        axes = range(axis, axis + len(olds))
        axis += len(olds)
        if all(x.shape[d] == 1 for d in axes):
            sizes += [1] * len(news)
        else:
            whole += axes
            sizes += news
    return [expanded(x, shape, whole).reshape(sizes)]


@small("transpose")
def transpose_small(equation: Equation, x: jax.Array) -> list[jax.Array]:
    return apply(equation, [x])


@small("squeeze")
def squeeze_small(equation: Equation, x: jax.Array) -> list[jax.Array]:
    return apply(equation, [x])


@small("rev")
def rev_small(equation: Equation, x: jax.Array) -> list[jax.Array]:
    """The order of alike slices does not matter."""
    return apply(equation, [x])


@small("dot_general")
def dot_general_small(equation: Equation, x: jax.Array, y: jax.Array) -> list[jax.Array]:
    """Contracted axes have their whole size, batch axes where one operand's have."""
    (x_contract, y_contract), (x_batch, y_batch) = equation.params["dimension_numbers"]
    uneven = [(i, j) for i, j in zip(x_batch, y_batch, strict=True) if x.shape[i] != y.shape[j]]
    x = expanded(x, equation.inputs[0].shape, [*x_contract, *(i for i, _ in uneven)])
    y = expanded(y, equation.inputs[1].shape, [*y_contract, *(j for _, j in uneven)])
    return apply(equation, [x, y])


@small(
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin"
)  # fmt: skip
def reduce_small(equation: Equation, x: jax.Array) -> list[jax.Array]:
    return apply(equation, [expanded(x, equation.inputs[0].shape, equation.params["axes"])])


@small("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative_small(equation: Equation, x: jax.Array) -> list[jax.Array]:
    return apply(equation, [expanded(x, equation.inputs[0].shape, [equation.params["axis"]])])


@small("concatenate")
def concatenate_small(equation: Equation, *xs: jax.Array) -> list[jax.Array]:
    axis = equation.params["dimension"]
    wide = [expanded(x, a.shape, [axis]) for x, a in zip(xs, equation.inputs, strict=True)]
    other = np.broadcast_shapes(*([1 if d == axis else n for d, n in enumerate(x.shape)] for x in wide))
    sized = lambda x: [x.shape[axis] if d == axis else n for d, n in enumerate(other)]
    return apply(equation, [jnp.broadcast_to(x, sized(x)) for x in wide])


@small("slice")
def slice_small(equation: Equation, x: jax.Array) -> list[jax.Array]:
    """A slice of alike slices is one of them."""
    params, n = equation.params, x.ndim
    one = [m == 1 for m in x.shape]
    starts = [0 if u else s for u, s in zip(one, params["start_indices"], strict=True)]
    limits = [1 if u else s for u, s in zip(one, params["limit_indices"], strict=True)]
    strides = [1 if u else s for u, s in zip(one, params["strides"] or (1,) * n, strict=True)]
    return [lax.slice(x, starts, limits, strides)] if math.prod(equation.outputs[0].shape) else bind_whole(equation, x)


def bind_whole(equation: Equation, *values: jax.Array) -> list[jax.Array]:
    return apply(equation, [expanded(v, a.shape) for v, a in zip(values, equation.inputs, strict=True)])


@small("split")
def split_small(equation: Equation, x: jax.Array) -> list[jax.Array]:
    return apply(equation, [expanded(x, equation.inputs[0].shape, [equation.params["axis"]])])


@small("pad")
def pad_small(equation: Equation, x: jax.Array, value: jax.Array) -> list[jax.Array]:
    config = equation.params["padding_config"]
    moved = [d for d, amounts in enumerate(config) if tuple(amounts) != (0, 0, 0)]
    return apply(equation, [expanded(x, equation.inputs[0].shape, moved), value])


@small("conv_general_dilated")
def conv_small(equation: Equation, x: jax.Array, w: jax.Array) -> list[jax.Array]:
    """The batch may be uniform; the edge of an image is not its middle."""
    batch = equation.params["dimension_numbers"].lhs_spec[0]
    shape = equation.inputs[0].shape
    keep = [batch] if equation.params["batch_group_count"] == 1 else []
    x = expanded(x, shape, [d for d in range(len(shape)) if d not in keep])
    return apply(equation, [x, expanded(w, equation.inputs[1].shape)])


@small("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def reduce_window_small(equation: Equation, x: jax.Array) -> list[jax.Array]:
    axes = windowed(equation)
    return apply(equation, [expanded(x, equation.inputs[0].shape, axes)])


def windowed(equation: Equation) -> list[int]:
    """The axes along which windows do more than hold one element each."""
    p = equation.params
    plain = lambda d: (
        p["window_dimensions"][d] == p["window_strides"][d] == p["base_dilation"][d] == p["window_dilation"][d] == 1
        and tuple(p["padding"][d]) == (0, 0)
    )
    return [d for d in range(len(p["window_dimensions"])) if not plain(d)]


@small("custom_jvp_call")
def custom_jvp_call_small(equation: Equation, *values: jax.Array) -> list[jax.Array]:
    """The body, with the user's own derivative. Along an axis where a tangent varies its result has its whole size, too."""
    count = len(equation.outputs)

    def derivative(program: Program, *xs: jax.Array, evaluate: Callable = evaluate_small) -> list[jax.Array]:
        results = run_small(program, xs, evaluate)
        for i, dot in zip(moving(equation.outputs, range(count)), range(count, len(results)), strict=True):
            results[i], results[dot] = _alike([results[i], results[dot]])
        return results

    sizes = partial(derivative, jvp_program(equation), evaluate=_without_derivative)  # which may call the function again
    found = jax.eval_shape(sizes, *values, *moving(equation.inputs, values))
    primal = lambda *xs: [expanded(y, like.shape) for y, like in zip(run_small(body(equation), xs), found[:count], strict=True)]
    return with_derivative(primal, derivative, equation, values)


def _without_derivative(equation: Equation, values: Sequence[jax.Array]) -> list[jax.Array]:
    if equation.name == "custom_jvp_call":
        return run_small(body(equation), values, _without_derivative)
    return evaluate_small(equation, values)
