"""A small regression, the ways in which it is trained, and its masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sparta_jax as sj
from sparta_jax import training

rng = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
PARAMS = {"a": {"w": normal(12, 16) / 4, "b": normal(16) / 4}, "c": {"w": normal(16, 6) / 4, "b": normal(6) / 4}}
X, Y = normal(20, 12), normal(20, 6)


def predict(p, x):
    return jnp.tanh(x @ p["a"]["w"] + p["a"]["b"]) @ p["c"]["w"] + p["c"]["b"]


def loss(p, x, y):
    return jnp.mean(jnp.square(predict(p, x) - y))


def random_masks(density=0.2, scope="tensor", seed=0):
    return sj.masks.random(PARAMS, density=density, scope=scope, seed=seed)


GRADIENT = jax.grad(loss)
slow = lambda names: [pytest.param(name, marks=pytest.mark.slow) for name in names]

EVERY_TWO = training.periodic(every=2, end=6)
DYNAMIC = {
    "rigl": functools.partial(training.rigl, schedule=EVERY_TWO, fraction=0.5),
    "evolutionary": functools.partial(training.evolutionary, schedule=EVERY_TWO, fraction=0.5),
}


def run(optimizer, steps, params=PARAMS, state=None, gradient=GRADIENT):
    """Params and states behind every step."""
    state = optimizer.init(params) if state is None else state

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(gradient(params, X, Y), state, params)
        return optax.apply_updates(params, updates), state

    out = []
    for _ in range(steps):
        params, state = step(params, state)
        out.append((params, state))
    return out


def live(state):
    return {k: np.asarray(m) for k, m in (("a", state.masks["a"]["w"]), ("c", state.masks["c"]["w"]))}
