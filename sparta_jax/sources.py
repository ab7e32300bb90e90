"""Params that hold sparse matrices of other libraries, taken in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .errors import SpartaTypeError
from .tesa import TeSA

if TYPE_CHECKING:  # importing it takes longer than importing this library
    from jax.experimental.sparse import BCOO


def from_sparse(params: Any) -> tuple[Any, Any]:
    """Dense params and their TeSAs, from a tree with sparse leaves: `sparsify(fn, tesa)` is then called with the params, and
    `pack` stores them sparse again, each in the layout that is fastest.

    Every stored element is live, also one that holds zero; elements stored more than once are summed.

    Args:
      params: a tree; sparse leaves are `BCOO` and `BCSR` of `jax.experimental.sparse`, or anything with `tocoo()`, such as
        SciPy's CSR, CSC and COO matrices. Other leaves stay as they are.

    Returns:
      The tree with dense leaves, and the tree of their TeSAs, None where the leaf was dense.

    Raises:
      SpartaTypeError: if a leaf is sparse in another way.
    """
    leaves, tree = jax.tree.flatten(params, is_leaf=_is_sparse)
    pairs = [_taken(leaf) if _is_sparse(leaf) else (leaf, None) for leaf in leaves]
    return jax.tree.unflatten(tree, [p for p, _ in pairs]), jax.tree.unflatten(tree, [t for _, t in pairs])


def _is_sparse(leaf: Any) -> bool:
    return hasattr(leaf, "todense") or hasattr(leaf, "tocoo")


def _taken(leaf: Any) -> tuple[jax.Array, TeSA]:
    from jax.experimental.sparse import BCOO

    source = _coo(leaf)
    stored = BCOO((jnp.ones_like(source.data, jnp.int32), source.indices), shape=source.shape)
    return source.todense(), TeSA(np.asarray(stored.todense()) > 0)


def _coo(leaf: Any) -> BCOO:
    from jax.experimental.sparse import BCOO, BCSR

    if isinstance(leaf, BCOO):
        return leaf
    if isinstance(leaf, BCSR):
        return leaf.to_bcoo()
    if not hasattr(leaf, "tocoo"):
        raise SpartaTypeError(f"{type(leaf).__name__} is no format that is taken in: make it a BCOO or a BCSR")
    listed = leaf.tocoo()
    return BCOO((jnp.asarray(listed.data), jnp.asarray(np.stack([listed.row, listed.col], -1))), shape=tuple(listed.shape))
