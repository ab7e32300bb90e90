"""The state of a sparse optimizer: its masks are arrays in it, and so are sharded, checkpointed and donated with it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..errors import SpartaValueError
from ..masks import from_masks


class SparseState(NamedTuple):
    """The state of every transform in `training`.

    Attributes:
      masks: a tree like the params, of boolean arrays, True where an element is live; None for params that stay dense.
      step: int32, how many updates there were.
      changes: int32, how many of them changed the masks.
      due: bool, whether the next update may change the masks. Its gradients must then be dense where weights are grown by them.
      key: uint32, what random growth starts from; None where nothing is random.
      inner: the state of the inner transform.
    """

    masks: Any
    step: jax.Array
    changes: jax.Array
    due: jax.Array
    key: Any
    inner: Any


def sparse_state(state: Any) -> SparseState:
    """The one `SparseState` in an optimizer's state, wherever `optax.chain` and its like have put it.

    Raises:
      SpartaValueError: if there is none, or more than one.
    """
    is_sparse = lambda node: isinstance(node, SparseState)
    found = [node for node in jax.tree.leaves(state, is_leaf=is_sparse) if is_sparse(node)]
    if len(found) != 1:
        raise SpartaValueError(f"the optimizer's state holds {len(found)} SparseStates, not one; use one of `training`'s")
    return found[0]


def tesa_of(state: Any, params: Any) -> Any:
    """The masks of an optimizer's state as a tree of TeSAs like `params`, None where all is live."""
    return from_masks(sparse_state(state).masks, params)


def masked(params: Any, state: Any) -> Any:
    """The params with zeros where an optimizer's state calls them dead."""
    leaves, tree = jax.tree.flatten(params)
    masks = tree.flatten_up_to(sparse_state(state).masks)
    return jax.tree.unflatten(tree, [p if m is None else where(m, p) for p, m in zip(leaves, masks, strict=True)])


def where(mask: jax.Array, x: jax.Array) -> jax.Array:
    """Zeros where the mask is False."""
    return jnp.where(mask, x, jnp.zeros((), x.dtype))
