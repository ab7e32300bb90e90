"""Cases of what is computed element by element."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from interpreters.case import X, add, bools, ints
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives as p
from jax.sharding import AxisType, NamedSharding, PartitionSpec

# fmt: off
UNARY = (
    "abs", "neg", "sign", "sqrt", "cbrt", "square", "floor", "ceil", "round", "sin", "tan", "asin", "atan", "sinh", "tanh",
    "asinh", "atanh", "expm1", "log1p", "erf", "erf_inv", "bessel_i1e", "exp", "exp2", "log", "logistic", "cos", "cosh", "acos",
    "acosh", "rsqrt", "erfc", "lgamma", "digamma", "bessel_i0e", "is_finite", "stop_gradient",
)
BINARY = (
    "add", "sub", "mul", "div", "rem", "pow", "atan2", "max", "min", "nextafter", "eq", "ne", "lt", "le", "gt", "ge",
    "igamma", "igammac", "igamma_grad_a", "polygamma", "zeta",
)
# fmt: on
NUMBERS = {"max": 0, "min": 6, "ge": 0.5, "gt": -0.5, "lt": -0.5, "le": -1, "eq": 1, "ne": 0, "pow": 2, "rem": 3, "atan2": 1}


def right(fn: Callable, number: float) -> Callable:
    return lambda x: fn(x, jnp.float32(number))


def left(fn: Callable, number: float) -> Callable:
    return lambda x: fn(jnp.float32(number), x)


for _name in [*UNARY, *(n for n in ("log2", "one_minus_square") if hasattr(lax, n))]:
    add(_name, getattr(lax, _name), X)
for _name in BINARY:
    add(_name, getattr(lax, _name), X, X)
for _name in ("add", "subtract", "multiply", "divide", "maximum", "greater"):
    add(f"{_name} a row", getattr(jnp, _name), (4, 6), (1, 6))
for _name, _number in NUMBERS.items():
    add(f"{_name} with {_number}", right(getattr(lax, _name), _number), X)
    add(f"{_number} {_name}", left(getattr(lax, _name), _number), X)
for _name in ("and", "or", "xor"):
    add(f"{_name} of bools", getattr(lax, f"bitwise_{_name}"), bools(4, 6), bools(4, 6))
    add(f"{_name} of ints", getattr(lax, f"bitwise_{_name}"), ints(4, 6), ints(4, 6))
for _name in ("shift_left", "shift_right_arithmetic", "shift_right_logical"):
    add(_name, getattr(lax, _name), ints(4, 6), ints(4, 6, low=0))
add("not", lax.bitwise_not, ints(4, 6))
add("clz", lax.clz, ints(4, 6))
add("population_count", lax.population_count, ints(4, 6))
add("mul of ints", lax.mul, ints(4, 6), ints(4, 6))
add("div of ints", lambda x: lax.div(x, jnp.int32(2)), ints(4, 6))
add("rem of ints", lambda x: lax.rem(x, jnp.int32(2)), ints(4, 6))
for _name in ("eq_to", "lt_to", "le_to"):
    add(_name, getattr(p, f"{_name}_p").bind, X, X)
add("betainc", lax.betainc, X, X, X)
add("integer_pow", lambda x: x**3, X)
add("integer_pow, negative", lambda x: lax.integer_pow(x, -2), X)
add("clamp", lax.clamp, X, X, X)
add("clamp to [-1, 1]", lambda x: lax.clamp(jnp.float32(-1), x, jnp.float32(1)), X)
add("clamp to [1, 2]", lambda x: lax.clamp(jnp.float32(1), x, jnp.float32(2)), X)
add("complex", lambda x, y: [f(lax.conj(lax.complex(x, y) * lax.complex(y, x))) for f in (lax.real, lax.imag)], X, X)
add("convert_element_type", lambda x: x.astype(jnp.int32), X)
add("bitcast_convert_type", lambda x: lax.bitcast_convert_type(x, jnp.int32), X)
add("reduce_precision", lambda x: lax.reduce_precision(x, 8, 7), X)
add("copy", jnp.copy, X)
add("name", lambda x: checkpoint_name(x, "here"), X)
add("select_n", lambda w, x, y: lax.select_n(w, x, y), bools(4, 6), X, X)
add("select_n of a scalar", lambda w, x, y: lax.select_n(w, x, y), bools(), X, X)
add("select_n of three", lambda w, x, y, z: lax.select_n(w, x, y, z), ints(4, 6, low=0, high=3), X, X, X)
add("select_n by a known mask", lambda x, y: jnp.where(jnp.tri(4, 6, dtype=bool), x, y), X, X)
add("select_n by a known index", lambda x, y, z: lax.select_n(lax.iota(jnp.int32, 3), x, y, z), (3,), (3,), (3,))
add("product with a known mask", lambda x: x * jnp.tri(4, 6), X)


def _mesh(kind: AxisType) -> jax.sharding.Mesh:
    return jax.make_mesh((1,), ("a",), axis_types=(kind,), devices=jax.devices()[:1])


def _constrained(x):
    return lax.with_sharding_constraint(x, NamedSharding(_mesh(AxisType.Auto), PartitionSpec("a")))


def _resharded(x):
    return jax.sharding.reshard(x, NamedSharding(_mesh(AxisType.Explicit), PartitionSpec("a")))


add("sharding_constraint", _constrained, X)
add("reshard", _resharded, X)
