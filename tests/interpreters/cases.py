"""Small programs that together hit every primitive with a rule: `name: (fn, operands)`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives as p
from jax.sharding import AxisType, NamedSharding, PartitionSpec


@dataclasses.dataclass(frozen=True)
class Operand:
    """An array to draw: normal floats, or integers of `[low, high)`."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: int = -3
    high: int = 4

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        if self.dtype == "bool":
            return rng.random(self.shape) < 0.5
        if np.issubdtype(self.dtype, np.integer):
            return rng.integers(self.low, self.high, self.shape).astype(self.dtype)
        return rng.normal(size=self.shape).astype(self.dtype)


def ints(*shape: int, low: int = -3, high: int = 4) -> Operand:
    return Operand(shape, "int32", low, high)


def bools(*shape: int) -> Operand:
    return Operand(shape, "bool")


X = Operand((4, 6))
Case = tuple[Callable, list[Operand]]
CASES: dict[str, Case] = {}


def add(name: str, fn: Callable, *operands) -> None:
    assert name not in CASES, name
    CASES[name] = fn, [o if isinstance(o, Operand) else Operand(o) for o in operands]


# -- elementwise

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

# -- movement

add("reshape, split", lambda x: x.reshape(2, 2, 6), X)
add("reshape, merge", lambda x: x.reshape(6, 4), (2, 3, 4))
add("reshape, cross", lambda x: x.reshape(3, 8), X)
add("reshape, in another order", lambda x: lax.reshape(x, (3, 8), (1, 2, 0)), (2, 3, 4))
add("squeeze", lambda x: lax.squeeze(x, [1]), (4, 1, 6))
add("transpose", lambda x: x.transpose(2, 0, 1), (2, 3, 4))
add("broadcast_in_dim", lambda x: jnp.broadcast_to(x, (3, 4, 6)), (4, 1))
add("broadcast_in_dim, inside", lambda x: lax.broadcast_in_dim(x, (4, 3, 6), (0, 2)), X)
add("slice", lambda x: x[1:3, 2:], X)
add("slice, strided", lambda x: x[::2, 1:6:3], X)
add("slice, empty", lambda x: x[2:2], X)
add("concatenate", lambda x, y: jnp.concatenate([x, y, x], 1), X, (4, 2))
add("split", lambda x: jnp.split(x, [1, 4], 1), X)
add("stack", lambda x, y: jnp.stack([x, y, x], 1), X, X)
add("unstack", lambda x: lax.unstack(x, 1) if hasattr(lax, "unstack") else jnp.unstack(x, axis=1), X)
add("tile", lambda x: jnp.tile(x, (2, 3)), X)
add("pad", lambda x, v: lax.pad(x, v, [(1, 2, 0), (0, 1, 2)]), X, ())
add("pad, negative", lambda x, v: lax.pad(x, v, [(-1, 2, 1), (1, -2, 0)]), X, ())
add("pad, with zero", lambda x: jnp.pad(x, 2), X)
add("rev", lambda x: lax.rev(x, [1]), X)
add("device_put", lambda x, y: jax.device_put((x, y)), X, X)
add("optimization_barrier", lambda x, y: lax.optimization_barrier((x, y)), X, X)

# -- indexing


def scatter_heads(scatter: Callable, x, updates):
    """Updates the first elements of known rows."""
    numbers = lax.ScatterDimensionNumbers(update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,))
    return scatter(x, np.array([[1], [2]]), updates, numbers)


ROWS = ints(3, low=0, high=4)
add("iota", lambda x: x * lax.iota(jnp.float32, 6), X)
add("iota, large", lambda x: x * lax.broadcasted_iota(jnp.float32, (2, 3, 1 << 19), 1)[:, :, :1], (2, 3, 1))
add("dynamic_slice", lambda x, i: lax.dynamic_slice(x, (i, jnp.int32(0)), (2, 6)), X, ints())
add("dynamic_slice, known", lambda x: lax.dynamic_slice(x, (jnp.int32(1), jnp.int32(9)), (2, 3)), X)
add("dynamic_slice, both", lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 3)), X, ints(), ints())
add("dynamic_update_slice", lambda x, u, i: lax.dynamic_update_slice(x, u, (i, jnp.int32(0))), X, (2, 6), ints())
add("dynamic_update_slice, known", lambda x, u: lax.dynamic_update_slice(x, u, (jnp.int32(1), jnp.int32(2))), X, (2, 3))
add("dynamic_update_slice, half", lambda x, u, i: lax.dynamic_update_slice(x, u, (i, jnp.int32(2))), X, (2, 3), ints())
add("gather rows", lambda x, i: x[i], X, ROWS)
add("gather columns", lambda x, i: x[:, i], X, ROWS)
add("gather in a table of indices", lambda x, i: x[i], X, ints(2, 3, low=0, high=4))
add("gather, filled with nan", lambda x, i: jnp.take(x, i, axis=0), X, ints(3, low=0, high=9))
add("gather, filled with zero", lambda x, i: jnp.take(x, i, axis=1, mode="fill", fill_value=0), X, ints(3, low=0, high=9))
add("gather, clipped", lambda x, i: jnp.take(x, i, axis=1, mode="clip"), X, ints(3, low=0, high=9))
add("gather known rows", lambda x: x[np.array([[2, 0], [2, 3]])], X)
add("gather known columns, filled", lambda x: jnp.take(x, np.array([5, 1, 1]), axis=1), X)
add("gather outside", lambda x: jnp.take(x, np.array([5, 1, 9]), axis=1), X)
add("gather elements", lambda x, i, j: x[i, j], X, ROWS, ROWS)
add("gather known elements", lambda x: x[np.array([1, 3]), np.array([0, 5])], X)
add("gather along an axis", lambda x, i: jnp.take_along_axis(x, i, 1), X, ints(4, 2, low=0, high=6))
add("gather windows", jax.vmap(lambda x, i: lax.dynamic_slice(x, (i,), (2,))), X, ints(4, low=0, high=6))
add("gather windows of one", jax.vmap(lambda x, i: lax.dynamic_slice(x, (i,), (2,)), (None, 0)), (6,), ints(4, low=0, high=6))
for _name in ("add", "subtract", "multiply", "min", "max", "set"):
    add(f"scatter rows, {_name}", lambda x, i, u, f=_name: getattr(x.at[i], f)(u), X, ROWS, (3, 6))
    add(f"scatter known columns, {_name}", lambda x, u, f=_name: getattr(x.at[:, np.array([4, 1])], f)(u), X, (4, 2))
add("scatter elements", lambda x, i, j, u: x.at[i, j].add(u), X, ROWS, ROWS, (3,))
add("scatter, a function applied", lambda x: x.at[np.array([1, 2])].apply(jnp.exp), X)
add("scatter outside", lambda x, u: x.at[np.array([1, 7])].set(u), X, (2, 6))
add("scatter, clipped", lambda x, u: x.at[np.array([1, 7])].set(u, mode="clip"), X, (2, 6))
add("scatter windows", jax.vmap(lambda x, u, i: lax.dynamic_update_slice(x, u, (i,))), X, (4, 2), ints(4, low=0, high=6))
for _name in ("add", "set"):
    add(
        f"scatter part of a row, {_name}",
        partial(scatter_heads, getattr(lax, {"add": "scatter_add", "set": "scatter"}[_name])),
        X,
        (2, 3),
    )

# -- reduction

for _name in ("sum", "max", "min", "prod"):
    add(f"reduce_{_name}", partial(getattr(jnp, _name), axis=1), X)
add("reduce_sum of all", jnp.sum, X)
add("reduce_sum of none", lambda x: jnp.sum(x, 0), (0, 3))
for _name in ("and", "or", "xor"):
    add(f"reduce_{_name}", partial(getattr(lax, f"reduce_{_name}"), axes=(1,)), bools(4, 6))
add("argmax", lambda x: jnp.argmax(x, 1), X)
add("argmin", lambda x: jnp.argmin(x, 0), X)
for _name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"):
    add(_name, partial(getattr(lax, _name), axis=1), X)
    add(f"{_name}, reversed", partial(getattr(lax, _name), axis=0, reverse=True), X)
add("sort", lambda x: lax.sort(x, dimension=0), X)
add("sort by keys", lambda x, y: lax.sort((x, y), dimension=1, num_keys=1), ints(4, 6), X)
add("top_k", lambda x: lax.top_k(x, 2), X)

# -- contraction

add("dot_general", lambda x, y: x @ y, (4, 6), (6, 5))
add("dot_general, batched", lambda x, y: jnp.einsum("bij,bjk->bik", x, y), (3, 4, 6), (3, 6, 5))
add("dot_general, outer", lambda x, y: jnp.einsum("ij,kl->ijkl", x, y), (2, 3), (4, 2))
add("dot_general, two axes", lambda x, y: jnp.einsum("bthd,hdo->bto", x, y), (2, 3, 2, 4), (2, 4, 5))
add("dot_general, crossed", lambda x, y: jnp.einsum("aji,kij->ak", x, y), (2, 3, 4), (5, 4, 3))

# -- what no rule knows

add("a primitive without a rule", lambda x: jax.pure_callback(lambda y: np.asarray(y) * 2, x, x) + 1, X)
add("a loop", lambda x: lax.fori_loop(0, 3, lambda _, y: jnp.sin(y), x), X)
add("a branch", lambda i, x: lax.cond(i > 0, jnp.sin, jnp.cos, x), ints(), X)


# -- programs


def mlp(w1, b1, w2, x):
    return jax.nn.relu(x @ w1 + b1) @ w2


def layer_norm(g, b, x):
    x = x - x.mean(-1, keepdims=True)
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * g + b


def attention(wq, wk, wv, wo, x):
    """Two heads, causal; `x` is `[b, t, d]`."""
    q, k, v = (jnp.einsum("btd,dhe->bhte", x, w) for w in (wq, wk, wv))
    scores = jnp.einsum("bhqe,bhke->bhqk", q, k) / np.float32(2)
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, np.float32(-1e9)))
    return jnp.einsum("bhqk,bhke,hed->bqd", weights, v, wo)


def embed(table, positions, tokens):
    return jax.nn.gelu(table[tokens] + positions[: tokens.shape[1]])


def swiglu(w, v, o, x):
    return (jax.nn.silu(x @ w) * (x @ v)) @ o


def gradient(fn: Callable, argnums) -> Callable:
    """The gradient of a weighted sum of `fn`."""

    def scalar(*args):
        y = fn(*args)
        return (y * jnp.arange(1, y.size + 1, dtype=y.dtype).reshape(y.shape)).sum()

    return jax.grad(scalar, argnums)


MLP = (6, 8), (8,), (8, 5), (4, 6)
NORM = (6,), (6,), (4, 6)
ATTENTION = (6, 2, 3), (6, 2, 3), (6, 2, 3), (2, 3, 6), (2, 4, 6)
EMBED = (7, 6), (5, 6), ints(2, 3, low=0, high=7)
SWIGLU = (6, 8), (6, 8), (8, 6), (4, 6)
PROGRAMS = {"mlp": (mlp, MLP), "norm": (layer_norm, NORM), "attention": (attention, ATTENTION), "swiglu": (swiglu, SWIGLU)}
for _name, (_fn, _operands) in PROGRAMS.items():
    add(_name, _fn, *_operands)
    add(f"{_name}, gradient", gradient(_fn, tuple(range(len(_operands)))), *_operands)
add("embed", embed, *EMBED)
add("embed, gradient", gradient(embed, (0, 1)), *EMBED)
add("softmax, gradient", gradient(jax.nn.softmax, 0), X)
add("gelu, exact", lambda x: jax.nn.gelu(x, approximate=False), X)
add("log_softmax", lambda x: jax.nn.log_softmax(x)[:, 0], X)
add("dropout", lambda x: jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, x.shape), x, np.float32(0)), X)

# -- calls

for _name in ("relu", "relu6", "softplus", "hard_tanh", "hard_swish", "leaky_relu", "elu", "selu", "celu"):
    add(f"jax.nn.{_name}", getattr(jax.nn, _name), X)
add("remat", lambda w, x: jax.checkpoint(lambda w, x: jnp.sin(x @ w))(w, x), (6, 5), X)
add("remat, gradient", gradient(lambda w, x: jax.checkpoint(lambda w, x: jnp.sin(x @ w))(w, x), (0, 1)), (6, 5), X)


@jax.custom_jvp
def rounded(x):
    return jnp.round(x)


@rounded.defjvp
def _rounded_jvp(primals, tangents):
    return rounded(*primals), tangents[0]


@jax.custom_jvp
def hidden(x, y):
    """Zero, with the derivative of `y`: the primal alone would let both go."""
    return jnp.zeros_like(x)


@hidden.defjvp
def _hidden_jvp(primals, tangents):
    return hidden(*primals), tangents[1] * 2


@jax.custom_vjp
def straight(x, y):
    """Zero, with the gradient of `x * y`."""
    return jnp.zeros_like(x)


straight.defvjp(lambda x, y: (straight(x, y), (x, y)), lambda xy, g: (g * xy[1], g * xy[0]))


@jax.custom_vjp
def passing(x):
    """Zero, with a gradient that does not look at `x`."""
    return jnp.zeros_like(x)


passing.defvjp(lambda x: (passing(x), None), lambda _, g: (2 * g,))


@jax.custom_vjp
def scaled(w, x, i):
    """A product whose gradient is clipped, with an integer operand."""
    return (x @ w)[i]


scaled.defvjp(
    lambda w, x, i: (scaled(w, x, i), (w, x, i)),
    lambda r, g: (jnp.clip(r[1].T[:, r[2]] @ g, -1, 1), jnp.zeros_like(r[1]).at[r[2]].add(g @ r[0].T), None),
)


@jax.custom_jvp
def mixed(x, i):
    """A differentiable and an integer result."""
    return x * 2, i + 1


@mixed.defjvp
def _mixed_jvp(primals, tangents):
    return mixed(*primals), (tangents[0] * 3, np.zeros(primals[1].shape, jax.dtypes.float0))


add("custom_jvp, straight through", rounded, X)
add("custom_jvp, zero with a tangent", hidden, X, X)
add("custom_jvp, of integers", mixed, X, ints(4))
add("custom_vjp, straight through", straight, X, X)
add("custom_vjp, zero with a gradient", passing, X)
add("custom_vjp, of integers", scaled, (6, 5), X, ints(3, low=0, high=4))
add("custom_vjp in remat", lambda x, y: jax.checkpoint(lambda x, y: straight(x, y) + x)(x, y), X, X)

# -- control flow


def stacked(w, b, x):
    """A layer per slice of the weights, with the activations behind each."""

    def layer(x, wb):
        y = jnp.sin(x @ wb[0]) + wb[1]
        return y, y[0]

    return lax.scan(layer, x, (w, b))


def shifted(x, y):
    """A carry that loses one zero after another, and one that keeps its own."""
    return lax.scan(lambda c, y: ((jnp.roll(c[0], 1) * 0.5, c[1] * y), c[0].sum()), (x, x), y)


def counted(x, y):
    """Counters, a carry that is passed on, and one that forgets."""
    return lax.scan(lambda c, y: ((c[0] + 1, c[1] * 2, c[2], y), (c[0], c[1] + c[3])), (0, jnp.float32(1), x, x), y)


def until(x, w):
    """A loop whose length depends on the data."""
    going = lambda c: (c[0] < 4) & (c[1].sum() < 5)
    return lax.while_loop(going, lambda c: (c[0] + 1, c[1] + 1, c[2] * 2, c[3] @ w), (0, x, x, x))


def bounded(x, n):
    """A loop whose length depends on an operand, over a carry that is passed on and one that only counts."""
    return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1], c[2] + c[1], jnp.roll(c[3], 1)), (0, x, x, x))


def lstm(wx, wh, b, x):
    """`x` is `[t, b, d]`; four gates of three units."""

    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ wx + h @ wh + b, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[1], 3))
    return lax.scan(step, (start, start), x)


def chosen(i, x, y):
    """Branches that agree in their first result alone."""
    return lax.cond(i > 0, lambda x, y: (x, y * x, x), lambda x, y: (x, x + 1, jnp.zeros_like(x)), x, y)


def solved(a, b):
    return lax.custom_linear_solve(lambda x: a @ x, b, lambda _, b: jnp.linalg.inv(a) @ b, lambda _, b: jnp.linalg.inv(a).T @ b)


for _reverse in (False, True):
    _turned = ", reversed" if _reverse else ""
    add(f"scan over xs{_turned}", lambda x, y, r=_reverse: lax.scan(lambda c, s: (c + s, c * s), x[0], y, reverse=r), X, X)
add("scan over layers", stacked, (3, 6, 6), (3, 6), X)
add("scan, growing", shifted, (6,), (4, 6))
add("scan, growing for long", shifted, (24,), (20, 24))
add("scan, counted", counted, (6,), (4, 6))
add("scan, of no length", lambda x, y: lax.scan(lambda c, s: (c + s, c * s), x, y), (6,), (0, 6))
add("scan, of length 1", shifted, (6,), (1, 6))
add("scan, of no carry", lambda x, w: lax.map(lambda x: jnp.sin(x) @ w, x), X, (6, 5))
add("scan, of no xs", lambda x, w: lax.scan(lambda c, _: (jnp.tanh(c @ w), c), x, None, length=3), X, (6, 6))
add("scan, its last result only", lambda w, b, x: stacked(w, b, x)[0][:, :2], (3, 6, 6), (3, 6), X)
add("scan in a scan", lambda w, x: lax.map(lambda x: lax.scan(lambda c, w: (jnp.tanh(w @ c), c), x, w)[0], x), (3, 6, 6), X)
add("scan in remat", lambda w, b, x: jax.checkpoint(lambda *args: stacked(*args)[0])(w, b, x), (3, 6, 6), (3, 6), X)
add("remat in a scan", lambda w, x: lax.scan(jax.checkpoint(lambda c, w: (jnp.sin(c @ w), None)), x, w)[0], (3, 6, 6), X)
add("lstm", lstm, (4, 12), (3, 12), (12,), (3, 2, 4))
add("while", until, X, (6, 6))
add("while, of a given length", bounded, (6,), ints(low=0, high=5))
add("fori_loop", lambda w, x: lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ w) * (i + 1), x), (6, 6), X)
add("cond", chosen, ints(), X, X)
add("cond of operands", lambda i, x: lax.cond(i, lambda x: x * 2, lambda x: jnp.roll(x, 1, 1), x), bools(), X)
add(
    "switch",
    lambda i, x, y: lax.switch(i, [lambda x, y: x @ y, lambda x, y: x * 2, lambda x, y: y], x, y),
    ints(),
    *[(4, 4)] * 2,
)
add("switch, known", lambda x, y: lax.switch(jnp.int32(1), [lambda x, y: x, lambda x, y: y], x, y), X, X)
add(
    "scan in a cond",
    lambda i, w, b, x: lax.cond(i > 0, lambda *a: stacked(*a)[0], lambda w, b, x: x, w, b, x),
    ints(),
    (2, 6, 6),
    (2, 6),
    X,
)
add("custom_linear_solve", solved, (4, 4), (4, 3))
for _name, _fn in {"scan over layers": stacked, "scan, growing": shifted}.items():
    add(
        f"{_name}, gradient",
        gradient(lambda *a, f=_fn: jax.tree.leaves(f(*a))[0], tuple(range(len(CASES[_name][1])))),
        *CASES[_name][1],
    )
add("lstm, gradient", gradient(lambda *a: lstm(*a)[1], (0, 1, 2, 3)), *CASES["lstm"][1])

LOOPS = (
    "scan over layers",
    "scan, growing",
    "scan in remat",
    "remat in a scan",
    "lstm",
    "fori_loop",
    "cond",
    "switch",
    "scan in a scan",
)
DERIVED = [n for n in CASES if n.startswith(("jax.nn.", "remat", "custom_")) or n in ("mlp", "attention", *LOOPS)]
