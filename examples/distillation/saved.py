"""Recovered encoders on disk: their params with zeros where they are pruned, from which the masks are read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from safetensors.numpy import load_file, save_file

import sparta_jax as sj

PRUNED = r"encoder/layer_\d+/.*kernel"


def save(path: Path, params: Any) -> None:
    """Writes a tree of params."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(params, sep="/")
    save_file({name: np.ascontiguousarray(array) for name, array in flat.items()}, path)


def load(path: Path) -> Any:
    """The tree that `save` wrote."""
    return traverse_util.unflatten_dict(load_file(path), sep="/")


def masks(params: Any, block: tuple[int, int]) -> Any:
    """The TeSAs of a pruned encoder: blocks that are zero throughout are dead."""
    return sj.masks.from_zeros(params, block=block, paths=PRUNED)
