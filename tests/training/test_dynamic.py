"""Dynamic sparse training: masks move as the papers say, with exact counts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training.regression import DYNAMIC, EVERY_TWO, PARAMS, X, Y, live, loss, normal, random_masks, run, slow

import sparta_jax as sj
from sparta_jax import training


@pytest.mark.parametrize("density", [0.1, *slow([0.0, 0.5, 1.0])])
@pytest.mark.parametrize("name", DYNAMIC)
def test_each_param_keeps_its_number_of_live_weights(name, density):
    tesa = random_masks(density, "erk")
    before = {k: tesa[k]["w"].mask for k in "ac"}
    for step, (params, state) in enumerate(run(DYNAMIC[name](optax.adamw(1e-2), tesa), 9)):
        now = live(state)
        for k, mask in now.items():
            assert mask.sum() == tesa[k]["w"].nnz
            assert not np.asarray(params[k]["w"])[~mask].any()
            assert not np.asarray(params[k]["w"])[mask & ~before[k]].any()  # what is born is zero
            assert step in EVERY_TWO.steps or (mask == before[k]).all()
        before = now
    assert int(state.changes) == 3
    assert int(state.step) == 9


BLOCKS = [(4, 4), (5, None)]  # the second hangs over an edge


@pytest.mark.parametrize("block", [BLOCKS[0], *slow(BLOCKS[1:])], ids=str)
@pytest.mark.parametrize("name", ["rigl", *slow(["evolutionary", "gradual"])])
def test_blocks_move_as_a_whole(name, block):
    params = {"w": PARAMS["a"]["w"]}
    tesa = sj.masks.random(params, density=0.3, block=block)
    size = tuple(n if b is None else b for n, b in zip((12, 16), block, strict=True))
    count = tesa["w"].nnzb(size)
    made = {
        "rigl": lambda: training.rigl(optax.sgd(0.1), tesa, training.Schedule(0, 9, 1), fraction=1.0, block=block),
        "evolutionary": lambda: training.evolutionary(
            optax.sgd(0.1), tesa, training.Schedule(0, 9, 1), block=block, fraction=1.0
        ),
        "gradual": lambda: training.gradual(optax.sgd(0.0), training.one_shot(0, 0.3), block=block),
    }
    optimizer = made[name]()
    state = optimizer.init(params)
    gradient = {"w": normal(12, 16)}
    _, state = jax.jit(optimizer.update)(gradient, state, params)
    found = sj.TeSA(np.asarray(state.masks["w"]))
    assert found == found.coarsen(size)
    assert found.nnzb(size) == count
    if name != "evolutionary":
        source = gradient if name == "rigl" else params
        assert found == sj.masks.magnitude(source, density=0.3, block=block)["w"]


def test_rigl_by_hand():
    """Two of four live weights die and come where the gradient is largest; the others and the moments stay as they were."""
    w = jnp.asarray([[3.0, 0.1, 0, 0], [0.2, 2.0, 0, 0]])
    mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], bool)
    gradient = jnp.asarray([[0.0, 0.3, 5.0, 0.4], [0.1, 0.0, 0.2, -7.0]])
    optimizer = training.rigl(optax.adam(0.1), mask, training.Schedule(1, 1, 1), fraction=1.0)
    first, state = optimizer.update(gradient, optimizer.init(w), w)
    w = optax.apply_updates(w, first)
    before = state.inner[0]
    assert bool(state.due)
    updates, state = optimizer.update(gradient * 0, state, w, growth=gradient)
    share = 1 / 2 * (1 + math.cos(math.pi * 1 / 1))
    assert share == 0  # the cosine ends with the schedule
    assert (np.asarray(state.masks) == mask).all()

    optimizer = training.rigl(optax.adam(0.1), mask, training.Schedule(1, 3, 2), fraction=2 / 3)
    state = state._replace(step=jnp.int32(1), masks=jnp.asarray(mask), inner=(before, *state.inner[1:]))
    updates, state = optimizer.update(gradient * 0, state, w, growth=gradient)  # 2/3 / 2 * (1 + cos(pi / 3)) = 1/2
    assert np.asarray(state.masks).tolist() == [[True, False, True, False], [False, True, False, True]]
    after = np.asarray(optax.apply_updates(w, updates))
    np.testing.assert_array_equal(after, np.where([[1, 0, 0, 0], [0, 1, 0, 0]], np.asarray(w), 0))
    kept = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], bool)
    for memory, was in ((state.inner[0].mu, before.mu), (state.inner[0].nu, before.nu)):
        np.testing.assert_array_equal(memory, np.where(kept, was, 0))
    assert int(state.inner[0].count) == int(before.count)  # no step of Adam at a change


def test_what_died_may_be_born_again_and_keeps_its_value():
    w, mask = jnp.asarray([2.0, 1.0, 0.0]), np.array([True, True, False])
    optimizer = training.rigl(optax.sgd(0.1), mask, training.Schedule(0, 9, 9), fraction=0.5)
    updates, state = optimizer.update(jnp.asarray([0.0, 4.0, 1.0]), optimizer.init(w), w)
    assert np.asarray(state.masks).tolist() == mask.tolist()
    assert optax.apply_updates(w, updates).tolist() == [2, 1, 0]


@pytest.mark.slow
def test_growth_by_the_gradient_of_the_sparsified_function():
    """Sparse gradients and the dense one beside them, at the masked params, give what the dense ones give."""
    tesa = random_masks()
    optimizer = training.rigl(optax.sgd(0.1), tesa, training.Schedule(0, 9, 9), fraction=0.5)
    state = optimizer.init(PARAMS)
    start = training.masked(PARAMS, state)
    sparse_gradient = jax.grad(sj.sparsify(loss, tesa))(PARAMS, X, Y)
    growth = sj.sparsify(jax.grad(loss), tesa)(PARAMS, X, Y)
    _, got = optimizer.update(sparse_gradient, state, start, growth=growth)
    _, want = optimizer.update(jax.grad(loss)(start, X, Y), state, start)
    assert all((live(got)[k] == live(want)[k]).all() and (live(got)[k] != live(state)[k]).any() for k in "ac")


@pytest.mark.parametrize("bad", [np.nan, *slow([np.inf])])
def test_counts_hold_whatever_the_gradients_are(bad):
    gradient = jax.tree.map(lambda p: jnp.full_like(p, bad), PARAMS)
    optimizer = training.rigl(optax.sgd(0.1), random_masks(), training.Schedule(0, 9, 9), fraction=0.5)
    _, state = jax.jit(optimizer.update)(gradient, optimizer.init(PARAMS), PARAMS)
    assert [m.sum() for m in live(state).values()] == [round(0.2 * 192), round(0.2 * 96)]


def test_random_growth_is_seeded():
    optimizer = lambda seed: training.evolutionary(optax.sgd(0.1), random_masks(), training.Schedule(0, 9, 1), seed=seed)
    states = [optimizer(seed).init(PARAMS) for seed in (1, 1, 2)]
    update = jax.jit(optimizer(0).update)
    first, same, other = (live(update(PARAMS, state, PARAMS)[1]) for state in states)
    assert all((first[k] == same[k]).all() for k in "ac")
    assert any((first[k] != other[k]).any() for k in "ac")
