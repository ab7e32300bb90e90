"""Files of packed and compressed params: equal data in any process, or an error of ours."""

import contextlib
import copy
import json
import os
import random as stdlib_random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from api.programs import assert_near, mask_of, random
from flax.core import FrozenDict

import sparta_jax as sj
from sparta_jax.checkpoint import container, load_packed, save_packed
from sparta_jax.errors import CheckpointError, MissingExtra, SpartaError, SpartaTypeError

RNG = np.random.default_rng(5)
PARAMS = {
    "up": random((40, 64), RNG),
    "layers": [random((64, 64), RNG) / 8, (random((64,), RNG), None)],
    "half": random((64, 24), RNG).astype(jnp.bfloat16),
    "scale": 2.0,
}
MASKS = {"up": mask_of((40, 64), 0.3, RNG), "layers": [RNG.random((64, 64)) < 0.2, None], "half": mask_of((64, 24), 0.5, RNG)}
TESA = {"up": sj.TeSA(MASKS["up"]), "layers": [sj.TeSA(MASKS["layers"][0]), None], "half": sj.TeSA(MASKS["half"])}
X = random((6, 40), RNG)
MODEL = """
def model(params, x):
    square, (bias, _) = params["layers"]
    h = jnp.tanh(x @ params["up"]) * params["scale"]
    return (jnp.sin(h @ square + bias).astype(jnp.bfloat16) @ params["half"]).astype(jnp.float32)
"""
exec(MODEL)
FAST = sj.sparsify(model, TESA, implementation="xla")  # noqa: F821
PACKED, LEAN = FAST.pack(PARAMS, X), FAST.compress(PARAMS, X)


def same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


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
    save_packed(tmp_path / "file", PACKED)
    np.save(tmp_path / "x.npy", X)
    program = f"""
import sys, numpy as np, jax, jax.numpy as jnp, sparta_jax as sj
from sparta_jax.checkpoint import load_packed
{MODEL}
packed = load_packed("file")
np.save("y.npy", jax.jit(sj.sparsify(model, packed.tesa, implementation="xla"))(packed, np.load("x.npy")))
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=300)
    assert_near(np.load(tmp_path / "y.npy"), FAST(PACKED, X), 1e-6)


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


# -- what is refused


def refused(path, *messages):
    with pytest.raises(CheckpointError) as error:
        load_packed(path)
    for message in (path.name, *messages):
        assert error.match(message)


def test_files_that_are_none_of_ours(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"hello", b"\x93NUMPY", bytes(200)):
        path.write_bytes(content)
        refused(path)
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    refused(path, "not of packed params")
    with pytest.raises(FileNotFoundError):
        load_packed(tmp_path / "nowhere")


def test_a_newer_version(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "VERSION", 2)
    save_packed(tmp_path / "file", PACKED)
    monkeypatch.undo()
    refused(tmp_path / "file", "newer sparta_jax .file version 2, this one reads up to 1")


def test_values_that_are_not_there():
    with pytest.raises(SpartaTypeError, match=r"params\['.*ShapeDtypeStruct"):
        save_packed("never", jax.eval_shape(lambda: LEAN))
    with pytest.raises(SpartaTypeError, match="Tracer.*outside `jit`"):
        jax.jit(lambda tree: save_packed("never", tree))(LEAN)
    with pytest.raises(SpartaTypeError, match="takes what `pack` or `compress` returned, not dict"):
        save_packed("never", PARAMS)


def test_without_safetensors(tmp_path, monkeypatch):
    save_packed(tmp_path / "file", LEAN)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for act in (lambda: save_packed(tmp_path / "other", LEAN), lambda: load_packed(tmp_path / "file")):
        with pytest.raises(MissingExtra, match=r"pip install 'sparta-jax\[checkpoint\]'"):
            act()


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    save_packed(path, LEAN)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(container.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_packed(path, PACKED)
    monkeypatch.undo()
    same(load_packed(path), LEAN)
    assert os.listdir(tmp_path) == ["file"]


def test_a_thousand_mutations_of_a_file(tmp_path):
    """Bytes flipped, cut off, inserted and moved, headers edited: an error of ours, or the data as it was."""
    path, rng = tmp_path / "file", stdlib_random.Random(0)
    save_packed(path, LEAN)
    intact = path.read_bytes()
    header = 8 + int.from_bytes(intact[:8], "little")
    refusals = 0
    for number in range(1000):
        path.write_bytes(mutated(intact, header, number, rng))
        try:
            same(load_packed(path), LEAN)
        except SpartaError:
            refusals += 1
    assert refusals > 900


def mutated(intact: bytes, header: int, number: int, rng: stdlib_random.Random) -> bytes:
    data = bytearray(intact)
    kind = number % 6
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    at = rng.randrange(header if kind < 4 else len(data))
    if kind == 1:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data[at] = rng.choice(b'0123456789{}[],:"')
    elif kind == 3:
        data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4)))
    elif kind == 4:
        data[at] ^= 1 << rng.randrange(8)
    else:
        other = rng.randrange(len(data))
        data[at], data[other] = data[other], data[at] ^ 1
    return bytes(data)


# -- files with a right checksum that say what cannot be


def rewritten(path, edit):
    arrays, meaning = container.read(path)
    arrays, meaning = {k: np.array(v) for k, v in arrays.items()}, copy.deepcopy(meaning)
    edit(arrays, meaning)
    container.write(path, arrays, meaning)


def table(arrays, kind):
    return next(a for name, a in sorted(arrays.items()) if name.endswith(kind))


TABLES = {
    "an index behind the end": (lambda a: table(a, "indices").__setitem__(0, 1000), "an index lies outside"),
    "a negative index": (lambda a: table(a, "indices").__setitem__(0, -1), "an index lies outside"),
    "columns out of order": (lambda a: table(a, "indptr").__setitem__(1, 1 << 20), "column table"),
    "columns that end early": (lambda a: table(a, "indptr").__setitem__(-1, 1), "column table"),
    "rows out of order": (lambda a: table(a, "indices").__setitem__(slice(None), 0), "not in order"),
    "too few values": (lambda a: a.update({n: v[:-1] for n, v in a.items() if n.endswith("indices")}), "entries"),
    "wide indices": (lambda a: a.update({n: v.astype(int) for n, v in a.items() if n.endswith("indices")}), "32-bit"),
}


@pytest.mark.parametrize("name", TABLES)
def test_index_tables_are_checked(name, tmp_path):
    edit, message = TABLES[name]
    save_packed(tmp_path / "file", PACKED)
    rewritten(tmp_path / "file", lambda arrays, _: edit(arrays))
    refused(tmp_path / "file", message)


@pytest.mark.parametrize("tree", [PACKED, LEAN], ids=["packed", "compressed"])
def test_a_description_that_fits_nothing(tree, tmp_path):
    """Values of the description replaced: refused, or a tree."""
    path, rng = tmp_path / "file", stdlib_random.Random(1)
    save_packed(path, tree)
    arrays, meaning = container.read(path)
    for _ in range(300):
        changed = copy.deepcopy(meaning)
        parent, key = rng.choice(list(places(changed)))
        parent[key] = rng.choice([None, -1, 0, 7, 1 << 40, "", "dense", [], {}, [["x", 1]], True, 0.5, "tesa/0", "0/0"])
        monkey = json.loads(json.dumps(changed))
        container_read = lambda _, monkey=monkey: (arrays, monkey)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sparta_jax.checkpoint.packed.read", container_read)
            with contextlib.suppress(CheckpointError):
                load_packed(path)


def places(node):
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield node, key
        yield from places(child)
