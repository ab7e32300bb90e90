"""Small constants of a program, computed on the host: `tril`, comparisons of iotas, `(1 - mask) * -1e9`.

Only what numpy gives exactly as XLA does is computed here; everything else is left to the rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import numpy as np

from . import positions
from .facts import KNOWN_CAP, Fact, distinct
from .jaxprs import Equation


def evaluate(equation: Equation, inputs: list[Fact]) -> list[Fact] | None:
    """The facts of an equation's results where all its operands are known, or None."""
    compute = EVALUATORS.get(equation.name)
    avals = [v.aval for v in equation.outputs]
    values = [f.known for f in inputs if f.known is not None]
    if compute is None or len(values) < len(inputs) or any(jax.dtypes.issubdtype(a.dtype, jax.dtypes.extended) for a in avals):
        return None
    operands = [value.astype(v.aval.dtype, copy=False) for value, v in zip(values, equation.inputs, strict=True)]
    if equation.name in ELEMENTWISE:
        operands = list(map(distinct, operands))
    if not _is_small(equation, operands, [a.shape for a in avals]):
        return None
    with np.errstate(all="ignore"):
        values = compute(*operands, **equation.params)
    if values is None:
        return None
    values = values if equation.primitive.multiple_results else [values]
    exact = lambda value, aval: np.broadcast_to(np.asarray(value).astype(aval.dtype, copy=False), aval.shape)
    return [Fact.of_constant(exact(v, a)) for v, a in zip(values, avals, strict=True)]


def _is_small(equation: Equation, operands: list[np.ndarray], shapes: list[tuple[int, ...]]) -> bool:
    """Whether no array of more than `KNOWN_CAP` elements is made."""
    if equation.name in ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(x.shape for x in operands))) <= KNOWN_CAP
    long = lambda shape: [n for n in shape if n != 1]
    if equation.name in VIEWS or equation.name == "reshape" and long(operands[0].shape) == long(shapes[0]):
        return all(distinct(x).size <= KNOWN_CAP for x in operands)
    return all(math.prod(shape) <= KNOWN_CAP for shape in (*shapes, *(x.shape for x in operands)))


# -- movement


def _broadcast_in_dim(x, *, shape, broadcast_dimensions, **_):
    spread = np.ones(len(shape), np.int64)
    spread[list(broadcast_dimensions)] = x.shape
    return np.broadcast_to(x.reshape(tuple(spread)), shape)


def _iota(*, dtype, shape, dimension, **_):
    along = np.arange(shape[dimension]).astype(dtype)
    return np.broadcast_to(along.reshape([-1 if d == dimension else 1 for d in range(len(shape))]), shape)


def _select_n(which, *cases, **_):
    return np.choose(which.astype(np.int64), cases)


def _slice(x, *, start_indices, limit_indices, strides, **_):
    strides = strides or (1,) * x.ndim
    return x[tuple(slice(*s) for s in zip(start_indices, limit_indices, strides, strict=True))]


def _dynamic_slice(x, *starts, slice_sizes, **_):
    at = [int(np.clip(s, 0, n - m)) for s, n, m in zip(starts, x.shape, slice_sizes, strict=True)]
    return x[tuple(slice(a, a + m) for a, m in zip(at, slice_sizes, strict=True))]


def _pad(x, value, *, padding_config, **_):
    if any(low < 0 or high < 0 or between for low, high, between in padding_config):
        return None
    return np.pad(x, [(low, high) for low, high, _ in padding_config], constant_values=value)


def _convert_element_type(x, *, new_dtype, **_):
    whole = lambda d: jax.dtypes.issubdtype(d, np.integer)
    if whole(new_dtype) and not whole(x.dtype) and x.dtype != bool and not (np.abs(x) < 2**7).all():
        return None  # beyond an integer's range numpy wraps, XLA clamps
    return x.astype(new_dtype)


def _split(x, *, sizes, axis, **_):
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _sort(*xs, dimension, num_keys, is_stable, **_):
    keys, *others = xs
    if num_keys > 1 or others and not is_stable or not _is_whole(keys):
        return None
    order = np.argsort(keys, dimension, kind="stable")
    return [np.take_along_axis(x, order, dimension) for x in xs]


# -- arithmetic


def _mul(x, y, **_):
    """Floats only where nothing is rounded: a factor is zero or a power of two."""
    if _is_whole(x):
        return x * y
    exact = [np.isin(np.abs(np.frexp(np.asarray(a, np.float64))[0]), (0, 0.5)) for a in (x, y)] if _is_real(x) else [False]
    return x * y if np.logical_or.reduce(np.broadcast_arrays(*exact)).all() else None


def _div(x, y, **_):
    if not _is_whole(x) or (y == 0).any():
        return None
    down = x // y
    return down + ((down * y != x) & ((x < 0) != (y < 0))).astype(down.dtype)


def _rem(x, y, **_):
    return np.fmod(x, y) if _is_whole(x) and (y != 0).all() else None


def _integer_pow(x, *, y, **_):
    return x**y if _is_whole(x) and y >= 0 else None


def _round(x, *, rounding_method, **_):
    return np.rint(x) if int(rounding_method) == 1 else None


def _is_whole(x) -> bool:
    return x.dtype == bool or jax.dtypes.issubdtype(x.dtype, np.integer)


def _is_real(x) -> bool:
    return jax.dtypes.issubdtype(x.dtype, np.floating)


def _whole(fn: Callable) -> Callable:
    """`fn` of integers and booleans only: floats are rounded, in an order that is XLA's own."""
    return lambda x, **params: fn(x, **params) if _is_whole(x) else None


def _sum(fn: Callable) -> Callable:
    """A sum, of floats only where nothing is rounded in any order: they are whole numbers, and few."""

    def counts(x) -> bool:
        wide = np.abs(x.astype(np.float64)) if _is_real(x) else None
        return wide is not None and bool((wide == np.rint(wide)).all() and wide.sum() <= 2 ** jax.numpy.finfo(x.dtype).nmant)

    return lambda x, **params: fn(x, **params) if _is_whole(x) or counts(x) else None


def _reduction(fn: np.ufunc) -> Callable:
    def reduce(x, *, axes, **_):
        return fn.reduce(x, axis=tuple(axes), dtype=x.dtype) if x.size else None

    return reduce


def _running(fn: np.ufunc) -> Callable:
    def accumulate(x, *, axis, reverse, **_):
        turn = lambda a: np.flip(a, axis) if reverse else a
        return turn(fn.accumulate(turn(x), axis, dtype=x.dtype))

    return accumulate


MOVEMENT: dict[str, Callable] = {
    "iota": _iota,
    "broadcast_in_dim": _broadcast_in_dim,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "pad": _pad,
    "split": _split,
    "reshape": lambda x, *, new_sizes, **_: x.reshape(new_sizes),
    "squeeze": lambda x, *, dimensions, **_: x.squeeze(tuple(dimensions)),
    "transpose": lambda x, *, permutation, **_: x.transpose(permutation),
    "rev": lambda x, *, dimensions, **_: np.flip(x, tuple(dimensions)),
    "tile": lambda x, *, reps, **_: np.tile(x, reps),
    "concatenate": lambda *xs, dimension, **_: np.concatenate(xs, dimension),
    "stack": lambda *xs, axis, **_: np.stack(xs, axis),
    "stop_gradient": lambda x, **_: x,
    "copy": lambda x, **_: x,
    "device_put": lambda *xs, **_: xs,
    "optimization_barrier": lambda *xs, **_: xs,
}
VIEWS = frozenset(MOVEMENT) - {"reshape", "tile", "concatenate", "stack", "pad"}  # numpy copies nothing
ARITHMETIC: dict[str, Callable] = {
    "select_n": _select_n,
    "convert_element_type": _convert_element_type,
    "eq": lambda x, y, **_: x == y,
    "ne": lambda x, y, **_: x != y,
    "lt": lambda x, y, **_: x < y,
    "le": lambda x, y, **_: x <= y,
    "gt": lambda x, y, **_: x > y,
    "ge": lambda x, y, **_: x >= y,
    "and": lambda x, y, **_: x & y,
    "or": lambda x, y, **_: x | y,
    "xor": lambda x, y, **_: x ^ y,
    "not": lambda x, **_: ~x,
    "neg": lambda x, **_: -x,
    "abs": lambda x, **_: np.abs(x),
    "sign": lambda x, **_: np.sign(x),
    "floor": lambda x, **_: np.floor(x),
    "ceil": lambda x, **_: np.ceil(x),
    "round": _round,
    "add": lambda x, y, **_: x + y,
    "sub": lambda x, y, **_: x - y,
    "mul": _mul,
    "div": _div,
    "rem": _rem,
    "square": lambda x, **_: _mul(x, x),
    "integer_pow": _integer_pow,
    "max": lambda x, y, **_: np.maximum(x, y),
    "min": lambda x, y, **_: np.minimum(x, y),
    "clamp": lambda low, x, high, **_: np.minimum(np.maximum(x, low), high),
}
ELEMENTWISE = frozenset(ARITHMETIC)
REDUCTIONS: dict[str, Callable] = {
    "reduce_sum": _sum(_reduction(np.add)),
    "reduce_prod": _whole(_reduction(np.multiply)),
    "reduce_and": _reduction(np.bitwise_and),
    "reduce_or": _reduction(np.bitwise_or),
    "reduce_xor": _reduction(np.bitwise_xor),
    "reduce_max": _reduction(np.maximum),
    "reduce_min": _reduction(np.minimum),
    "cumsum": _sum(_running(np.add)),
    "cumprod": _whole(_running(np.multiply)),
    "cummax": _running(np.maximum),
    "cummin": _running(np.minimum),
}
PLACES: dict[str, Callable] = {
    "gather": positions.gather,
    "scatter": positions.scatter,
    "scatter-add": positions.scatter_add,
    "sort": _sort,
}
EVALUATORS = MOVEMENT | ARITHMETIC | REDUCTIONS | PLACES
