"""Whatever the inner transform is made of: dead weights are zero, and nothing is remembered of what died or was born."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sparta_jax as sj
from sparta_jax import training
from sparta_jax.errors import SpartaTypeError

RNG = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(RNG.normal(size=shape), jnp.float32)
PARAMS, GRADS = ({"a": {"w": normal(6, 8), "b": normal(8)}, "c": normal(8, 4)} for _ in range(2))
FIRST = sj.masks.random(PARAMS, density=0.25)
START = jax.tree.map(lambda p, t: p if t is None else jnp.where(t.mask, p, 0), PARAMS, FIRST, is_leaf=lambda t: t is None)
SCHEDULE = training.periodic(every=2, end=9)
BIASES, PARTS = {"a": {"w": False, "b": True}, "c": False}, {"a": {"w": "x", "b": "y"}, "c": "x"}
OTHERS = jax.tree.map(lambda is_bias: not is_bias, BIASES)

INNER = {
    "some params alone": optax.masked(optax.adam(0.1), OTHERS),
    "params by labels": optax.multi_transform({"x": optax.adam(0.1), "y": optax.sgd(0.1, momentum=0.9)}, PARTS),
    "by a function of the params": optax.multi_transform(
        {2: optax.adam(0.1), 1: optax.sgd(0.1)}, lambda params: jax.tree.map(jnp.ndim, params)
    ),
    "some params frozen": optax.chain(optax.adam(0.1), optax.masked(optax.set_to_zero(), BIASES)),
    "muon": optax.contrib.muon(0.1),
    "steps of two batches": optax.MultiSteps(optax.adam(0.1), 2),
    "a learning rate in the state": optax.inject_hyperparams(optax.adam)(0.1),
    "without a schedule": optax.contrib.schedule_free_adamw(0.1),
    "flat": optax.flatten(optax.adam(0.1)),
}
QUICK = ("params by labels",)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in INNER])
def test_any_inner_transform(name):
    optimizer = training.rigl(INNER[name], FIRST, SCHEDULE, fraction=0.5)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(GRADS, state, params)
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("standard"):
        params, state = START, optimizer.init(START)
        for i in range(3):
            before, (params, state) = state, step(params, state)
            for mask, was, param in zip(*map(sparse_leaves, (state.masks, before.masks, params)), strict=True):
                assert not param[~mask].any()
                assert mask.sum() == was.sum()
                assert (mask == was).all() == (i != 2)
        moved = [mask & was for mask, was in zip(sparse_leaves(state.masks), sparse_leaves(before.masks), strict=True)]
    remembered = [np.asarray(leaf) for leaf in jax.tree.leaves(state.inner)]
    for kept in moved:
        found = [memory for memory in remembered if memory.shape == kept.shape]
        assert found or name == "flat"
        assert not any(memory[~kept].any() for memory in found)


def sparse_leaves(tree):
    return [np.asarray(tree["a"]["w"]), np.asarray(tree["c"])]


REFUSED = {
    "no densities": (lambda: training.gradual(optax.sgd(1.0), SCHEDULE), r"Schedule\(.*does not say how dense"),
    "a number": (lambda: training.rigl(optax.sgd(1.0), None, 100), r"schedule=100 does not say when: `periodic"),
    "a function": (lambda: training.evolutionary(optax.sgd(1.0), None, optax.constant_schedule(1)), "does not say when"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_schedules_of_another_kind(name):
    act, message = REFUSED[name]
    with pytest.raises(SpartaTypeError, match=message):
        act()
