"""The tree of compressed params, and its static half."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax

from ..errors import PackedError
from ..packed import Origin
from ..stored import Stored
from ..tesa import TeSA
from .storage import Matrices, Storage


@dataclasses.dataclass(frozen=True, eq=False)
class Form:
    """The static half of compressed params; entries in the order of the leaves.

    Attributes:
      names: the key path of each param.
      tesas: of each param.
      given: whether a param had a TeSA; the one in `tesas` is dense where it had none.
      storages: how its live elements are kept.
    """

    names: tuple[str, ...]
    tesas: tuple[TeSA, ...]
    given: tuple[bool, ...]
    storages: tuple[Storage, ...]

    @functools.cached_property
    def _key(self) -> tuple[Any, ...]:
        return self.names, self.tesas, self.given, self.storages

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Form) and self._hash == other._hash and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash


class Kept(NamedTuple):
    """One compressed param: its array, and what that means."""

    values: jax.Array
    storage: Storage
    tesa: TeSA

    def dense(self) -> jax.Array:
        return self.storage.unpack(self.values, self.tesa)

    @property
    def matrices(self) -> Matrices:
        """How it is kept, where it is kept as matrices."""
        assert isinstance(self.storage, Matrices)
        return self.storage

    def weights(self) -> list[Stored]:
        """The matrices that it is kept as."""
        return self.matrices.weights(self.values, self.tesa)


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Takes the place of the params in calls of the function that compressed them, and in training.

    A pytree with exactly one array per param, which holds its live elements: what an optimizer sees. Index tables are static.
    So what an optimizer is told of the params (`optax.masked`, labels, a mask of weight decay) comes as a function of the tree
    that goes by key paths, not by `ndim`; and what it works out of an array's shape or mean is that of the live elements:
    Adafactor's factors, clipping by blocks or units, Muon.

    Attributes:
      values: a tree of the params' own structure.
      form: what each array means (static).
    """

    values: Any
    form: Form

    @property
    def tesa(self) -> Any:
        """The tree of the params' TeSAs (None where dense)."""
        return jax.tree.unflatten(jax.tree.structure(self.values), self._given)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in jax.tree.leaves(self.values))

    @property
    def origin(self) -> Origin:
        """The params that these stand for, with the dtypes that the arrays have now.

        Raises:
          PackedError: as `check` does.
        """
        self.check()
        leaves, tree = jax.tree.flatten(self.values)
        return Origin(
            tree=tree,
            names=self.form.names,
            shapes=tuple(t.shape for t in self.form.tesas),
            dtypes=tuple(jax.dtypes.result_type(leaf) for leaf in leaves),
            weak=tuple(bool(getattr(leaf, "weak_type", False)) for leaf in leaves),
            tesas=self._given,
        )

    def check(self) -> None:
        """Raises `PackedError` if an array is missing or has another shape than it was given."""
        leaves = jax.tree.leaves(self.values)
        if len(leaves) != len(self.form.names):
            raise PackedError(f"this compressed tree has {len(leaves)} arrays, it was made of {len(self.form.names)} params")
        for name, leaf, storage, tesa in zip(self.form.names, leaves, self.form.storages, self.form.tesas, strict=True):
            if jax.numpy.shape(leaf) != storage.shape(tesa):
                raise PackedError(
                    f"{name}: the compressed array has shape {jax.numpy.shape(leaf)}, its live elements {storage.shape(tesa)}"
                )

    def kept(self) -> list[Kept]:
        """Every param, in the order of the leaves."""
        parts = zip(jax.tree.leaves(self.values), self.form.storages, self.form.tesas, strict=True)
        return [Kept(*part) for part in parts]

    def unpacked(self) -> Any:
        """The params, dense, dead elements zero."""
        return jax.tree.unflatten(jax.tree.structure(self.values), [param.dense() for param in self.kept()])

    @property
    def _given(self) -> tuple[TeSA | None, ...]:
        return tuple(t if given else None for t, given in zip(self.form.tesas, self.form.given, strict=True))

    def __repr__(self) -> str:
        return f"Compressed({len(self.form.names)} params)"


jax.tree_util.register_dataclass(Compressed, data_fields=["values"], meta_fields=["form"])
