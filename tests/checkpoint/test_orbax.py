"""Orbax: packed params, and train states of compressed params with the optimizer's, restored on another number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from api.programs import assert_near, mask_of, random
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import sparta_jax as sj

RNG = np.random.default_rng(2)
PARAMS = {"fc/in": {"kernel": random((32, 64), RNG) / 6, "bias": random((64,), RNG)}, "out": random((64, 8), RNG) / 8}
TESA = {"fc/in": {"kernel": sj.TeSA(mask_of((32, 64), 0.4, RNG))}, "out": sj.TeSA(RNG.random((64, 8)) < 0.3)}
X, Y = random((16, 32), RNG), random((16, 8), RNG)
OPTIMIZER = optax.adam(1e-2)


def model(params, x):
    return jnp.tanh(x @ params["fc/in"]["kernel"] + params["fc/in"]["bias"]) @ params["out"]


FAST = sj.sparsify(model, TESA, implementation="xla")


def placed(tree, devices: int):
    """Every array on all of the first `devices`."""
    return jax.tree.map(lambda a: jax.device_put(a, everywhere(devices)), tree)


def everywhere(devices: int) -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.devices()[:devices]), ("data",)), PartitionSpec())


def abstract(tree, devices: int):
    """What Orbax restores into: shapes, dtypes, and where they are to lie."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere(devices)), tree)


def restored(tree, path, devices: int):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, placed(tree, 8))
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, abstract(tree, devices))


@pytest.fixture(autouse=True)
def standard_promotion():
    """Optax mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("devices", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_packed_params(devices, tmp_path):
    packed = FAST.pack(PARAMS, X)
    got = restored(packed, tmp_path / "packed", devices)
    assert jax.tree.structure(got) == jax.tree.structure(packed)
    assert all(len(a.devices()) == devices for a in jax.tree.leaves(got))
    assert_near(FAST(got, X), FAST(packed, X), 0)


@pytest.mark.parametrize("devices", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_train_state(devices, tmp_path):
    """Training goes on with the same numbers."""

    @jax.jit
    def step(state, x, y):
        grads = jax.grad(lambda p: jnp.mean((FAST(p, x) - y) ** 2))(state["params"])
        updates, moments = OPTIMIZER.update(grads, state["moments"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "moments": moments, "step": state["step"] + 1}

    lean = FAST.compress(PARAMS, X)
    state = step({"params": lean, "moments": OPTIMIZER.init(lean), "step": jnp.int32(0)}, X, Y)
    got = restored(state, tmp_path / "state", devices)
    assert jax.tree.structure(got) == jax.tree.structure(state)
    rows = NamedSharding(everywhere(devices).mesh, PartitionSpec("data"))
    assert_near(step(got, jax.device_put(X, rows), jax.device_put(Y, rows)), step(state, X, Y))
