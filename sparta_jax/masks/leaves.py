"""Which leaves are pruned, what they hold, and what score was given for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..errors import SpartaTypeError, SpartaValueError
from ..tesa import TeSA
from ..trees import Leaf, leaves_of, raise_all, selected

Paths = str | Sequence[str] | None


def chosen(params: Any, paths: Paths) -> list[Leaf | None]:
    """The leaves that are pruned; None in the place of the others."""
    leaves = leaves_of(params)
    hit = [_is_weight(leaf) for leaf in leaves] if paths is None else selected(paths, leaves)
    return [leaf if is_hit else None for leaf, is_hit in zip(leaves, hit, strict=True)]


def _is_weight(leaf: Leaf) -> bool:
    return len(leaf.shape) >= 2 and jnp.issubdtype(leaf.value.dtype, jnp.floating)


def tree_of(params: Any, paths: Paths, make: Callable[[Leaf], TeSA | None]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(params), each(make, chosen(params, paths), "params"))


def each(make: Callable[[Leaf], Any], leaves: Sequence[Leaf | None], what: str) -> list[Any]:
    """`make` of every leaf; what goes wrong is raised at once, with the leaves' names."""
    made, faults = [], []
    for leaf in leaves:
        if leaf is None:
            made.append(None)
            continue
        try:
            made.append(make(leaf))
        except (SpartaTypeError, SpartaValueError) as fault:
            faults.append(type(fault)(f"{leaf.name}: {fault}"))
    raise_all(faults, what)
    return made


def values_of(leaf: Leaf) -> np.ndarray:
    """The leaf on the host, in a type that numpy computes in."""
    if isinstance(leaf.value, Tracer):
        raise SpartaTypeError("is traced, its values are needed; make masks outside `jit`, `grad` and `vmap`")
    if isinstance(leaf.value, jax.ShapeDtypeStruct):
        raise SpartaTypeError("is a ShapeDtypeStruct, its values are needed; give the array itself")
    dtype = leaf.value.dtype if hasattr(leaf.value, "dtype") else np.asarray(leaf.value).dtype
    if not jnp.issubdtype(dtype, jnp.number) and dtype != np.bool_:
        raise SpartaTypeError(f"has dtype {dtype}, which is no number; leave this leaf out by `paths`")
    values = np.asarray(leaf.value)
    if dtype == np.bool_ or jnp.issubdtype(dtype, jnp.integer):
        return values.astype(np.float64)  # the magnitude of -128 is no int8
    return values if values.dtype.kind in "fc" and values.itemsize > 2 else values.astype(np.float32)


def magnitudes_of(leaf: Leaf) -> np.ndarray:
    sizes = np.abs(values_of(leaf))
    if np.isnan(sizes).any():
        raise SpartaValueError(f"has {np.isnan(sizes).sum()} NaNs, which have no magnitude; replace them first")
    return sizes


def scores_of(scores: Any, params: Any) -> Callable[[Leaf], np.ndarray]:
    """What gives the scores of a leaf's elements: its magnitudes, or what a tree of `scores` holds at its key path.

    What it gives raises SpartaValueError unless there is such a score, of the leaf's shape, without NaN and not negative.
    """
    if scores is None:
        return magnitudes_of
    by_keys = {leaf.keys: leaf for leaf in leaves_of(scores, "scores")}
    known = {leaf.keys for leaf in leaves_of(params)}
    strays = [s.name for k, s in by_keys.items() if k not in known]
    mend = "there is no such parameter; scores are a tree like the params"
    raise_all([SpartaValueError(f"{name}: {mend}") for name in strays], "scores")

    def score(leaf: Leaf) -> np.ndarray:
        if leaf.keys not in by_keys:
            raise SpartaValueError("has no score; leave this leaf out by `paths`")
        given = by_keys[leaf.keys]
        if given.shape != leaf.shape:
            raise SpartaValueError(f"its score has shape {given.shape}, the parameter {leaf.shape}")
        values = values_of(given)
        if np.iscomplexobj(values) or np.isnan(values).any() or (values < 0).any():
            raise SpartaValueError("its score has negative, complex or NaN entries; scores are at least 0, the largest live")
        return values

    return score
