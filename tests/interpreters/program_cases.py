"""Cases of parts of networks, their gradients, and functions with derivatives of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from interpreters.case import X, add, gradient, ints
from jax import lax

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
