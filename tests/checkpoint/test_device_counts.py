"""Orbax: what a process with eight devices saved sharded is restored by processes that have two, or one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMON = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax, orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import sparta_jax as sj
from sparta_jax import training

where, devices = sys.argv[1], int(sys.argv[2])
assert jax.device_count() == devices
rng = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
params, x, y = {"up": normal(32, 64) / 6, "bias": normal(64), "down": normal(64, 16) / 8}, normal(16, 32), normal(16, 16)
tesa = sj.masks.magnitude(params, density=0.25, block=(8, 16), paths="up") | {"down": sj.TeSA(rng.random((64, 16)) < 0.3)}
model = lambda p, x: jnp.tanh(x @ p["up"] + p["bias"]) @ p["down"]
loss = lambda p, x, y: jnp.mean((model(p, x) - y) ** 2)
fast = sj.sparsify(model, tesa, implementation="xla")
lean = fast.compress(params, x)
adam = optax.adam(1e-2)
rigl = training.rigl(optax.adam(1e-2), tesa, training.periodic(every=2, end=8))
mesh = Mesh(np.array(jax.devices()), ("data",))
rows = lambda a: PartitionSpec(*("data" if a.ndim and a.shape[0] % 8 == 0 and a.shape[0] else None,) * min(a.ndim, 1))
place = lambda tree: jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, rows(a))), tree)
trees = {
    "packed": fast.pack(params, x),
    "lean": {"params": lean, "moments": adam.init(lean)},
    "dynamic": {"params": params, "state": rigl.init(params)},
}
step = training.Step(loss, rigl, sparsely=False)

def lean_step(held):
    grads = jax.grad(lambda p: jnp.mean((fast(p, x) - y) ** 2))(held["params"])
    updates, moments = adam.update(grads, held["moments"], held["params"])
    return {"params": optax.apply_updates(held["params"], updates), "moments": moments}

def dynamic_step(held):
    p, state, _ = step(held["params"], held["state"], x, y)
    return {"params": p, "state": state}
"""

SAVE = """
trees["lean"] = lean_step(trees["lean"])
trees["dynamic"] = dynamic_step(dynamic_step(trees["dynamic"]))
after = {"packed": fast(trees["packed"], x), "lean": lean_step(trees["lean"]), "dynamic": dynamic_step(trees["dynamic"])}
np.savez(where + "/want.npz", *jax.tree.leaves((trees, after)))
with ocp.StandardCheckpointer() as checkpointer:
    for name, tree in trees.items():
        checkpointer.save(f"{where}/{name}", place(tree))
"""

RESTORE = """
struct = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, rows(a)))
with ocp.StandardCheckpointer() as checkpointer:
    got = {name: checkpointer.restore(f"{where}/{name}", jax.tree.map(struct, tree)) for name, tree in trees.items()}
assert jax.tree.structure(got) == jax.tree.structure(trees)
assert all(len(a.devices()) == devices for a in jax.tree.leaves(got))
after = {"packed": fast(got["packed"], x), "lean": lean_step(got["lean"]), "dynamic": dynamic_step(got["dynamic"])}
want = np.load(where + "/want.npz")
held, follow = jax.tree.leaves(got), jax.tree.leaves(after)
for i, a in enumerate(held + follow):
    if i < len(held):
        np.testing.assert_array_equal(a, want[f"arr_{i}"])
    else:
        np.testing.assert_allclose(a, want[f"arr_{i}"], rtol=1e-5, atol=1e-6)
"""


def run(code: str, devices: int, where: Path) -> None:
    count = f"--xla_force_host_platform_device_count={devices}"
    environment = dict(os.environ, XLA_FLAGS=count, JAX_PLATFORMS="cpu", JAX_NUMPY_DTYPE_PROMOTION="standard")
    done = subprocess.run(
        [sys.executable, "-c", COMMON + code, str(where), str(devices)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_eight_devices_save_and_two_and_one_restore(tmp_path):
    """Arrays are equal, and training and inference go on with the same numbers."""
    run(SAVE, 8, tmp_path)
    for devices in (2, 1):
        run(RESTORE, devices, tmp_path)
