"""Files that are not as they were written: an error of ours, never a crash; and what a save leaves behind."""

import contextlib
import copy
import json
import os
import random as stdlib_random
import resource
import stat
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from checkpoint.trees import LEAN, PACKED, PARAMS, same

from sparta_jax.checkpoint import container, load_packed, save_packed
from sparta_jax.errors import CheckpointError, MissingExtra, SpartaError, SpartaTypeError


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


VERSIONS = {2: "newer sparta_jax .file version 2, this one reads up to 1", 0: "no file version", "1": "no file version"}


@pytest.mark.parametrize("version", VERSIONS)
def test_another_version(version, tmp_path, monkeypatch):
    monkeypatch.setattr(container, "VERSION", version)
    save_packed(tmp_path / "file", PACKED)
    monkeypatch.undo()
    refused(tmp_path / "file", VERSIONS[version])


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


@contextlib.contextmanager
def largest_file(size):
    given = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, given[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, given)


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    save_packed(path, LEAN)
    with largest_file(4096), pytest.raises(OSError, match="file: not written"):
        save_packed(path, PACKED)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(container.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_packed(path, PACKED)
    monkeypatch.undo()
    same(load_packed(path), LEAN)
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(FileNotFoundError, match="nowhere/file'"):
        save_packed(tmp_path / "nowhere" / "file", LEAN)


def test_a_file_is_read_by_whoever_may(tmp_path):
    """A new file's mode is the process' own, as with `open`; one that replaces another keeps that one's."""
    path, other = tmp_path / "file", tmp_path / "other"
    other.touch()
    modes = []
    for change in (None, 0o640, 0o600):
        if change:
            path.chmod(change)
        save_packed(path, LEAN)
        modes.append(stat.S_IMODE(path.stat().st_mode))
    assert modes == [stat.S_IMODE(other.stat().st_mode), 0o640, 0o600]


@pytest.mark.parametrize(("tree", "seed"), [(LEAN, 0), (PACKED, 1)], ids=["compressed", "packed"])
def test_five_hundred_mutations_of_a_file(tree, seed, tmp_path):
    """Bytes flipped, cut off, inserted and moved, headers edited: an error of ours, or the data as it was."""
    path, rng = tmp_path / "file", stdlib_random.Random(seed)
    save_packed(path, tree)
    intact = path.read_bytes()
    header = 8 + int.from_bytes(intact[:8], "little")
    refusals = 0
    for number in range(500):
        path.write_bytes(mutated(intact, header, number, rng))
        try:
            same(load_packed(path), tree)
        except SpartaError:
            refusals += 1
    assert refusals > 450


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
    "too few bits of a mask": (lambda a: a.update({n: v[:-1] for n, v in a.items() if n.endswith("cells")}), "bits for"),
    "huge cuts of a mask": (lambda a: a.update({n: np.arange(1 << 20) for n in a if "/cuts/" in n}), "bits for"),
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


@pytest.mark.parametrize(
    "edit",
    [
        lambda meaning: meaning.update(trees=[]),
        lambda meaning: meaning["trees"].append(meaning["trees"][0]),
        lambda meaning: meaning["trees"][0].update(tree={"plain": nested(5000)}),
        lambda meaning: meaning["trees"][0]["entries"].append(meaning["trees"][0]["entries"][0]),
        lambda meaning: meaning["trees"][0]["entries"][0].__setitem__(0, 1),
    ],
    ids=["no tree", "two trees", "a deep tree", "an entry twice", "an entry without a name"],
)
def test_a_description_of_another_tree(edit, tmp_path, monkeypatch):
    save_packed(tmp_path / "file", PACKED)
    arrays, meaning = container.read(tmp_path / "file")
    meaning = copy.deepcopy(meaning)
    edit(meaning)
    monkeypatch.setattr("sparta_jax.checkpoint.packed.read", lambda _: (arrays, meaning))
    refused(tmp_path / "file", "says nothing that fits")


def nested(depth):
    tree = 0
    for _ in range(depth):
        tree = ["list", [tree]]
    return tree


def places(node):
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield node, key
        yield from places(child)
