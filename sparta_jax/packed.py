"""Packed params: what the prologue of a sparsified function made of them, data only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .stored import Stored
from .tesa import TeSA


@dataclasses.dataclass(frozen=True)
class Origin:
    """The params that a packed tree was made from.

    Attributes:
      tree: their tree structure.
      names: the key path of each leaf.
      shapes, dtypes: of each leaf.
      weak: whether a leaf's dtype is weak, as that of a Python number is: the program depends on it.
      tesas: of each leaf; None is dense.
    """

    tree: Any
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    weak: tuple[bool, ...]
    tesas: tuple[TeSA | None, ...]

    def structs(self) -> Any:
        """The params' tree, with a `ShapeDtypeStruct` at every leaf."""
        facts = zip(self.shapes, self.dtypes, self.weak, strict=True)
        leaves = [jax.ShapeDtypeStruct(shape, dtype, weak_type=weak) for shape, dtype, weak in facts]
        return jax.tree.unflatten(self.tree, leaves)


@dataclasses.dataclass(frozen=True)
class Undo:
    """How a param is had back from the weights that it was packed into.

    Attributes:
      keys: of its weights `[k, n]`, one per batch element.
      steps: `("reshape", sizes)` and `("transpose", permutation)`, to be applied to them, stacked.
    """

    keys: tuple[str, ...]
    steps: tuple[tuple[str, tuple[int, ...]], ...]

    def __call__(self, weights: jax.Array) -> jax.Array:
        for kind, sizes in self.steps:
            weights = weights.reshape(sizes) if kind == "reshape" else weights.transpose(sizes)
        return weights


@dataclasses.dataclass(frozen=True)
class Packed:
    """Takes the place of the params in calls of the function that packed them.

    A pytree whose leaves are arrays: weights in the layouts that were chosen for them, with their index tables, and whatever
    else the body needs of the params.

    Attributes:
      entries: an array, a `BSR` or a `CSR` per key; a key begins with the key paths of the params that its entry derives from.
      origin: the params it was made from (static).
      undo: for params that are kept as a product's weight only: how they are had back (static).
      compacted: whether dead slices were left out (static).
    """

    entries: dict[str, Stored]
    origin: Origin
    undo: tuple[tuple[str, Undo], ...] = ()
    compacted: bool = False

    @property
    def tesa(self) -> Any:
        """The tree of its TeSAs (None where dense): `sparsify(fn, packed.tesa)` is the function it belongs to."""
        return jax.tree.unflatten(self.origin.tree, self.origin.tesas)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, index tables included."""
        return sum(a.nbytes for a in jax.tree.leaves(self.entries))

    def weights(self) -> Iterator[tuple[str, Stored]]:
        """The entries that are products' weights, by key."""
        return ((k, v) for k, v in self.entries.items() if "@" in k)

    def __repr__(self) -> str:
        return f"Packed({len(self.entries)} entries, {self.nbytes / 1e6:.3g} MB)"


jax.tree_util.register_dataclass(Packed, data_fields=["entries"], meta_fields=["origin", "undo", "compacted"])


def dense_bytes(origin: Origin) -> int:
    """Bytes of the params that a packed tree was made from."""
    return sum(int(np.prod(s)) * np.dtype(d).itemsize for s, d in zip(origin.shapes, origin.dtypes, strict=True))
