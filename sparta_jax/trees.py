"""Trees of TeSAs: what a user says of an argument, turned into one TeSA or None per leaf."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.tree_util import GetAttrKey, all_leaves, keystr, tree_flatten_with_path

from .errors import SpartaError, SpartaTypeError, SpartaValueError
from .tesa import TeSA

Keys = tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Leaf:
    """One leaf of a tree and what it is called.

    Attributes:
      name: for messages: `params['fc']['kernel']`.
      path: what regexes are searched in: `fc/kernel`, without the last `value` of Flax's nnx.
      keys: the key path by names alone, equal for every type of container.
      value: an array, a `ShapeDtypeStruct` or a tracer.
    """

    name: str
    path: str
    keys: Keys
    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape if hasattr(self.value, "shape") else np.shape(self.value))


def leaves_of(tree: Any, name: str = "params") -> list[Leaf]:
    """The leaves in the order of `jax.tree.leaves`; `name` is what messages call the tree."""
    flat = [(path, _keys(path), value) for path, value in tree_flatten_with_path(tree)[0]]
    siblings = collections.Counter(keys[:-1] for _, keys, _ in flat)
    out = []
    for path, keys, value in flat:
        is_variable = len(path) > 1 and path[-1] == GetAttrKey("value") and siblings[keys[:-1]] == 1
        out.append(Leaf(name + keystr(path), "/".join(keys[:-1] if is_variable else keys), keys, value))
    return out


def names(tree: Any, name: str = "params") -> list[str]:
    """What messages call the leaves: `params['fc']['kernel']`, in the order of `jax.tree.leaves`."""
    return [leaf.name for leaf in leaves_of(tree, name)]


def selected(patterns: str | Sequence[str], leaves: Sequence[Leaf]) -> list[bool]:
    """Which leaves have a path that any of the regexes is found in.

    Raises:
      SpartaValueError: lists the regexes that are found in none, or are not one.
    """
    chosen, faults = set(), []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            chosen.update(_hits(pattern, leaves))
        except SpartaError as fault:
            faults.append(fault)
    raise_all(faults, "paths")
    return [i in chosen for i in range(len(leaves))]


def match(spec: Any, params: Any, name: str = "params") -> list[TeSA | None]:
    """One `TeSA | None` per leaf of `params`, in the order of `jax.tree.leaves`.

    A dict is a tree if all its keys are keys of `params` at the top level, or if one of its values is a container. Any other
    dict is one of regexes.

    Args:
      spec: one of
        - a prefix tree of `params` with a TeSA, a boolean array (an element mask) or None (dense) at its leaves. Trees match by
          key path, not by container type: a dict fits a FrozenDict, an nnx State, a dataclass, a named tuple; the last
          `value` of an nnx path may be there or not. What stands for a subtree holds for every leaf below, so a TeSA
          fits there if all leaves have its shape. A leaf that the tree does not mention is dense.
        - `{path regex: TeSA, boolean array, None or maker}`: each regex is searched (`re.search`) in the paths `a/b/c`; a
          maker is a callable `leaf -> TeSA | None`. A leaf that none hits is dense; where several hit one leaf, all must say
          the same.
        - a callable `(path, leaf) -> TeSA | None`, with the path `a/b/c`.
      params: arrays, `ShapeDtypeStruct`s or tracers. Their shapes are read; callables and makers are handed the leaves.
      name: what messages call the argument.

    Raises:
      SpartaValueError: lists every mask that does not fit, every path that does not exist, every regex that hits nothing.
      SpartaTypeError: if all that is wrong is of this kind: a mask that is traced or not boolean, or something else than
        a TeSA, a mask or None.
    """
    leaves = leaves_of(params, name)
    faults: list[SpartaError] = []
    if _is_maker(spec):
        said = [{"the callable": functools.partial(spec, leaf.path)} for leaf in leaves]
    elif is_by_regex(spec, params):
        said = _by_regex(spec, leaves, name, faults)
    else:
        said = _by_path(spec, leaves, name, faults)
    found = [_agreed(leaf, given, faults) for leaf, given in zip(leaves, said, strict=True)]
    raise_all(faults, f"the TeSAs of {name}")
    return found


def raise_all(faults: Sequence[SpartaError], what: str) -> None:
    """Raises what went wrong, if anything did, as one error: a `SpartaTypeError` if all are, else a `SpartaValueError`."""
    if not faults:
        return
    if len(faults) == 1:
        raise faults[0]
    kind = SpartaTypeError if all(isinstance(f, TypeError) for f in faults) else SpartaValueError
    raise kind(f"{len(faults)} mismatches in {what}:\n  " + "\n  ".join(map(str, faults)))


# -- who says what of which leaf: per leaf, `{who says it: TeSA, mask, None or maker}`

Said = list[dict[str, Any]]


def _by_path(spec: Any, leaves: Sequence[Leaf], name: str, faults: list[SpartaError]) -> Said:
    below = collections.defaultdict(list)
    for i, leaf in enumerate(leaves):
        for depth in range(len(leaf.keys) + 1):
            below[leaf.keys[:depth]].append(i)
    said: Said = [{} for _ in leaves]
    for path, value in tree_flatten_with_path(spec, is_leaf=_is_given)[0]:
        keys, shown = _keys(path), name + keystr(path)
        if keys not in below and keys[-1:] == ("value",) and keys[:-1] in {leaf.keys for leaf in leaves}:
            keys = keys[:-1]
        if keys not in below and value is not None:
            near = _nearest(shown, [leaf.name for leaf in leaves])
            faults.append(SpartaValueError(f"{shown}: there is no such parameter; {near}"))
        for i in below.get(keys, ()):
            said[i][shown] = value
    return said


def is_by_regex(spec: Any, params: Any) -> bool:
    """Whether `spec` is a dict of regexes, and not a tree; see `match`."""
    if not isinstance(spec, Mapping) or not spec or not all(isinstance(k, str) for k in spec):
        return False
    if not all_leaves(spec.values(), is_leaf=_is_given):
        return False
    children = tree_flatten_with_path(params, is_leaf=lambda node: node is not params)[0]
    return not {key for path, _ in children for key in _keys(path)}.issuperset(spec)


def _by_regex(spec: Mapping[str, Any], leaves: Sequence[Leaf], name: str, faults: list[SpartaError]) -> Said:
    said: Said = [{} for _ in leaves]
    for pattern, value in spec.items():
        try:
            hits = _hits(pattern, leaves)
        except SpartaError as fault:
            faults.append(SpartaValueError(f"{name}: {fault}"))
            continue
        for i in hits:
            said[i][repr(pattern)] = value
    return said


def _hits(pattern: str, leaves: Sequence[Leaf]) -> list[int]:
    try:
        search = re.compile(pattern).search
    except (re.error, TypeError) as error:
        raise SpartaValueError(f"{pattern!r} is not a regular expression: {error}") from None
    hits = [i for i, leaf in enumerate(leaves) if search(leaf.path)]
    if not hits:
        raise SpartaValueError(f"{pattern!r} is found in no path; {_nearest(pattern, [leaf.path for leaf in leaves])}")
    return hits


# -- what is said of one leaf


def _agreed(leaf: Leaf, said: Mapping[str, Any], faults: list[SpartaError]) -> TeSA | None:
    try:
        tesas = [_tesa(value(leaf.value) if _is_maker(value) else value, leaf.shape) for value in said.values()]
    except SpartaError as fault:
        kind = SpartaTypeError if isinstance(fault, TypeError) else SpartaValueError
        faults.append(kind(f"{leaf.name}: {fault}"))
        return None
    if any(t != tesas[0] for t in tesas):
        who = " and ".join(said)
        faults.append(SpartaValueError(f"{leaf.name}: {who} say different things; write regexes that exclude each other"))
    return tesas[0] if tesas else None


def _tesa(value: Any, shape: tuple[int, ...]) -> TeSA | None:
    if value is None:
        return None
    if not isinstance(value, (TeSA, np.ndarray, np.generic, jax.Array)):
        raise SpartaTypeError(f"expected a TeSA, a boolean array or None, got {type(value).__name__}")
    tesa = value if isinstance(value, TeSA) else TeSA(value)
    if tesa.shape != shape:
        mend = "transpose it" if tesa.shape == shape[::-1] else "make it for this shape, or write None for dense"
        raise SpartaValueError(f"mask has shape {tesa.shape}, parameter {shape}; {mend}")
    return tesa


def _is_given(value: Any) -> bool:
    return value is None or isinstance(value, (TeSA, np.ndarray, jax.Array))


def _is_maker(value: Any) -> bool:
    """Whether it is a callable and no tree (Flax's variables are callable, too)."""
    return callable(value) and not _is_given(value) and all_leaves([value])


def _keys(path: Iterable[Any]) -> Keys:
    return tuple(keystr((key,), simple=True) for key in path)


def _nearest(wanted: str, there: Sequence[str], most: int = 4) -> str:
    if not there:
        return "there are none"
    if there == [""]:
        return "there is one array alone, its path is ''"
    near = difflib.get_close_matches(wanted, there, most)
    if near:
        return f"did you mean {' or '.join(near)}?"
    more = f", ... ({len(there)} in all)" if len(there) > most else ""
    return f"there are {', '.join(there[:most])}{more}"
