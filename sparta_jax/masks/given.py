"""The TeSAs of what is there already: exact zeros, and trees of masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ..errors import SpartaValueError
from ..tesa import TeSA
from ..trees import Leaf, leaves_of, match
from .leaves import Paths, each, tree_of, values_of
from .units import Block, sizes_of


def from_zeros(params: Any, *, block: Block = None, paths: Paths = None) -> Any:
    """What is exactly zero already is dead; with `block`, blocks that are zero throughout. A leaf without any is None (dense).

    The arguments, and what is raised, are those of `magnitude`; NaN is not zero.
    """

    def tesa(leaf: Leaf) -> TeSA | None:
        live = TeSA(values_of(leaf) != 0)
        return _sparse(live if block is None else live.coarsen(sizes_of(block, leaf.shape)))

    return tree_of(params, paths, tesa)


def from_masks(masks: Any, params: Any = None) -> Any:
    """The TeSAs of a tree of masks; a mask without a dead element is None (dense), and so is None.

    Args:
      masks: a tree of boolean arrays, or of numbers that are 0 and 1 as jaxpruner keeps them (`uint8`); or an object with such
        a tree as its attribute `masks` (jaxpruner's `SparseState`).
      params: if given, the result is like `params`, every mask must have its parameter's shape, and `masks` may be whatever
        `sparsify` takes: a prefix tree, other containers, regexes.

    Raises:
      SpartaValueError: names the masks that have other values than 0 and 1, or do not fit `params`.
      SpartaTypeError: if a mask is traced or no array of numbers.
    """
    tree = getattr(masks, "masks", masks) if not isinstance(masks, Mapping) else masks
    leaves = leaves_of(tree, "masks")
    tesas = jax.tree.unflatten(jax.tree.structure(tree), each(_live, leaves, "masks"))
    if params is None:
        return tesas
    return jax.tree.unflatten(jax.tree.structure(params), match(tesas, params))


def _live(leaf: Leaf) -> TeSA | None:
    """The TeSA of a mask of zeros and ones."""
    values = values_of(leaf)
    live = values != 0
    if not np.array_equal(values, live):
        raise SpartaValueError(f"a mask of dtype {np.asarray(leaf.value).dtype} has values other than 0 and 1 (bits packed?)")
    return _sparse(TeSA(live))


def _sparse(tesa: TeSA) -> TeSA | None:
    return None if tesa.is_dense else tesa
