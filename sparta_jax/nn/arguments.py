"""A method's arguments, parted into those that are traced and those that are not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ..errors import SpartaTypeError

ARRAYS = (jax.Array, np.ndarray, np.generic, int, float, complex, jax.ShapeDtypeStruct)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What is fixed of a call: hashable, the key of a compiled one.

    Booleans, strings, functions and other objects that are no arrays steer the Python code of a module (`train=True`), so they
    are part of the program; integers and floats are traced, as under `jax.jit`.

    Attributes:
      treedef: of `(args, kwargs)`.
      fixed: each leaf that is not traced, None in the place of the others.
      traced: which leaves are.
    """

    treedef: Any
    fixed: tuple[Any, ...]
    traced: tuple[bool, ...]

    @classmethod
    def of(cls, args: tuple, kwargs: dict[str, Any]) -> tuple[Arguments, list[Any]]:
        """The fixed part of a call, and its traced leaves.

        Raises:
          SpartaTypeError: names an argument that is neither an array nor hashable.
        """
        flat, treedef = jax.tree_util.tree_flatten_with_path((args, kwargs))
        traced = tuple(is_traced(leaf) for _, leaf in flat)
        for (path, leaf), dynamic in zip(flat, traced, strict=True):
            if not dynamic and not _is_hashable(leaf):
                name = f"argument {jax.tree_util.keystr(path[1:])}"
                raise SpartaTypeError(f"{name} is a {type(leaf).__name__}: neither an array nor hashable")
        fixed = tuple(None if dynamic else leaf for (_, leaf), dynamic in zip(flat, traced, strict=True))
        return cls(treedef, fixed, traced), [leaf for (_, leaf), dynamic in zip(flat, traced, strict=True) if dynamic]

    def join(self, leaves: Any) -> tuple[tuple, dict[str, Any]]:
        """`(args, kwargs)` with the traced leaves in their places."""
        rest = iter(leaves)
        whole = [next(rest) if dynamic else leaf for leaf, dynamic in zip(self.fixed, self.traced, strict=True)]
        return jax.tree.unflatten(self.treedef, whole)


def is_traced(leaf: Any) -> bool:
    """Whether an argument's leaf is data."""
    return isinstance(leaf, ARRAYS) and not isinstance(leaf, bool)


def _is_hashable(leaf: Any) -> bool:
    try:
        hash(leaf)
    except TypeError:
        return False
    return True


@dataclasses.dataclass(frozen=True, eq=False)
class Same:
    """A value that is equal to itself alone."""

    value: Any

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Same) and self.value is other.value


def frozen(value: Any) -> Any:
    """What stands for a value in a key: containers and numpy arrays by content, what else is unhashable by identity."""
    if _is_hashable(value):
        return value
    if dataclasses.is_dataclass(value):
        return type(value), tuple((f.name, frozen(getattr(value, f.name))) for f in dataclasses.fields(value) if f.init)
    if isinstance(value, Mapping):
        return type(value), tuple((frozen(k), frozen(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(frozen, value))
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, value.tobytes()
    return Same(value)
