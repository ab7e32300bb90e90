"""Programs that are easily got wrong: products that meet, values computed twice, host functions, own derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, assert_sides_near, mask_of, masked, random
from batches import batches

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


@pytest.mark.parametrize("names", batches(PROGRAMS, 6))
def test_equals_the_masked_program(names, rng):
    """So do its gradients, and what it computes of packed params."""
    tesa = sj.TeSA(mask_of((40, 40), 0.4, rng))
    args = random((40, 40), rng) / 6, random((6, 40), rng)

    def both(name, w, x):
        fn = PROGRAMS[name]
        fast, want = sj.sparsify(fn, tesa, implementation="xla"), masked(fn, tesa)
        packed = fast.pack(w, x)
        values = (fast(w, x), fast(packed, x)), (want(w, x),) * 2
        if name == "two host functions":
            return values  # a host function has no derivative
        loss = lambda f: lambda w, x: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(w, x)))
        return tuple((of, jax.grad(loss(f), (0, 1))(w, x)) for of, f in zip(values, (fast, want), strict=True))

    assert_sides_near({name: functools.partial(both, name) for name in names}, dict.fromkeys(names, args))


def test_a_traced_closure_cannot_be_packed(rng):
    tesa = sj.TeSA(mask_of((40, 40), 0.4, rng))
    w, x = random((40, 40), rng), random((6, 40), rng)

    def scaled(scale):
        fast = sj.sparsify(lambda w, x: x @ (w * scale), tesa, implementation="xla")
        with pytest.raises(sj.SpartaError, match="closes over a traced array"):
            fast.pack(w, x)
        return jnp.sum(fast(w, x))

    want = jax.jit(jax.grad(lambda s: jnp.sum(x @ (jnp.where(tesa.mask, w, 0) * s))))(2.0)
    assert_near(jax.grad(scaled)(2.0), want)
