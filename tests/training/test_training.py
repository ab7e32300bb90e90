"""Dead weights stay dead through any optimizer; masks move as the papers say, with exact counts, inside jit and scan."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sparta_jax as sj
from sparta_jax import training
from sparta_jax.errors import SpartaError, SpartaTypeError, SpartaValueError

rng = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
PARAMS = {"a": {"w": normal(12, 16) / 4, "b": normal(16) / 4}, "c": {"w": normal(16, 6) / 4, "b": normal(6) / 4}}
X, Y = normal(20, 12), normal(20, 6)
KERNELS = "w$"


def predict(p, x):
    return jnp.tanh(x @ p["a"]["w"] + p["a"]["b"]) @ p["c"]["w"] + p["c"]["b"]


def loss(p, x, y):
    return jnp.mean(jnp.square(predict(p, x) - y))


def random_masks(density=0.2, scope="tensor", seed=0):
    return sj.masks.random(PARAMS, density=density, scope=scope, seed=seed)


GRADIENT = jax.grad(loss)


@pytest.fixture(autouse=True)
def _promotion():
    """As optax needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


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


# -- schedules

SCHEDULES = {
    "one shot": (training.one_shot(5, 0.1), {5: 0.1}),
    "cubic": (
        training.polynomial(begin=2, end=11, every=3, final=0.1),
        {2: 1.0, 5: 0.1 + 0.9 * (2 / 3) ** 3, 8: 0.1 + 0.9 * (1 / 3) ** 3, 11: 0.1},
    ),
    "linear, not to its end": (
        training.polynomial(begin=0, end=5, every=2, final=0.2, initial=0.6, power=1),
        {0: 0.6, 2: 0.4, 4: 0.2},
    ),
    "at once at the end": (training.polynomial(begin=3, end=4, every=9, final=0.2), {3: 0.2}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    schedule, want = SCHEDULES[name]
    assert {s: pytest.approx(schedule.density(s)) for s in schedule.steps} == want
    traced = jax.jit(jax.vmap(schedule.is_due))(jnp.arange(20))
    assert np.flatnonzero(traced).tolist() == [s for s in range(20) if schedule.is_due(s)] == sorted(want)


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        (training.periodic(every=3, end=10), [3, 6, 9]),
        (training.periodic(every=3, begin=0, end=6), [0, 3, 6]),
        (training.periodic(every=1, begin=4, end=4), [4]),
    ],
)
def test_periodic(schedule, want):
    assert list(schedule.steps) == want == [s for s in range(20) if schedule.is_due(s)]


# -- the mask is the last word

OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adam(optax.cosine_decay_schedule(1e-2, 10))),
    "noisy": optax.chain(optax.add_noise(1.0, 0.5, 0), optax.adam(1e-2)),
    "factored": optax.adafactor(1e-2, min_dim_size_to_factor=4),
}


slow = lambda names: [pytest.param(name, marks=pytest.mark.slow) for name in names]


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


# -- gradual pruning


@pytest.mark.parametrize("scope", ["tensor", *slow(["global", "erk"])])
@pytest.mark.parametrize("schedule", [training.polynomial(begin=1, end=7, every=2, final=0.1), training.one_shot(3, 0.25)])
def test_gradual_pruning(schedule, scope):
    before = {"a": np.ones((12, 16), bool), "c": np.ones((16, 6), bool)}
    shown = run(training.gradual(optax.adam(1e-2), schedule, scope=scope), 9)
    density = 1.0
    for step, (params, state) in enumerate(shown):
        now = live(state)
        density = schedule.density(step) if step in schedule.steps else density
        counts = [m.sum() for m in now.values()]
        if scope == "tensor":
            assert counts == [round(density * m.size) for m in now.values()]
        assert sum(counts) == round(density * (192 + 96)) or scope == "tensor"
        for k, mask in now.items():
            assert (mask <= before[k]).all()
            assert not np.asarray(params[k]["w"])[~mask].any()
            assert step in schedule.steps or (mask == before[k]).all()
        before = now
    assert int(state.changes) == len(schedule.steps)


def test_the_smallest_die():
    shown = run(training.gradual(optax.sgd(0.0), training.one_shot(0, 0.25), paths="a/w"), 1)
    mask = np.asarray(shown[0][1].masks["a"]["w"])
    assert (mask == sj.masks.magnitude(PARAMS["a"]["w"], density=0.25).mask).all()
    assert shown[0][1].masks["c"]["w"] is None


# -- dynamic sparse training

EVERY_TWO = training.periodic(every=2, end=6)
DYNAMIC = {
    "rigl": functools.partial(training.rigl, schedule=EVERY_TWO, fraction=0.5),
    "evolutionary": functools.partial(training.evolutionary, schedule=EVERY_TWO, fraction=0.5),
}


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


class Foreign(NamedTuple):
    masks: object


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


def test_foreign_masks_start_a_training():
    """Jaxpruner's state, or anything with boolean or uint8 masks, gives the first masks."""
    state = Foreign({"a": {"w": np.uint8(random_masks()["a"]["w"].mask), "b": None}, "c": {"w": None, "b": None}})
    made = training.fixed(optax.sgd(1.0), sj.masks.from_masks(state)).init(PARAMS)
    assert (np.asarray(made.masks["a"]["w"]) == random_masks()["a"]["w"].mask).all()
