"""Programs that are easily got wrong: products that meet, values computed twice, host functions, own derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, mask_of, masked, random

import sparta_jax as sj

KEY = jax.random.key(1)
SQUARE = jax.ShapeDtypeStruct((40, 40), jnp.float32)


def doubled_by(factor):
    def host(v):
        return np.asarray(v) * np.float32(factor)

    return lambda w: jax.pure_callback(host, SQUARE, w, vmap_method="sequential")


@jax.custom_jvp
def surrogate(x):
    return jax.nn.relu(x)


@surrogate.defjvp
def surrogate_jvp(primals, tangents):
    return surrogate(*primals), 5 * tangents[0]


@jax.custom_jvp
def impostor(x):
    return jax.jit(relu)(x)


@functools.partial(impostor.defjvp)
def jvp(primals, tangents):
    return impostor(*primals), 5 * tangents[0]


def relu(x):
    return jnp.maximum(x, 0)


def printed(w, x):
    jax.debug.callback(lambda v: None, x[0, 0])
    return x @ w


PROGRAMS = {
    "two products added": lambda w, x: x @ w + x @ w.T,
    "its own residual": lambda w, x: (lambda y: y + y)(x @ w),
    "a residual that is a product": lambda w, x: (lambda y: y + jnp.cos(y) @ w)(x @ w),
    "three products added": lambda w, x: x @ w + (x * 2) @ w + (x + 1) @ w.T,
    "a value computed twice": lambda w, x: jnp.tanh(x * jnp.sum(w * w, 0)) - jnp.cos(x * jnp.sum(w * w, 0)),
    "two host functions": lambda w, x: jnp.tanh(x @ doubled_by(2)(w)) - jnp.tanh(x @ doubled_by(3)(w)),
    "an effect that reads data": printed,
    "a weight times random numbers": lambda w, x: x @ (w * jax.random.normal(KEY, (40, 40))),
    "an own derivative": lambda w, x: surrogate(x @ w),
    "an own derivative that looks like relu's": lambda w, x: impostor(x @ w),
    "params as outputs": lambda w, x: (w, x @ w, x, jnp.float32(1)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_the_masked_program(name, rng):
    fn = PROGRAMS[name]
    tesa = sj.TeSA(mask_of((40, 40), 0.4, rng))
    w, x = random((40, 40), rng) / 6, random((6, 40), rng)
    fast, want = sj.sparsify(fn, tesa, implementation="xla"), masked(fn, tesa)
    assert_near(fast(w, x), want(w, x))
    assert_near(fast(fast.pack(w, x), x), want(w, x))
    if name == "two host functions":
        return  # a host function has no derivative
    loss = lambda f: lambda w, x: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(w, x)))
    assert_near(jax.grad(loss(fast), (0, 1))(w, x), jax.grad(loss(want), (0, 1))(w, x))


def test_a_traced_closure_cannot_be_packed(rng):
    tesa = sj.TeSA(mask_of((40, 40), 0.4, rng))
    w, x = random((40, 40), rng), random((6, 40), rng)

    def scaled(scale):
        fast = sj.sparsify(lambda w, x: x @ (w * scale), tesa, implementation="xla")
        with pytest.raises(sj.SpartaError, match="closes over a traced array"):
            fast.pack(w, x)
        return jnp.sum(fast(w, x))

    want = jax.grad(lambda s: jnp.sum(x @ (jnp.where(tesa.mask, w, 0) * s)))(2.0)
    assert_near(jax.grad(scaled)(2.0), want)
