"""A file of named arrays and a JSON value: written whole or not at all, and read only as it was written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax import numpy as jnp

from ..errors import CheckpointError, MissingExtra

FORMAT, VERSION = "sparta_jax", 1
MEND = "write it again with `save_packed`"
INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
PLAIN = frozenset({*INTEGERS, "bool", "float16", "float32", "float64", "bfloat16", "complex64"})  # that safetensors knows


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], meaning: Any) -> None:
    """Writes arrays and a JSON value; a file that stood there before is replaced in one step.

    Raises:
      MissingExtra: if safetensors is not installed.
      OSError: if it cannot be written: what stood there before stays.
    """
    safetensors = _safetensors()
    facts = {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in arrays.items()}
    content = {"version": VERSION, "arrays": facts, "meaning": meaning}
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    header = {"format": FORMAT, "content": text, "checksum": _checksum(text, arrays)}
    plain = {name: _plain(a) for name, a in arrays.items()}
    with _replacing(Path(path)) as unfinished:
        try:
            safetensors.numpy.save_file(plain, str(unfinished), metadata=header)
        except safetensors.SafetensorError as error:  # of the disk: it is full, or gone
            raise OSError(f"{path}: not written ({error})") from None


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays and the JSON value of a file.

    Raises:
      CheckpointError: if it is truncated, changed, of another kind or of a newer version.
      MissingExtra: if safetensors is not installed.
      OSError: if it cannot be opened.
    """
    safetensors = _safetensors()
    with open(path, "rb") as file:
        if not file.read(1):
            raise CheckpointError(f"{path}: the file is empty; {MEND}")
    try:
        with safetensors.safe_open(path, "np") as file:
            header = file.metadata() or {}
            text = _content(path, header)
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except CheckpointError:
        raise
    except Exception as error:  # whatever the reader of a foreign or broken file finds wrong with it
        raise CheckpointError(f"{path}: no whole safetensors file ({error}); {MEND}") from None
    return _checked(path, header, text, stored)


def _content(path: Any, header: Mapping[str, str]) -> str:
    """The JSON text, where it is ours and of a version that is known."""
    if header.get("format") != FORMAT or "content" not in header:
        raise CheckpointError(f"{path}: a safetensors file, but not of packed params of sparta_jax")
    try:
        version = json.loads(header["content"])["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CheckpointError(f"{path}: its description is damaged; {MEND}") from None
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path}: has no file version that ever was ({version!r}); {MEND}")
    if version > VERSION:
        raise CheckpointError(
            f"{path}: written by a newer sparta_jax (file version {version}, this one reads up to {VERSION}); install that one"
        )
    return header["content"]


def _checked(path: Any, header: Mapping[str, str], text: str, stored: Mapping[str, np.ndarray]) -> tuple[dict, Any]:
    content = json.loads(text)
    try:
        facts = content["arrays"]
        if facts.keys() != stored.keys():
            raise ValueError("arrays are missing or new")
        arrays = {name: _typed(stored[name], **facts[name]) for name in facts}
        intact = header.get("checksum") == _checksum(text, arrays)
    except (ValueError, TypeError, KeyError, AttributeError):
        intact, arrays = False, {}
    if not intact:
        raise CheckpointError(f"{path}: was changed or damaged after it was written (its checksum differs); {MEND}")
    return arrays, content["meaning"]


def _checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Of the description and of every array's name, dtype, shape and bytes: it finds damage, it is no signature."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        a = np.asarray(arrays[name], order="C")
        digest.update(repr((name, str(a.dtype), a.shape)).encode())
        digest.update(a.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _plain(a: np.ndarray) -> np.ndarray:
    """The array, or its bytes where safetensors has no such dtype."""
    a = np.asarray(a, order="C")
    return a if str(a.dtype) in PLAIN else a.reshape(-1).view(np.uint8)


def _typed(a: np.ndarray, dtype: str, shape: list[int]) -> np.ndarray:
    """What `_plain` was given."""
    if dtype not in PLAIN:
        return a.view(jnp.dtype(dtype)).reshape(shape)
    if (str(a.dtype), list(a.shape)) != (dtype, shape):
        raise ValueError(f"{a.dtype}{a.shape} in the place of {dtype}{shape}")
    return a


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when it is finished, on disk, and is removed where that fails.

    Who may read it: whoever might read what stood there; of a new file, whoever the process lets read its files."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.unfinished")
    try:
        with open(unfinished, "xb") as file:
            mode = os.stat(path if path.is_file() else file.fileno()).st_mode
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        yield unfinished
        os.chmod(unfinished, stat.S_IMODE(mode))
        _flush(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    if os.name == "posix":
        _flush(path.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise MissingExtra("files of packed params need safetensors: pip install 'sparta-jax[checkpoint]'") from None
    return safetensors
