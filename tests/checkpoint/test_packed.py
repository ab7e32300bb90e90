"""Files of packed and compressed params: equal data in any process."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near
from checkpoint.trees import FAST, LEAN, MODEL, PACKED, PARAMS, TESA, X, same
from flax.core import FrozenDict

import sparta_jax as sj
from sparta_jax.checkpoint import container, load_leaves, load_packed, save_packed
from sparta_jax.errors import CheckpointError


@pytest.mark.parametrize("tree", [PACKED, LEAN, (PACKED, LEAN)], ids=["packed", "compressed", "both"])
def test_comes_back_as_it_was(tree, tmp_path):
    save_packed(tmp_path / "file", tree)
    got = load_packed(tmp_path / "file")
    same(got, tree)
    assert os.listdir(tmp_path) == ["file"]
    for part in got if isinstance(got, tuple) else (got,):
        assert part.origin == PACKED.origin
        assert part.tesa == PACKED.tesa
        assert_near(FAST(part, X), FAST(PACKED, X))


def test_weak_types_come_back(tmp_path):
    """The program depends on whether a dtype is weak, as a Python number's is."""
    fast = sj.sparsify(lambda p, x: (x @ p["w"], p["s"]), {"w": TESA["up"]})
    packed = fast.pack({"w": PARAMS["up"], "s": 2.0}, X)
    assert packed.origin.weak == (True, False)
    save_packed(tmp_path / "file", packed)
    loaded = load_packed(tmp_path / "file")
    assert {k: getattr(v, "weak_type", None) for k, v in loaded.entries.items()} == {
        k: getattr(v, "weak_type", None) for k, v in packed.entries.items()
    }
    assert loaded.entries["p['s']"].weak_type


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int4", "uint16", "bool", "complex64", "complex128", "float64"])
def test_dtypes(dtype, tmp_path):
    array = np.arange(6).reshape(2, 3).astype(jnp.dtype(dtype))
    container.write(tmp_path / "file", {"a": array, "empty": array[:, :0]}, None)
    got = container.read(tmp_path / "file")[0]
    assert got["a"].dtype == array.dtype
    assert got["empty"].shape == (2, 0)
    assert (got["a"] == array).all()


def test_another_process_needs_no_params(tmp_path):
    """`packed.tesa` and the file are enough: of packed params, and of compressed ones."""
    save_packed(tmp_path / "file", (PACKED, LEAN))
    np.save(tmp_path / "x.npy", X)
    program = f"""
import sys, numpy as np, jax, jax.numpy as jnp, sparta_jax as sj
from sparta_jax.checkpoint import load_packed
{MODEL}
for i, tree in enumerate(load_packed("file")):
    np.save(f"y{{i}}.npy", jax.jit(sj.sparsify(model, tree.tesa, implementation="xla"))(tree, np.load("x.npy")))
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=300)
    for i in range(2):
        assert_near(np.load(tmp_path / f"y{i}.npy"), FAST(PACKED, X), 1e-6)


# -- other containers


def frozen():
    params = FrozenDict({"w": PARAMS["up"], "b": PARAMS["layers"][1][0]})
    fast = sj.sparsify(lambda p, x: x @ p["w"] + p["b"], {"w": TESA["up"]}, implementation="xla")
    return params, fast, fast.pack(params, X)


def test_other_containers_need_like(tmp_path):
    params, fast, packed = frozen()
    save_packed(tmp_path / "file", packed)
    with pytest.raises(CheckpointError, match="FrozenDict.*pass `like="):
        load_packed(tmp_path / "file")
    for like in (params, jax.eval_shape(lambda: params)):
        loaded = load_packed(tmp_path / "file", like)
        same(loaded, packed)
        assert_near(fast(loaded, X), fast(packed, X), 0)


def test_leaves_are_had_without_like(tmp_path):
    """To be looked at: names, shapes and values."""
    params, fast, packed = frozen()
    save_packed(tmp_path / "file", (packed, fast.compress(params), LEAN))
    loaded = load_leaves(tmp_path / "file")
    assert [tree.origin.names for tree in loaded] == [packed.origin.names] * 2 + [LEAN.origin.names]
    assert jax.tree.structure(loaded[2]) == jax.tree.structure(LEAN)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves((packed, fast.compress(params), LEAN)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (FrozenDict({"w": jnp.zeros((40, 64))}), r"`like` has the leaves \['w'\]; the file has"),
        (FrozenDict({"w": jnp.zeros((40, 64)), "c": jnp.zeros(64)}), r"`like` has the leaves \['c'\], \['w'\]; the file has"),
        (
            FrozenDict({"w": jnp.zeros((40, 6)), "b": jnp.zeros(64)}),
            r"p\['w'\]: is float32\(40, 64\), `like` has float32\(40, 6\)",
        ),
        (FrozenDict({"w": jnp.zeros((40, 64)), "b": jnp.zeros(64, jnp.int32)}), r"p\['b'\]: is float32"),
    ],
    ids=["fewer", "other names", "shapes", "dtypes"],
)
def test_a_like_that_does_not_fit(like, message, tmp_path):
    save_packed(tmp_path / "file", frozen()[2])
    with pytest.raises(CheckpointError, match=message):
        load_packed(tmp_path / "file", like)
