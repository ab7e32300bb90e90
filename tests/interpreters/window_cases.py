"""Cases of what slides windows over axes: convolutions, poolings, and reductions by any function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from interpreters.case import X, add, gradient, ints
from jax import lax

# -- convolution


def conv(layout: str = "NCHW OIHW NCHW", strides=(1, 1), padding="SAME", **params) -> Callable:
    return partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        dimension_numbers=tuple(layout.split()),
        **params,
    )


CONVS = {
    "same": (conv(), (2, 4, 5, 5), (3, 4, 3, 3)),
    "valid, strided": (conv(strides=(2, 1), padding="VALID"), (2, 4, 6, 5), (3, 4, 3, 2)),
    "channels last": (conv("NHWC HWIO NHWC", (2, 2)), (2, 5, 6, 4), (3, 3, 4, 3)),
    "mixed layouts": (conv("NCHW HWIO HWNC", padding=[(2, 0), (0, 1)]), (2, 4, 5, 4), (2, 3, 4, 3)),
    "one pixel": (conv("NHWC HWIO NHWC"), (2, 3, 3, 4), (1, 1, 4, 6)),
    "groups": (conv(feature_group_count=2), (2, 4, 4, 4), (6, 2, 3, 3)),
    "depthwise": (conv("NHWC HWIO NHWC", feature_group_count=4), (2, 4, 4, 4), (3, 3, 1, 4)),
    "batch groups": (conv("CNHW IOHW CNHW", padding="VALID", batch_group_count=2), (3, 4, 4, 4), (3, 4, 3, 2)),
    "dilated kernel": (conv(padding="VALID", rhs_dilation=(2, 1)), (2, 3, 6, 4), (2, 3, 2, 3)),
    "dilated input": (conv(padding=[(1, 2), (0, 0)], lhs_dilation=(2, 3)), (2, 3, 3, 3), (2, 3, 2, 3)),
    "all at once": (
        conv(strides=(2, 3), padding=[(2, 1), (1, 1)], lhs_dilation=(3, 2), rhs_dilation=(2, 3)),
        (1, 2, 3, 4),
        (2, 2, 2, 2),
    ),
    "cropped": (conv(strides=(1, 2), padding=[(-1, 0), (0, -2)]), (2, 3, 5, 6), (2, 3, 2, 2)),
    "one axis": (conv("NWC WIO NWC", (2,)), (2, 7, 3), (3, 3, 4)),
    "three axes": (conv("NCDHW OIDHW NCDHW", (1, 1, 1), "VALID"), (1, 2, 3, 3, 3), (3, 2, 2, 1, 2)),
    "no axis": (conv("NC OI NC", (), "VALID"), (3, 4), (5, 4)),
    "empty": (conv(padding="VALID"), (2, 3, 2, 2), (4, 3, 3, 3)),
}
for _name, (_fn, *_operands) in CONVS.items():
    add(f"conv, {_name}", _fn, *_operands)
    add(f"conv, {_name}, gradient", gradient(_fn, (0, 1)), *_operands)

# -- pooling


def pool(init, fn: Callable, size, strides, padding="VALID", **dilations) -> Callable:
    return lambda x: lax.reduce_window(x, x.dtype.type(init), fn, size, strides, padding, **dilations)


POOLS = {
    "valid": dict(size=(1, 2, 2), strides=(1, 2, 2)),
    "same, overlapping": dict(size=(1, 3, 3), strides=(1, 2, 1), padding="SAME"),
    "padded widely": dict(size=(1, 2, 2), strides=(1, 1, 2), padding=[(0, 1), (3, 0), (0, 3)]),
    "dilated window": dict(size=(1, 2, 2), strides=(1, 1, 1), window_dilation=(1, 2, 3)),
    "dilated base": dict(size=(1, 1, 3), strides=(1, 1, 2), base_dilation=(1, 3, 2)),
}
for _name, _params in POOLS.items():
    for _kind, _init, _fn in (("sum", 0, lax.add), ("max", -np.inf, lax.max), ("min", np.inf, lax.min)):
        add(f"reduce_window_{_kind}, {_name}", pool(_init, _fn, **_params), (3, 4, 6))
    add(f"reduce_window, product, {_name}", pool(1, lax.mul, **_params), (3, 4, 6))
    add(f"reduce_window, max from 0, {_name}", pool(0, lax.max, **_params), (3, 4, 6))
for _name in ("valid", "same, overlapping", "padded widely"):
    for _kind, _init, _fn in (("sum", 0, lax.add), ("max", -np.inf, lax.max), ("min", np.inf, lax.min)):
        _pool = pool(_init, _fn, **POOLS[_name])
        add(f"reduce_window_{_kind}, {_name}, gradient", gradient(lambda x, f=_pool: jnp.maximum(f(x), -9), 0), (3, 4, 6))
        add(f"reduce_window_{_kind}, {_name}, tangent", lambda x, t, f=_pool: jax.jvp(f, (x,), (t,)), (3, 4, 6), (3, 4, 6))
add("reduce_window, of ints", pool(0, lambda x, y: x + y, (1, 2), (1, 1), "SAME"), ints(4, 6))


def larger(a, b):
    """Of two pairs the one with the larger first."""
    first = a[0] > b[0]
    return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])


ENDS = np.float32(-np.inf), np.float32(0)
add("reduce, by any sum", lambda x: lax.reduce(x, np.float32(0), lambda a, b: b + a * 1, (1,)), X)
add("reduce, by any sum from 3", lambda x: lax.reduce(x, np.float32(3), lambda a, b: b + a * 1, (1,)), X)
add("reduce, by any product", lambda x: lax.reduce(x, np.float32(1), lambda a, b: b * a * 2, (0,)), X)
add("reduce, from an operand", lambda x, i: lax.reduce(x, i, lambda a, b: b + a * 1, (0,)), X, ())
add("reduce, of pairs", lambda x, y: lax.reduce((x, y), ENDS, larger, (1,)), X, X)
add("reduce_window, of pairs", lambda x, y: lax.reduce_window((x, y), ENDS, larger, (1, 3), (1, 2), "SAME"), X, X)
add("reduce, of none", lambda x: lax.reduce(x, np.float32(0), lambda a, b: b + a * 1, (0,)), (0, 3))
