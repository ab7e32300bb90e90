"""Files in the user's cache directory: JSON, whole or not there, whoever else writes."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SpartaWarning

VARIABLES = ("SPARTA_JAX_CACHE_DIR", "XDG_CACHE_HOME", "HOME")  # that say where the directory lies


def directory() -> Path:
    """`$SPARTA_JAX_CACHE_DIR`, else `sparta_jax` in `$XDG_CACHE_HOME` or `~/.cache`; it may not exist yet."""
    if own := os.environ.get("SPARTA_JAX_CACHE_DIR"):
        return Path(own)
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "sparta_jax"


def name_of(kind: str, key: Mapping[str, str | int]) -> str:
    """A file's name: what it holds, and for whom."""
    words = "-".join(str(value) for value in key.values())
    return f"{kind}-{''.join(c if c.isalnum() or c in '.+-' else '_' for c in words)}.json"


def read(kind: str, key: Mapping[str, str | int]) -> dict[str, Any] | None:
    """What `write` stored, None where nothing is there. What cannot be read, or is another's, is ignored with a warning."""
    path = directory() / name_of(kind, key)
    try:
        tree = json.loads(path.read_text())
        foreign = [f"{name} {tree.get(name)!r}" for name, value in key.items() if tree.get(name) != value]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError) as error:
        ignored(path, f"cannot be read ({type(error).__name__})")
        return None
    if foreign:
        ignored(path, f"was made for {', '.join(foreign)}")
        return None
    return tree


def write(kind: str, key: Mapping[str, str | int], tree: Mapping[str, Any]) -> Path:
    """Stores `tree`, which holds `key`; a reader finds the whole of it or what was there before."""
    folder = directory()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name_of(kind, key)
    handle, scratch = tempfile.mkstemp(dir=folder, prefix=".writing-", suffix=".json")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(pretty(tree))
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return path


def ignored(path: Path, reason: str) -> None:
    warnings.warn(f"{path} {reason}: ignored; remove it or calibrate again", SpartaWarning, stacklevel=2)


def pretty(tree: Any, indent: int = 0) -> str:
    """JSON with one line for each innermost table."""
    if not isinstance(tree, Mapping) or not any(isinstance(value, Mapping) for value in tree.values()):
        return json.dumps(tree) + ("" if indent else "\n")
    pad = " " * (indent + 1)
    lines = ",\n".join(f"{pad}{json.dumps(key)}: {pretty(value, indent + 1)}" for key, value in tree.items())
    return f"{{\n{lines}\n{' ' * indent}}}" + ("" if indent else "\n")
