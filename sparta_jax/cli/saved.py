"""What a file of packed or compressed params holds."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from ..checkpoint import load_leaves
from ..packed import Packed
from ..tesa import TeSA
from .table import Table


def contents(path: str) -> list[Table]:
    """A table per tree of the file: what is live of each param, and what its arrays take."""
    loaded = load_leaves(path)
    trees = loaded if isinstance(loaded, tuple) else (loaded,)
    return [table for tree in trees for table in (_params(tree, path), _arrays(tree))]


def _params(tree: Any, path: str) -> Table:
    origin = tree.origin
    rows = []
    for name, shape, dtype, tesa in zip(origin.names, origin.shapes, origin.dtypes, origin.tesas, strict=True):
        rows.append((name, "x".join(map(str, shape)) or "scalar", str(np.dtype(dtype)), _density(tesa)))
    whole = sum(math.prod(s) * np.dtype(d).itemsize for s, d in zip(origin.shapes, origin.dtypes, strict=True))
    stored = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    compacted = ", dead slices left out" if isinstance(tree, Packed) and tree.compacted else ""
    foot = f"{type(tree).__name__}: {stored / 1e6:.3g} MB of {whole / 1e6:.3g} dense{compacted}"
    return Table(path, ("param", "shape", "dtype", "live"), tuple(rows), (foot,))


def _density(tesa: TeSA | None) -> str:
    return "dense" if tesa is None else f"{tesa.density:.1%}"


def _arrays(tree: Any) -> Table:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    rows = [(jax.tree_util.keystr(p), "x".join(map(str, a.shape)), str(a.dtype), f"{a.nbytes:,}") for p, a in paths]
    return Table("arrays", ("entry", "shape", "dtype", "bytes"), tuple(rows))
