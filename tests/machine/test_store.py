"""Files of the cache directory: whole or not there, and never trusted."""

import json
import multiprocessing

import pytest

from sparta_jax.errors import SpartaWarning
from sparta_jax.machine import directory, read, store, write

KEY = {"cpu": "A/B (c) 1", "threads": 2}
SIZE = 2000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_nothing_is_there_at_first():
    assert read("machine", KEY) is None


def test_what_is_written_is_read():
    tree = {**KEY, "table": {"a": {"1": 0.5}, "b": {}}}
    path = write("machine", KEY, tree)
    assert read("machine", KEY) == tree
    assert path.name == "machine-A_B__c__1-2.json"
    assert list(directory().iterdir()) == [path]


@pytest.mark.parametrize(
    ("own", "xdg", "expected"), [("/a", "/b", "/a"), ("", "/b", "/b/sparta_jax"), ("", "", "/home/u/.cache/sparta_jax")]
)
def test_where_it_lies(own, xdg, expected, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_CACHE_DIR", own)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/u")
    assert str(directory()) == expected


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00\xff", '{"cpu": "other", "threads": 2}', "{}"])
def test_what_is_not_ours_is_ignored_with_one_warning(text, cache):
    cache.mkdir()
    (cache / store.name_of("machine", KEY)).write_text(text)
    with pytest.warns(SpartaWarning, match="ignored") as warned:
        assert read("machine", KEY) is None
    assert len(warned) == 1
    assert "\n" not in str(warned[0].message)


def rewrite(folder: str, number: int, times: int) -> None:
    import os

    os.environ["SPARTA_JAX_CACHE_DIR"] = folder
    for _ in range(times):
        write("machine", KEY, {**KEY, "values": [number] * SIZE})


def test_readers_beside_several_writers_see_whole_files(cache):
    write("machine", KEY, {**KEY, "values": [0] * SIZE})
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=rewrite, args=(str(cache), n, 40)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        values = read("machine", KEY)["values"]
        assert len(values) == SIZE
        assert len(set(values)) == 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert [p.name for p in cache.iterdir()] == [store.name_of("machine", KEY)]


def test_a_failed_write_leaves_what_was_there(cache):
    write("machine", KEY, {**KEY, "values": [1]})
    with pytest.raises(TypeError):
        write("machine", KEY, {**KEY, "values": object()})
    assert json.loads(next(cache.iterdir()).read_text())["values"] == [1]
