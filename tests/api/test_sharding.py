"""Data-parallel calls gather nothing, and their gradients are summed over the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, mask_of, random
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sparta_jax as sj

KINDS = [AxisType.Auto, AxisType.Explicit]


def model(w, x):
    return jnp.tanh(jax.nn.relu(x @ w) @ w.T)


def loss(fn):
    return lambda w, x: jnp.sum(fn(w, x) ** 2)


@pytest.fixture(params=KINDS, ids=str)
def setting(request):
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    rng = np.random.default_rng(0)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(request.param,))
    put = lambda a, *spec: jax.device_put(a, NamedSharding(mesh, PartitionSpec(*spec)))
    tesa = sj.TeSA(mask_of((40, 48), 0.4, rng))
    return mesh, tesa, put(random((40, 48), rng)), put(random((16, 3, 40), rng), "data")


def masked(tesa):
    return lambda w, x: model(jnp.where(tesa.mask, w, 0), x)


@pytest.mark.parametrize("implementation", ["xla", None])
def test_nothing_is_gathered(setting, implementation):
    _, tesa, w, x = setting
    fast = sj.sparsify(model, tesa, implementation=implementation)
    for transform in (lambda fn: fn, lambda fn: jax.grad(loss(fn)), lambda fn: jax.grad(loss(fn), 1)):
        compiled = jax.jit(transform(fast)).lower(w, x).compile()
        assert "all-gather" not in compiled.as_text()
        assert_near(compiled(w, x), jax.jit(transform(masked(tesa)))(np.asarray(w), np.asarray(x)))


def test_packed_params_gather_nothing(setting):
    mesh, tesa, w, x = setting
    fast = sj.sparsify(model, tesa, implementation="xla")
    packed = jax.device_put(fast.pack(np.asarray(w), np.asarray(x)), NamedSharding(mesh, PartitionSpec()))
    compiled = jax.jit(fast).lower(packed, x).compile()
    assert "all-gather" not in compiled.as_text()
    assert_near(compiled(packed, x), jax.jit(masked(tesa))(np.asarray(w), np.asarray(x)))


def test_shard_map_sums_the_gradient_of_a_replicated_weight(setting):
    mesh, tesa, w, x = setting
    fast = sj.sparsify(model, tesa, implementation="xla")
    specs = dict(mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("data")), out_specs=PartitionSpec("data"))
    local = jax.shard_map(lambda w, x: fast(w, x), **specs)
    want = masked(tesa)
    assert_near(jax.jit(local)(w, x), jax.jit(want)(np.asarray(w), np.asarray(x)))
    assert_near(jax.jit(jax.grad(loss(local)))(w, x), jax.jit(jax.grad(loss(want)))(np.asarray(w), np.asarray(x)))


@pytest.fixture
def perceptron(setting):
    """A model of which whole channels are dead, its params, its mesh."""
    mesh, _, w, x = setting
    params = {"up": w, "bias": w[0], "down": w.T}
    live = np.arange(w.shape[1]) % 3 > 0
    tesa = {"up": sj.TeSA.channels(live, 1, w.shape), "bias": sj.TeSA.channels(live, 0, live.shape)}
    fn = lambda p, x: jnp.tanh(x @ p["up"] + p["bias"]) @ p["down"]
    specs = dict(mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("data")), out_specs=PartitionSpec("data"))
    return sj.sparsify(fn, tesa), params, x, specs


def test_weights_stay_sparse_inside_shard_map(perceptron):
    fast, params, x, specs = perceptron
    local = jax.shard_map(fast, **specs)
    host = jax.tree.map(np.asarray, (params, x))
    assert_near(jax.jit(local)(params, x), fast(*host))
    gradient = jax.jit(jax.grad(loss(local)))(params, x)
    jax.tree.map(assert_near, gradient, jax.jit(jax.grad(loss(fast)))(*host))


@pytest.mark.parametrize("checks", [False, True])
def test_packed_params_inside_shard_map(perceptron, checks):
    fast, params, x, specs = perceptron
    packed, want = fast.pack(params, x), fast(*jax.tree.map(np.asarray, (params, x)))
    assert_near(jax.jit(jax.shard_map(fast, **specs, check_vma=checks))(packed, x), want)


def test_the_plan_is_made_for_the_rows_of_one_device(setting, monkeypatch):
    from sparta_jax.specialize import Chooser

    _, tesa, w, x = setting
    asked = []
    plan = Chooser.plan
    monkeypatch.setattr(Chooser, "plan", lambda self, problem: asked.append(problem.m) or plan(self, problem))
    jax.jit(sj.sparsify(model, tesa)).lower(w, x).compile()
    assert set(asked) == {16 // 8 * 3}
