"""Cases of what moves elements, reads them by index, reduces and contracts them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from interpreters.case import X, add, bools, ints
from jax import lax

# -- movement

add("reshape, split", lambda x: x.reshape(2, 2, 6), X)
add("reshape, merge", lambda x: x.reshape(6, 4), (2, 3, 4))
add("reshape, cross", lambda x: x.reshape(3, 8), X)
add("reshape, in another order", lambda x: lax.reshape(x, (3, 8), (1, 2, 0)), (2, 3, 4))
add("squeeze", lambda x: lax.squeeze(x, [1]), (4, 1, 6))
add("transpose", lambda x: x.transpose(2, 0, 1), (2, 3, 4))
add("broadcast_in_dim", lambda x: jnp.broadcast_to(x, (3, 4, 6)), (4, 1))
add("broadcast_in_dim, inside", lambda x: lax.broadcast_in_dim(x, (4, 3, 6), (0, 2)), X)
add("slice", lambda x: x[1:3, 2:], X)
add("slice, strided", lambda x: x[::2, 1:6:3], X)
add("slice, empty", lambda x: x[2:2], X)
add("concatenate", lambda x, y: jnp.concatenate([x, y, x], 1), X, (4, 2))
add("split", lambda x: jnp.split(x, [1, 4], 1), X)
add("stack", lambda x, y: jnp.stack([x, y, x], 1), X, X)
add("unstack", lambda x: lax.unstack(x, 1) if hasattr(lax, "unstack") else jnp.unstack(x, axis=1), X)
add("tile", lambda x: jnp.tile(x, (2, 3)), X)
add("pad", lambda x, v: lax.pad(x, v, [(1, 2, 0), (0, 1, 2)]), X, ())
add("pad, negative", lambda x, v: lax.pad(x, v, [(-1, 2, 1), (1, -2, 0)]), X, ())
add("pad, with zero", lambda x: jnp.pad(x, 2), X)
add("rev", lambda x: lax.rev(x, [1]), X)
add("device_put", lambda x, y: jax.device_put((x, y)), X, X)
add("optimization_barrier", lambda x, y: lax.optimization_barrier((x, y)), X, X)

# -- indexing


def scatter_heads(scatter: Callable, x, updates):
    """Updates the first elements of known rows."""
    numbers = lax.ScatterDimensionNumbers(update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,))
    return scatter(x, np.array([[1], [2]]), updates, numbers)


ROWS = ints(3, low=0, high=4)
add("iota", lambda x: x * lax.iota(jnp.float32, 6), X)
add("iota, large", lambda x: x * lax.broadcasted_iota(jnp.float32, (2, 3, 1 << 19), 1)[:, :, :1], (2, 3, 1))
add("dynamic_slice", lambda x, i: lax.dynamic_slice(x, (i, jnp.int32(0)), (2, 6)), X, ints())
add("dynamic_slice, known", lambda x: lax.dynamic_slice(x, (jnp.int32(1), jnp.int32(9)), (2, 3)), X)
add("dynamic_slice, both", lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 3)), X, ints(), ints())
add("dynamic_update_slice", lambda x, u, i: lax.dynamic_update_slice(x, u, (i, jnp.int32(0))), X, (2, 6), ints())
add("dynamic_update_slice, known", lambda x, u: lax.dynamic_update_slice(x, u, (jnp.int32(1), jnp.int32(2))), X, (2, 3))
add("dynamic_update_slice, half", lambda x, u, i: lax.dynamic_update_slice(x, u, (i, jnp.int32(2))), X, (2, 3), ints())
add("gather rows", lambda x, i: x[i], X, ROWS)
add("gather columns", lambda x, i: x[:, i], X, ROWS)
add("gather in a table of indices", lambda x, i: x[i], X, ints(2, 3, low=0, high=4))
add("gather, filled with nan", lambda x, i: jnp.take(x, i, axis=0), X, ints(3, low=0, high=9))
add("gather, filled with zero", lambda x, i: jnp.take(x, i, axis=1, mode="fill", fill_value=0), X, ints(3, low=0, high=9))
add("gather, clipped", lambda x, i: jnp.take(x, i, axis=1, mode="clip"), X, ints(3, low=0, high=9))
add("gather known rows", lambda x: x[np.array([[2, 0], [2, 3]])], X)
add("gather known columns, filled", lambda x: jnp.take(x, np.array([5, 1, 1]), axis=1), X)
add("gather outside", lambda x: jnp.take(x, np.array([5, 1, 9]), axis=1), X)
add("gather elements", lambda x, i, j: x[i, j], X, ROWS, ROWS)
add("gather known elements", lambda x: x[np.array([1, 3]), np.array([0, 5])], X)
add("gather along an axis", lambda x, i: jnp.take_along_axis(x, i, 1), X, ints(4, 2, low=0, high=6))
add("gather windows", jax.vmap(lambda x, i: lax.dynamic_slice(x, (i,), (2,))), X, ints(4, low=0, high=6))
add("gather windows of one", jax.vmap(lambda x, i: lax.dynamic_slice(x, (i,), (2,)), (None, 0)), (6,), ints(4, low=0, high=6))
for _name in ("add", "subtract", "multiply", "min", "max", "set"):
    add(f"scatter rows, {_name}", lambda x, i, u, f=_name: getattr(x.at[i], f)(u), X, ROWS, (3, 6))
    add(f"scatter known columns, {_name}", lambda x, u, f=_name: getattr(x.at[:, np.array([4, 1])], f)(u), X, (4, 2))
add("scatter elements", lambda x, i, j, u: x.at[i, j].add(u), X, ROWS, ROWS, (3,))
add("scatter, a function applied", lambda x: x.at[np.array([1, 2])].apply(jnp.exp), X)
add("scatter outside", lambda x, u: x.at[np.array([1, 7])].set(u), X, (2, 6))
add("scatter, clipped", lambda x, u: x.at[np.array([1, 7])].set(u, mode="clip"), X, (2, 6))
add("scatter windows", jax.vmap(lambda x, u, i: lax.dynamic_update_slice(x, u, (i,))), X, (4, 2), ints(4, low=0, high=6))
for _name in ("add", "set"):
    add(
        f"scatter part of a row, {_name}",
        partial(scatter_heads, getattr(lax, {"add": "scatter_add", "set": "scatter"}[_name])),
        X,
        (2, 3),
    )

# -- reduction

for _name in ("sum", "max", "min", "prod"):
    add(f"reduce_{_name}", partial(getattr(jnp, _name), axis=1), X)
add("reduce_sum of all", jnp.sum, X)
add("reduce_sum of none", lambda x: jnp.sum(x, 0), (0, 3))
for _name in ("and", "or", "xor"):
    add(f"reduce_{_name}", partial(getattr(lax, f"reduce_{_name}"), axes=(1,)), bools(4, 6))
add("argmax", lambda x: jnp.argmax(x, 1), X)
add("argmin", lambda x: jnp.argmin(x, 0), X)
for _name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"):
    add(_name, partial(getattr(lax, _name), axis=1), X)
    add(f"{_name}, reversed", partial(getattr(lax, _name), axis=0, reverse=True), X)
add("sort", lambda x: lax.sort(x, dimension=0), X)
add("sort by keys", lambda x, y: lax.sort((x, y), dimension=1, num_keys=1), ints(4, 6), X)
add("top_k", lambda x: lax.top_k(x, 2), X)

# -- contraction

add("dot_general", lambda x, y: x @ y, (4, 6), (6, 5))
add("dot_general, batched", lambda x, y: jnp.einsum("bij,bjk->bik", x, y), (3, 4, 6), (3, 6, 5))
add("dot_general, outer", lambda x, y: jnp.einsum("ij,kl->ijkl", x, y), (2, 3), (4, 2))
add("dot_general, two axes", lambda x, y: jnp.einsum("bthd,hdo->bto", x, y), (2, 3, 2, 4), (2, 4, 5))
add("dot_general, crossed", lambda x, y: jnp.einsum("aji,kij->ak", x, y), (2, 3, 4), (5, 4, 3))
