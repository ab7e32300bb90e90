"""Which table holds for the CPU that this process runs on."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
from importlib import resources
from pathlib import Path

import jax

from . import store
from .record import Machine, from_json

KIND = "machine"
SHIPPED = ("avx512", "avx2", "baseline", "none")


def current(isa: str, threads: int) -> Machine:
    """The table for an instruction set of the native kernels (`"none"` without them) and a number of threads: the calibrated
    one where there is one in the cache directory, else the one shipped for the instruction set."""
    return _current(isa, max(threads, 1), *map(os.environ.get, store.VARIABLES))


def forget() -> None:
    """Has the next call look into the cache directory again."""
    _current.cache_clear()


def key(isa: str, threads: int) -> dict[str, str | int]:
    """What a calibration holds for."""
    return {"cpu": cpu_name(), "isa": isa, "threads": threads, "jax": jax.__version__, "sparta_jax": library_version()}


@functools.lru_cache(maxsize=64)
def _current(isa: str, threads: int, *variables: str | None) -> Machine:
    """By the values of the variables that say where the cache directory lies."""
    own, standard = key(isa, threads), shipped(isa).shared_by(threads)
    if (tree := store.read(KIND, own)) is not None:
        try:
            return from_json(tree, "calibrated").over(standard)
        except ValueError as error:
            store.ignored(store.directory() / store.name_of(KIND, own), str(error))
    return standard


@functools.cache
def shipped(isa: str) -> Machine:
    """The table of one thread that comes with the library."""
    name = isa if isa in SHIPPED else "none"
    text = resources.files("sparta_jax.machine").joinpath("defaults", f"{name}.json").read_text()
    return from_json(json.loads(text), "shipped")


@functools.cache
def cpu_name() -> str:
    """The CPU's model, with its family where the system tells."""
    fields = {}
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    return f"{name} family {fields['cpu family']} model {fields.get('model')}" if "cpu family" in fields else name


@functools.cache
def library_version() -> str:
    try:
        return importlib.metadata.version("sparta-jax")
    except importlib.metadata.PackageNotFoundError:
        return "uninstalled"
