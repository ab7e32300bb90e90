"""Compaction of dynamic slices, gather and scatter: along axes that are taken whole."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.lax import GatherScatterMode

from ...jaxprs import Atom, Equation, apply
from ...stage import SETTLED
from ..emission import Emission, Held, compacts, whole
from ..view import View


@compacts("dynamic_slice")
def dynamic_slice_compact(emission: Emission, equation: Equation) -> list[Held]:
    (x, *starts), sizes = equation.inputs, equation.params["slice_sizes"]
    if len(starts) != len(x.shape):
        return whole(emission, equation)
    view = emission.target(equation.outputs[0]).whole_along([d for d, n in enumerate(sizes) if n != x.shape[d]])
    value = emission.want(x, View.of(x.shape, view.kept))
    at = [emission.want(s, View.whole(())) for s in starts]
    return [Held(view, apply(equation, [value, *at], slice_sizes=view.sizes)[0])]


@compacts("dynamic_update_slice")
def dynamic_update_slice_compact(emission: Emission, equation: Equation) -> list[Held]:
    x, update, *starts = equation.inputs
    moved = [d for d, n in enumerate(update.shape) if n != x.shape[d]]
    view = emission.target(equation.outputs[0]).whole_along(moved)
    values = [emission.want(x, view), emission.want(update, View.of(update.shape, view.kept))]
    return [Held(view, apply(equation, [*values, *(emission.want(s, View.whole(())) for s in starts)])[0])]


@compacts("gather")
def gather_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Columns of an embedding that are dead are not looked up."""
    (x, indices), p = equation.inputs, equation.params
    numbers, sizes, ideal = p["dimension_numbers"], list(p["slice_sizes"]), emission.target(equation.outputs[0])
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [d for d in range(len(x.shape)) if d not in dropped]
    offset = dict(zip(kept, sorted(numbers.offset_dims), strict=True))
    passing = {d: o for d, o in offset.items() if sizes[d] == x.shape[d] and d not in numbers.start_index_map}
    view = ideal.whole_along([o for o in range(len(ideal.shape)) if o not in passing.values()])
    source = View.of(x.shape, [view.kept[passing[d]] if d in passing else None for d in range(len(x.shape))])
    for d, o in passing.items():
        sizes[d] = view.sizes[o]
    at = emission.want(indices, View.whole(indices.shape))
    rows = None if emission.is_fixed(indices) else _live_rows(emission, x, numbers, sizes)
    if rows is None:
        return [Held(view, apply(equation, [emission.want(x, source), at], slice_sizes=tuple(sizes))[0])]
    axis, live = rows
    table = emission.want(x, source.along(axis, live))
    zero = jnp.zeros([1 if d == axis else n for d, n in enumerate(table.shape)], table.dtype)
    table = checkpoint_name(lax.concatenate([table, zero], axis), SETTLED)
    values = [table, _renumbered(at, live, x.shape[axis], p["mode"])]
    changed = {"slice_sizes": tuple(sizes), "indices_are_sorted": False, "unique_indices": False}  # dead rows become one
    return [Held(view, apply(equation, values, **changed)[0])]


def _live_rows(emission: Emission, x: Atom, numbers, sizes: Sequence[int]) -> tuple[int, np.ndarray] | None:
    """The indexed axis of a table of the params, of which single rows are taken, and its rows that are not zero."""
    axes = numbers.start_index_map
    if len(axes) != 1 or axes[0] not in numbers.collapsed_slice_dims or sizes[axes[0]] != 1 or not emission.is_fixed(x):
        return None
    live = View.around(emission.facts.value(x).nonzero).kept[axes[0]]
    return None if live is None or not len(live) else (axes[0], live)


def _renumbered(at: jax.Array, live: np.ndarray, size: int, mode: GatherScatterMode) -> jax.Array:
    """Row numbers of a table of `size` rows as those of its `live` rows with one row of zeros behind."""
    places = np.full(size, len(live), np.int32)
    places[live] = np.arange(len(live))
    at = at if at.dtype.itemsize >= places.itemsize else at.astype(places.dtype)
    inside = jnp.clip(at, 0, size - 1)
    found = jnp.asarray(places).at[inside].get(mode="promise_in_bounds")
    if mode == GatherScatterMode.FILL_OR_DROP:
        found = jnp.where(inside == at, found, len(live) + 1)
    return found


@compacts("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def scatter_compact(emission: Emission, equation: Equation) -> list[Held]:
    x, indices, updates = equation.inputs
    numbers, ideal = equation.params["dimension_numbers"], emission.target(equation.outputs[0])
    dropped = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    kept = [d for d in range(len(x.shape)) if d not in dropped]
    window = dict(zip(kept, sorted(numbers.update_window_dims), strict=True))
    indexed = numbers.scatter_dims_to_operand_dims
    passing = {d: w for d, w in window.items() if updates.shape[w] == x.shape[d] and d not in indexed}
    view = ideal.whole_along([d for d in range(len(x.shape)) if d not in passing])
    back = {w: d for d, w in passing.items()}
    written = View.of(updates.shape, [view.kept[back[w]] if w in back else None for w in range(len(updates.shape))])
    values = [emission.want(x, view), emission.want(indices, View.whole(indices.shape)), emission.want(updates, written)]
    return [Held(view, apply(equation, values)[0])]
