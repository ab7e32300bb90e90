"""An evaluator of jaxprs in numpy: thousands of tiny programs, and not one compilation.

What it does not know is run by JAX, operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import scipy.special
from jax.extend.core import Literal

from sparta_jax.interpreters.known import EVALUATORS


def run(fn: Callable, *args) -> Any:
    """`fn(*args)`, traced and then evaluated here."""
    closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
    outs = evaluate(closed, [np.asarray(a) for a in jax.tree.leaves(args)])
    return jax.tree.unflatten(jax.tree.structure(shape), outs)


def evaluate(closed, args: Sequence[np.ndarray]) -> list[np.ndarray]:
    jaxpr = getattr(closed, "jaxpr", closed)
    env = dict(zip(jaxpr.invars, args, strict=True))
    env.update(zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True))
    read = lambda atom: np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else env[atom]
    with np.errstate(all="ignore"):
        for eqn in jaxpr.eqns:
            env.update(zip(eqn.outvars, step(eqn, [read(v) for v in eqn.invars]), strict=True))
    return [read(v) for v in jaxpr.outvars]


def step(eqn, values: list) -> list[np.ndarray]:
    """The results of one equation (of a jaxpr, or of a `Program`)."""
    name = eqn.primitive.name
    outputs = eqn.outvars if hasattr(eqn, "outvars") else eqn.outputs
    if (control := CONTROL.get(name)) is not None:
        return control(values, eqn.params)
    for key in ("call_jaxpr", "jaxpr"):
        if key in eqn.params:
            return evaluate(eqn.params[key], values)
    if name.startswith("empty"):
        return [np.zeros(v.aval.shape, v.aval.dtype) for v in outputs]
    if (fn := TABLE.get(name)) is None or any(_is_key(a) for a in values):
        return _by_jax(eqn, values)
    outs = fn(*map(np.asarray, values), **eqn.params)
    if outs is None:
        return _by_jax(eqn, values)
    outs = outs if eqn.primitive.multiple_results else [outs]
    return [np.asarray(y).astype(v.aval.dtype, copy=False) for y, v in zip(outs, outputs, strict=True)]


def _by_jax(eqn, values: list) -> list[np.ndarray]:
    params = eqn.primitive.get_bind_params(eqn.params)
    out = eqn.primitive.bind(*map(jax.numpy.asarray, values), **params)
    return [y if _is_key(y) else np.asarray(y) for y in jax.tree.leaves(out)]


def _is_key(value: Any) -> bool:
    return jax.dtypes.issubdtype(getattr(value, "dtype", np.float32), jax.dtypes.extended)


# -- control flow


def _scan(values: list, params: dict) -> list:
    consts, carries = _split_of(params)
    fixed, carry, xs = values[:consts], values[consts : consts + carries], values[consts + carries :]
    length, ys = params["length"], []
    for i in reversed(range(length)) if params["reverse"] else range(length):
        outs = evaluate(params["jaxpr"], [*fixed, *carry, *(np.asarray(x)[i] for x in xs)])
        carry = outs[:carries]
        ys.append(outs[carries:])
    ys = ys[::-1] if params["reverse"] else ys
    return [*carry, *(np.stack(column) for column in zip(*ys, strict=True))]


def _split_of(params: dict) -> tuple[int, int]:
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carries, _ = params["ft_in"].unpack()
    return len(consts), len(carries)


def _while(values: list, params: dict) -> list:
    n, m = params["cond_nconsts"], params["body_nconsts"]
    test, fixed, carry = values[:n], values[n : n + m], values[n + m :]
    while evaluate(params["cond_jaxpr"], [*test, *carry])[0]:
        carry = evaluate(params["body_jaxpr"], [*fixed, *carry])
    return carry


def _cond(values: list, params: dict) -> list:
    branches = params["branches"]
    return evaluate(branches[int(np.clip(values[0], 0, len(branches) - 1))], values[1:])


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}


# -- operations


def _dot_general(a, b, *, dimension_numbers, **_):
    (ac, bc), (ab, bb) = dimension_numbers
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left, right = [next(letters) for _ in a.shape], [next(letters) for _ in b.shape]
    for i, j in zip((*ac, *ab), (*bc, *bb), strict=True):
        right[j] = left[i]
    free = lambda names, drop: [n for i, n in enumerate(names) if i not in drop]
    out = [*(left[i] for i in ab), *free(left, (*ac, *ab)), *free(right, (*bc, *bb))]
    return np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", a, b)


def _reduce(fn: Callable) -> Callable:
    return lambda x, *, axes, **_: fn(x, axis=tuple(axes))


def _running(fn: Callable) -> Callable:
    def along(x, *, axis, reverse, **_):
        turn = lambda a: np.flip(a, axis) if reverse else a
        return turn(fn(turn(x), axis=axis))

    return along


def _pad(x, fill, *, padding_config, **_):
    for axis, (low, high, between) in enumerate(padding_config):
        n = x.shape[axis]
        where = low + np.arange(n) * (between + 1)
        size = max(low + high + n + max(n - 1, 0) * between, 0)
        inside = (where >= 0) & (where < size)
        out = np.full((*x.shape[:axis], size, *x.shape[axis + 1 :]), fill, x.dtype)
        at = (slice(None),) * axis
        out[(*at, where[inside])] = x[(*at, np.arange(n)[inside])]
        x = out
    return x


def _convolve(x, w, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, **params):
    lhs, rhs, out = dimension_numbers

    def spread(a, pads, steps):
        along = [(*pad, step - 1) for pad, step in zip(pads, steps, strict=True)]
        return _pad(a, 0, padding_config=[(0, 0, 0), (0, 0, 0), *along])

    x = spread(x.transpose(lhs), padding, lhs_dilation)
    w = spread(w.transpose(rhs), [(0, 0)] * len(padding), rhs_dilation)
    if any(n < k for n, k in zip(x.shape[2:], w.shape[2:], strict=True)):
        return None
    batches, groups = params["batch_group_count"], params["feature_group_count"]
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], tuple(range(2, x.ndim)))
    windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in window_strides))]
    windows = windows.reshape(batches, x.shape[0] // batches, groups, x.shape[1] // groups, *windows.shape[2:])
    w = w.reshape(batches, groups, w.shape[0] // (batches * groups), *w.shape[1:])
    at, over = "stuv"[: len(padding)], "wxyz"[: len(padding)]
    y = np.einsum(f"bngi{at}{over},bgoi{over}->nbgo{at}", windows, w, optimize=True)
    return y.reshape(y.shape[0], -1, *y.shape[4:]).transpose(np.argsort(out))


def _scatter_add(x, indices, updates, *, dimension_numbers, mode, **_):
    """Window by window; one that does not fit is left out, or moved inside where the mode is to clip."""
    d, out = dimension_numbers, np.array(x)
    sizes = np.ones(x.ndim, int)
    sizes[np.delete(np.arange(x.ndim), [*d.inserted_window_dims, *d.operand_batching_dims])] = [
        updates.shape[a] for a in d.update_window_dims
    ]
    many = np.moveaxis(updates, d.update_window_dims, range(-len(d.update_window_dims), 0))
    for at in np.ndindex(indices.shape[:-1]):
        start = np.zeros(x.ndim, int)
        start[list(d.scatter_dims_to_operand_dims)] = indices[at]
        start[list(d.operand_batching_dims)] = [at[a] for a in d.scatter_indices_batching_dims]
        if mode == jax.lax.GatherScatterMode.CLIP:
            start = np.clip(start, 0, x.shape - sizes)
        if (start >= 0).all() and (start + sizes <= x.shape).all():
            out[tuple(map(slice, start, start + sizes))] += many[at].reshape(sizes)
    return out


def _dynamic_update_slice(x, update, *starts, **_):
    out = np.array(x)
    at = [int(np.clip(s, 0, n - m)) for s, n, m in zip(starts, x.shape, update.shape, strict=True)]
    out[tuple(slice(a, a + m) for a, m in zip(at, update.shape, strict=True))] = update
    return out


def _sort(*xs, dimension, num_keys, **_):
    if num_keys > 1:
        raise NotImplementedError
    order = np.argsort(xs[0], axis=dimension, kind="stable")
    return [np.take_along_axis(x, order, dimension) for x in xs]


def _reshape(x, *, new_sizes, dimensions=None, **_):
    return (x if dimensions is None else x.transpose(dimensions)).reshape(new_sizes)


_plain = lambda fn: lambda *xs, **_: fn(*xs)
TABLE: dict[str, Callable] = {
    **EVALUATORS,
    **{n: _reduce(getattr(np, n.removeprefix("reduce_"))) for n in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min")},
    **{n: _plain(getattr(np, n)) for n in ("exp", "exp2", "log", "log1p", "expm1", "sin", "cos", "tanh", "sqrt", "square")},
    "cumsum": _running(np.cumsum),
    "cumprod": _running(np.cumprod),
    "conv_general_dilated": _convolve,
    "dot_general": _dot_general,
    "reshape": _reshape,
    "mul": _plain(np.multiply),
    "div": lambda x, y, **_: EVALUATORS["div"](x, y) if x.dtype.kind in "iu" else x / y,
    "pow": _plain(np.power),
    "integer_pow": lambda x, *, y, **_: x**y if x.dtype.kind not in "iu" else x ** max(y, 0),
    "add_any": _plain(np.add),
    "atan": _plain(np.arctan),
    "logistic": _plain(scipy.special.expit),
    "erf": _plain(scipy.special.erf),
    "erfc": _plain(scipy.special.erfc),
    "rsqrt": lambda x, **_: 1 / np.sqrt(x),
    "is_finite": _plain(np.isfinite),
    "argmax": lambda x, *, axes, **_: np.argmax(x, axes[0]),
    "argmin": lambda x, *, axes, **_: np.argmin(x, axes[0]),
    "pad": _pad,
    "scatter-add": _scatter_add,
    "sort": _sort,
    "dynamic_update_slice": _dynamic_update_slice,
    "convert_element_type": lambda x, *, new_dtype, **_: x.astype(new_dtype),
    "name": lambda x, **_: x,
    "erf_inv": _plain(scipy.special.erfinv),
    "one_minus_square": lambda x, **_: 1 - x * x,
}
