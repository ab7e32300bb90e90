"""Sparse training under transformations, step by step, and what is said where it is used wrongly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training.regression import DYNAMIC, EVERY_TWO, PARAMS, X, Y, live, loss, predict, random_masks, run, slow

import sparta_jax as sj
from sparta_jax import training
from sparta_jax.errors import SpartaError, SpartaTypeError, SpartaValueError

# -- under transformations


@pytest.mark.parametrize("name", ["rigl", *slow(["evolutionary"])])
def test_a_scan_is_the_loop(name):
    optimizer = DYNAMIC[name](optax.adam(1e-2), random_masks())

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, X, Y), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.jit(lambda p, s: jax.lax.scan(step, (p, s), None, 7))(PARAMS, optimizer.init(PARAMS))
    want_params, want = run(optimizer, 7)[-1]
    jax.tree.map(np.testing.assert_array_equal, live(state), live(want))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), params, want_params)


@pytest.mark.parametrize("dtype", ["bfloat16", *slow(["float16"])])
def test_other_floats(dtype):
    params = {"w": PARAMS["a"]["w"].astype(dtype)}
    optimizer = training.rigl(optax.adam(1e-2), sj.masks.random(params, density=0.2), training.Schedule(0, 9, 9))
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    after = optax.apply_updates(params, updates)["w"]
    assert after.dtype == dtype
    assert not np.asarray(after, np.float32)[~np.asarray(state.masks["w"])].any()


def test_masks_lie_where_the_params_do():
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "x"))
    params = {"w": jax.device_put(PARAMS["a"]["w"], place)}
    optimizer = training.rigl(optax.adam(1e-2), {"w": np.eye(12, 16) > 0}, training.Schedule(0, 9, 9), fraction=0.5)
    state = optimizer.init(params)
    assert state.masks["w"].sharding == place == state.inner[0].mu["w"].sharding
    _, after = jax.jit(optimizer.update)(params, state, params)
    assert after.masks["w"].sharding.is_equivalent_to(place, 2)
    _, want = optimizer.update({"w": PARAMS["a"]["w"]}, optimizer.init({"w": PARAMS["a"]["w"]}), {"w": PARAMS["a"]["w"]})
    assert (np.asarray(after.masks["w"]) == np.asarray(want.masks["w"])).all()


@pytest.mark.slow
def test_a_checkpoint_goes_on_as_if_nothing_had_happened():
    """All of the state is arrays: saved as such and restored, it gives the same run."""
    optimizer = training.evolutionary(optax.adam(1e-2), random_masks(), EVERY_TWO)
    params, state = run(optimizer, 3)[-1]
    saved, tree = jax.tree.flatten((params, state))
    assert all(isinstance(leaf, jax.Array) for leaf in saved)
    params, state = jax.tree.unflatten(tree, [jnp.asarray(np.asarray(leaf).copy()) for leaf in saved])
    again, want = run(optimizer, 4, params, state)[-1], run(optimizer, 7)[-1]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(want))


# -- the step


def counted():
    traces = []

    def fn(p, x, y):
        traces.append(1)
        return jnp.mean(jnp.square(x @ p["w"] - y))

    return fn, traces


def test_nothing_is_traced_again_inside_a_period():
    fn, traces = counted()
    weight = {"w": PARAMS["a"]["w"][:, :6]}
    schedule, tesa = training.Schedule(3, 11, 4), sj.masks.random(weight, density=0.2)
    optimizer = training.evolutionary(optax.sgd(1e-2), tesa, schedule, fraction=1.0)
    step = training.Step(fn, optimizer)
    params, state, seen = weight, optimizer.init(weight), []
    for _ in range(11):
        params, state, _ = step(params, state, X, Y)
        seen.append(len(traces))
    assert seen[0] == seen[2] < seen[3] < seen[4] == seen[6]  # step 3 is dense, compiled once; then the new masks
    assert seen[6] == seen[7] < seen[8] == seen[10]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rigl", "evolutionary", "gradual", "chain"])
@pytest.mark.parametrize("sparsely", [False, True])
def test_a_step_is_the_dense_masked_step(name, sparsely):
    tesa = random_masks()
    optimizer = {
        "rigl": lambda: DYNAMIC["rigl"](optax.adam(1e-2), tesa),
        "evolutionary": lambda: DYNAMIC["evolutionary"](optax.adam(1e-2), tesa),
        "gradual": lambda: training.gradual(optax.adam(1e-2), training.one_shot(2, 0.2)),
        "chain": lambda: optax.chain(optax.clip(0.5), training.fixed(optax.adam(1e-2), tesa)),
    }[name]()
    masked = jax.tree.map(lambda p, t: p if t is None else p * t.mask, PARAMS, tesa, is_leaf=lambda n: n is None)
    start = PARAMS if name == "gradual" else masked
    step = training.Step(loss, optimizer, sparsely=sparsely)
    params, state = start, optimizer.init(start)
    for _ in range(4):
        params, state, value = step(params, state, X, Y)
    want, end = run(optimizer, 4, start)[-1]
    assert value.shape == ()
    assert training.tesa_of(state, params) == training.tesa_of(end, want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), params, want)


def test_the_function_of_the_moment():
    optimizer = DYNAMIC["rigl"](optax.sgd(1e-2), random_masks())
    shown = run(optimizer, 3)
    states = [optimizer.init(PARAMS), *(state for _, state in shown)]
    current = training.Current(predict)
    fast = [current(PARAMS, state) for state in states]
    assert fast[0] is fast[1] is fast[2]
    assert fast[3] is not fast[2]
    params = shown[-1][0]
    np.testing.assert_allclose(fast[3](fast[3].pack(params, X), X), predict(params, X), rtol=1e-4, atol=1e-6)


REFUSED = {
    "no params": (lambda: training.fixed(optax.sgd(1.0), None).update(PARAMS, None), "need the params"),
    "masks that do not fit": (
        lambda: training.rigl(optax.sgd(1.0), {"a": {"w": np.eye(3) > 0}}, EVERY_TWO).init(PARAMS),
        r"params\['a'\]\['w'\]: mask has shape \(3, 3\)",
    ),
    "blocks that are live in part": (
        lambda: training.rigl(optax.sgd(1.0), random_masks(), EVERY_TWO, block=(4, 4)).init(PARAMS),
        r"(?s)2 mismatches.*params\['a'\]\['w'\]: its mask has blocks of \(4, 4\)",
    ),
    "a block of another rank": (
        lambda: training.gradual(optax.sgd(1.0), training.one_shot(1, 0.1), block=(4,)).init(PARAMS),
        r"params\['a'\]\['w'\]: block \(4,\) has 1 entries",
    ),
    "a fraction above 1": (lambda: training.rigl(optax.sgd(1.0), None, EVERY_TWO, fraction=1.5), r"1.5 is outside \[0, 1\]"),
    "a fraction that is a word": (
        lambda: training.evolutionary(optax.sgd(1.0), None, EVERY_TWO, fraction="a"),
        "'a' is no number",
    ),
    "a schedule backwards": (lambda: training.periodic(every=2, begin=5, end=4), "begin=5, end=4, every=2: needs"),
    "a schedule of nothing": (lambda: training.Schedule(0, 9, 0), "every >= 1"),
    "half a step": (lambda: training.one_shot(0.5, 0.1), "begin=0.5 is no integer"),
    "a density above 1": (lambda: training.one_shot(5, 1.5), r"final=1.5 is outside \[0, 1\]"),
    "a density that rises": (lambda: training.polynomial(begin=0, end=9, every=1, initial=0.1, final=0.5), "above initial=0.1"),
    "an unknown budget": (lambda: training.gradual(optax.sgd(1.0), training.one_shot(1, 0.1), scope="all"), "scope='all'"),
    "a path that is not there": (
        lambda: training.gradual(optax.sgd(1.0), training.one_shot(1, 0.1), paths="kernel").init(PARAMS),
        "'kernel' is found in no path",
    ),
    "no sparse state": (lambda: training.sparse_state(optax.adam(1.0).init(PARAMS)), "holds 0 SparseStates"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_says_what_is_wrong(name):
    act, message = REFUSED[name]
    with pytest.raises(SpartaError, match=message) as error:
        act()
    assert isinstance(error.value, (SpartaValueError, SpartaTypeError))
