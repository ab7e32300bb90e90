"""The mask is the last word: dead weights stay dead through any optimizer."""

from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from training.regression import PARAMS, live, loss, random_masks, run, slow

import sparta_jax as sj
from sparta_jax import training

KERNELS = "w$"
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adam(optax.cosine_decay_schedule(1e-2, 10))),
    "noisy": optax.chain(optax.add_noise(1.0, 0.5, 0), optax.adam(1e-2)),
    "factored": optax.adafactor(1e-2, min_dim_size_to_factor=4),
}


@pytest.mark.parametrize("name", ["adamw", "clipped", *slow(["sgd", "momentum", "adam", "noisy", "factored"])])
def test_dead_weights_stay_dead(name):
    tesa = random_masks()
    loud = jax.tree.map(lambda p: p * 3, PARAMS)  # dead weights hold values at first
    for params, state in run(training.fixed(OPTIMIZERS[name], tesa), 4, loud):
        for k, mask in live(state).items():
            assert (mask == tesa[k]["w"].mask).all()
            assert not np.asarray(params[k]["w"])[~mask].any()
            assert (np.asarray(params[k]["w"])[mask] != 0).all()
        assert not (params["a"]["b"] == loud["a"]["b"]).any()


@pytest.mark.parametrize("name", ["adamw", *slow(["clipped"])])
def test_equals_training_of_masked_params(name):
    """The reference multiplies by the mask in the model, so that its gradients, moments, norms and decay are the live ones'."""
    tesa = random_masks()
    start = jax.tree.map(lambda p, t: p if t is None else p * t.mask, PARAMS, tesa, is_leaf=lambda n: n is None)
    by = lambda p: jax.tree.map(lambda w, t: w if t is None else w * t.mask, p, tesa, is_leaf=lambda n: n is None)
    masked = jax.grad(lambda p, x, y: loss(by(p), x, y))
    want = run(OPTIMIZERS[name], 8, start, gradient=masked)[-1][0]
    got = run(training.fixed(OPTIMIZERS[name], tesa), 8, start)[-1][0]
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_masks_are_taken_as_sparsify_takes_them():
    made = random_masks()
    for tesa in (made, {KERNELS: lambda w: sj.TeSA(np.asarray(w) > 0)}, {"a": {"w": made["a"]["w"].mask}}):
        state = training.fixed(optax.sgd(1.0), tesa).init(PARAMS)
        assert state.masks["a"]["b"] is None
        assert state.masks["a"]["w"].dtype == bool
    assert training.tesa_of(state, PARAMS) == {"a": {"w": made["a"]["w"], "b": None}, "c": {"w": None, "b": None}}
    chained = optax.chain(optax.clip(1.0), training.fixed(optax.sgd(1.0), made))
    assert training.tesa_of(chained.init(PARAMS), PARAMS) == sj.masks.from_masks(training.sparse_state(chained.init(PARAMS)))


class Foreign(NamedTuple):
    masks: object


def test_foreign_masks_start_a_training():
    """Jaxpruner's state, or anything with boolean or uint8 masks, gives the first masks."""
    state = Foreign({"a": {"w": np.uint8(random_masks()["a"]["w"].mask), "b": None}, "c": {"w": None, "b": None}})
    made = training.fixed(optax.sgd(1.0), sj.masks.from_masks(state)).init(PARAMS)
    assert (np.asarray(made.masks["a"]["w"]) == random_masks()["a"]["w"].mask).all()
