"""Tree structures as JSON: dicts, lists, tuples and None; any other container has to be given again."""

from __future__ import annotations

from typing import Any

import jax

from ..errors import CheckpointError


def structure_to_json(tree: Any) -> Any:
    """`{"plain": node}`, or `{"other": a description}` where a container is of another type.

    A node is null, the number of a leaf, or `[kind, children]` with `[key, node]` pairs in a dict."""
    numbered = jax.tree.unflatten(tree, range(tree.num_leaves))
    try:
        return {"plain": _node(numbered)}
    except TypeError:
        return {"other": str(tree)}


FLAT = object()  # as `like`: any containers, the leaves in a list where they are of other types


def structure_from_json(stored: Any, names: tuple[str, ...], shapes: Any, dtypes: Any, like: Any) -> Any:
    """The tree structure; that of `like` where one is given.

    Raises:
      CheckpointError: if `like` is needed, or differs in leaves, shapes or dtypes.
    """
    if like is FLAT and "other" in stored:
        return jax.tree.structure([0] * len(names))
    if like is not None and like is not FLAT:
        return _alike(like, names, shapes, dtypes)
    if "other" in stored:
        raise CheckpointError(
            f"the params are no tree of dicts, lists, tuples and None ({stored['other'][:200]}): pass `like=`, a tree of "
            "their shapes (such as `jax.eval_shape(init)` gives)"
        )
    seen: list[int] = []
    tree = jax.tree.structure(_built(stored["plain"], seen))
    if seen != list(range(len(names))):
        raise ValueError(f"leaves {seen} of {len(names)}")
    return tree


def _node(value: Any) -> Any:
    if value is None or type(value) is int:
        return value
    if type(value) is dict and all(type(k) in (str, int) for k in value):
        return ["dict", [[k, _node(value[k])] for k in sorted(value)]]
    if type(value) in (list, tuple):
        return [type(value).__name__, [_node(v) for v in value]]
    raise TypeError(type(value).__name__)


def _built(node: Any, seen: list[int]) -> Any:
    if node is None:
        return None
    if isinstance(node, int):
        seen.append(node)
        return node
    kind, children = node
    if kind == "dict":
        return {key: _built(child, seen) for key, child in children}
    return {"list": list, "tuple": tuple}[kind](_built(child, seen) for child in children)


def _alike(like: Any, names: tuple[str, ...], shapes: Any, dtypes: Any) -> Any:
    paths, tree = jax.tree_util.tree_flatten_with_path(like)
    keys = [jax.tree_util.keystr(path) for path, _ in paths]
    if len(keys) != len(names) or not all(name.endswith(key) for name, key in zip(names, keys, strict=True)):
        raise CheckpointError(f"`like` has the leaves {', '.join(keys)}; the file has {', '.join(names)}")
    lines = []
    for (_, leaf), name, shape, dtype in zip(paths, names, shapes, dtypes, strict=True):
        has = tuple(jax.numpy.shape(leaf)), jax.dtypes.result_type(leaf)
        if has != (tuple(shape), dtype):
            lines.append(f"{name}: is {dtype}{tuple(shape)}, `like` has {has[1]}{has[0]}")
    if lines:
        raise CheckpointError("`like` does not fit the file:\n  " + "\n  ".join(lines))
    return tree
