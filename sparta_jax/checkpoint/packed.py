"""`save_packed` and `load_packed`: what `pack` and `compress` return, in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
from jax import numpy as jnp

from ..compressed import Channels, Compressed, Flat, Form, Matrices, Steps, Storage, Whole, rearranged
from ..errors import CheckpointError, SpartaError, SpartaTypeError
from ..packed import Origin, Packed, Undo
from ..stored import Stored
from ..tesa import TeSA
from .container import read, write
from .facts import Reader, Writer, layout_from_json, layout_to_json
from .structure import FLAT, structure_from_json, structure_to_json

Tree = Packed | Compressed
UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RecursionError, MemoryError)
SIMPLE: dict[str, Storage] = {"whole": Whole(), "flat": Flat(), "channels": Channels()}


def save_packed(path: str | os.PathLike[str], packed: Tree | tuple[Tree, ...]) -> None:
    """Writes what `pack` or `compress` returned: arrays as safetensors, their meaning as JSON in the header; data only.

    The file is written beside `path` and put in its place when it is on disk.

    Args:
      path: of the file.
      packed: one tree, or the tuple of them that a function with several params arguments has.

    Raises:
      SpartaTypeError: if it is something else, or has an array without values.
      MissingExtra: if safetensors is not installed.
    """
    trees: tuple[Any, ...] = packed if isinstance(packed, tuple) else (packed,)
    if not trees or not all(isinstance(tree, Tree) for tree in trees):
        raise SpartaTypeError(f"`save_packed` takes what `pack` or `compress` returned, not {type(packed).__name__}")
    writer = Writer()
    stored = [_tree_to_json(tree, str(i), writer) for i, tree in enumerate(trees)]
    write(path, writer.arrays, {"trees": stored, "single": not isinstance(packed, tuple)})


def load_packed(path: str | os.PathLike[str], like: Any = None) -> Any:
    """What `save_packed` wrote, in any process: `sparsify(fn, packed.tesa)` is the function that it belongs to.

    Args:
      path: of the file.
      like: needed where the params are no tree of dicts, lists, tuples and None: a tree of their shapes (arrays or
        `ShapeDtypeStruct`s), or a tuple of such where several were saved.

    Returns:
      A `Packed` or `Compressed` tree, or the tuple of them that was saved.

    Raises:
      CheckpointError: if the file is truncated, changed, of another kind or of a newer version, has an index that points
        outside, needs `like`, or does not fit it.
      MissingExtra: if safetensors is not installed.
      OSError: if it cannot be opened.
    """
    return _loaded(path, like)


def load_leaves(path: str | os.PathLike[str]) -> Tree | tuple[Tree, ...]:
    """As `load_packed`, to be looked at: where it would need `like`, the leaves of the params are in a list."""
    return _loaded(path, FLAT)


def _loaded(path: str | os.PathLike[str], like: Any) -> Any:
    arrays, meaning = read(path)
    try:
        stored, single = list(meaning["trees"]), meaning["single"]
        if not stored or single and len(stored) > 1:
            raise ValueError(f"{len(stored)} trees")
        likes = (like,) * len(stored) if single or like is FLAT else like
        if likes is not None and (not isinstance(likes, tuple) or len(likes) != len(stored)):
            raise CheckpointError(f"`like` must be a tuple of {len(stored)} trees, one per params argument")
        reader = Reader(arrays)
        trees = tuple(_tree(tree, reader, None if likes is None else likes[i]) for i, tree in enumerate(stored))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (*UNFIT, SpartaError) as error:
        raise CheckpointError(f"{path}: its description says nothing that fits ({error}); write it again") from None
    return trees[0] if single else trees


def _tree_to_json(tree: Tree, name: str, writer: Writer) -> dict[str, Any]:
    return _packed_to_json(tree, name, writer) if isinstance(tree, Packed) else _compressed_to_json(tree, name, writer)


def _tree(stored: Mapping[str, Any], reader: Reader, like: Any) -> Tree:
    return {"packed": _packed_from_json, "compressed": _compressed_from_json}[stored["kind"]](stored, reader, like)


# -- packed


def _packed_to_json(packed: Packed, name: str, writer: Writer) -> dict[str, Any]:
    origin = packed.origin
    entries = [[k, writer.weight(f"{name}/{i}", v, k)] for i, (k, v) in enumerate(packed.entries.items())]
    return {
        "kind": "packed",
        "tree": structure_to_json(origin.tree),
        "params": _params_to_json(origin, writer),
        "entries": entries,
        "undo": [[param, list(undo.keys), _steps_to_json(undo.steps)] for param, undo in packed.undo],
        "compacted": packed.compacted,
    }


def _packed_from_json(stored: Mapping[str, Any], reader: Reader, like: Any) -> Packed:
    return Packed(
        entries=_entries(stored["entries"], reader),
        origin=_origin(stored, reader, like),
        undo=tuple((param, Undo(tuple(keys), _steps_from_json(steps))) for param, keys, steps in stored["undo"]),
        compacted=bool(stored["compacted"]),
    )


def _entries(stored: list[Any], reader: Reader) -> dict[str, Stored]:
    entries = {key: reader.weight(kept, key) for key, kept in stored}
    if len(entries) != len(stored) or not all(isinstance(key, str) for key in entries):
        raise ValueError(f"entries are named {', '.join(map(str, entries))}")
    return entries


def _params_to_json(origin: Origin, writer: Writer) -> list[dict[str, Any]]:
    facts = zip(origin.names, origin.shapes, origin.dtypes, origin.weak, origin.tesas, strict=True)
    return [
        {"name": name, "shape": list(shape), "dtype": str(dtype), "weak": bool(weak), "tesa": writer.tesa(tesa)}
        for name, shape, dtype, weak, tesa in facts
    ]


def _origin(stored: Mapping[str, Any], reader: Reader, like: Any) -> Origin:
    params = stored["params"]
    names = tuple(str(p["name"]) for p in params)
    shapes = tuple(tuple(map(int, p["shape"])) for p in params)
    dtypes = tuple(jnp.dtype(p["dtype"]) for p in params)
    return Origin(
        tree=structure_from_json(stored["tree"], names, shapes, dtypes, like),
        names=names,
        shapes=shapes,
        dtypes=dtypes,
        weak=tuple(bool(p["weak"]) for p in params),
        tesas=tuple(reader.tesa(p["tesa"], shape) for p, shape in zip(params, shapes, strict=True)),
    )


# -- compressed


def _compressed_to_json(tree: Compressed, name: str, writer: Writer) -> dict[str, Any]:
    origin = tree.origin
    kept = [writer.array(f"{name}/{i}", p.values, n) for i, (p, n) in enumerate(zip(tree.kept(), origin.names, strict=True))]
    return {
        "kind": "compressed",
        "tree": structure_to_json(origin.tree),
        "params": _params_to_json(origin, writer),
        "storages": [_storage_to_json(s) for s in tree.form.storages],
        "values": kept,
    }


def _compressed_from_json(stored: Mapping[str, Any], reader: Reader, like: Any) -> Compressed:
    origin = _origin(stored, reader, like)
    given = tuple(t is not None for t in origin.tesas)
    tesas = tuple(TeSA.dense(s) if t is None else t for s, t in zip(origin.shapes, origin.tesas, strict=True))
    storages = tuple(_storage_from_json(s, t) for s, t in zip(stored["storages"], tesas, strict=True))
    values = [reader.array(kept) for kept in stored["values"]]
    tree = Compressed(jax.tree.unflatten(origin.tree, values), Form(origin.names, tesas, given, storages))
    tree.check()
    return tree


def _storage_to_json(storage: Storage) -> Any:
    if isinstance(storage, Matrices):
        return {"steps": _steps_to_json(storage.steps), "layout": layout_to_json(storage.layout)}
    return next(name for name, simple in SIMPLE.items() if simple == storage)


def _storage_from_json(stored: Any, tesa: TeSA) -> Storage:
    if isinstance(stored, str):
        return SIMPLE[stored]
    storage = Matrices(_steps_from_json(stored["steps"]), layout_from_json(stored["layout"]))
    if len(rearranged(tesa.grid, storage.steps).shape) != 3:
        raise ValueError(f"{storage.steps} makes no matrices of {tesa.shape}")
    return storage


# -- steps


def _steps_to_json(steps: Steps) -> list[Any]:
    return [[kind, [int(n) for n in sizes]] for kind, sizes in steps]


def _steps_from_json(stored: list[Any]) -> Steps:
    steps = tuple((kind, tuple(map(int, sizes))) for kind, sizes in stored)
    if any(kind not in ("reshape", "transpose") or min(sizes, default=0) < 0 for kind, sizes in steps):
        raise ValueError(f"no rearrangement: {stored}")
    return steps
