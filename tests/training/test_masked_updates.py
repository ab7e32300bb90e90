"""The mask as the last link of a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sparta_jax as sj
from sparta_jax import training

RNG = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(RNG.normal(size=shape), jnp.float32)
TESA = {"w": sj.TeSA(RNG.random((12, 16)) < 0.3), "b": None}
PARAMS, X = {"w": jnp.where(TESA["w"].mask, normal(12, 16), 0.0), "b": normal(16)}, normal(8, 12)


def loss(params, x):
    return jnp.mean(jnp.square(jnp.tanh(x @ params["w"] + params["b"])))


def trained(optimizer, gradient, steps=4):
    params, state = PARAMS, optimizer.init(PARAMS)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(gradient(params, X), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
        assert not np.asarray(params["w"])[~TESA["w"].mask].any()
    return params, state


def test_a_chain_that_ends_with_the_mask():
    with jax.numpy_dtype_promotion("standard"):
        links = optax.clip_by_global_norm(0.1), optax.adamw(1e-2, weight_decay=0.1)
        last = optax.chain(*links, training.masked_updates(TESA))
        trained(last, jax.grad(loss))
        got, state = trained(last, jax.grad(sj.sparsify(loss, TESA)))
        want, _ = trained(training.fixed(optax.chain(*links), TESA), jax.grad(loss))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert training.tesa_of(state, PARAMS) == TESA
