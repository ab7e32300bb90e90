"""Compaction of dynamic slices, gather and scatter: along axes that are taken whole."""

from __future__ import annotations

from ...jaxprs import Equation, apply
from ..emission import Emission, Held, compacts, whole
from ..view import View


@compacts("dynamic_slice")
def dynamic_slice_compact(emission: Emission, equation: Equation) -> list[Held]:
    (x, *starts), sizes = equation.inputs, equation.params["slice_sizes"]
    if len(starts) != len(x.shape):
        return whole(emission, equation)
    view = emission.ideal(equation.outputs[0]).whole_along([d for d, n in enumerate(sizes) if n != x.shape[d]])
    value = emission.want(x, View.of(x.shape, view.kept))
    at = [emission.want(s, View.whole(())) for s in starts]
    return [Held(view, apply(equation, [value, *at], slice_sizes=view.sizes)[0])]


@compacts("dynamic_update_slice")
def dynamic_update_slice_compact(emission: Emission, equation: Equation) -> list[Held]:
    x, update, *starts = equation.inputs
    moved = [d for d, n in enumerate(update.shape) if n != x.shape[d]]
    view = emission.ideal(equation.outputs[0]).whole_along(moved)
    values = [emission.want(x, view), emission.want(update, View.of(update.shape, view.kept))]
    return [Held(view, apply(equation, [*values, *(emission.want(s, View.whole(())) for s in starts)])[0])]


@compacts("gather")
def gather_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Columns of an embedding that are dead are not looked up."""
    (x, indices), p = equation.inputs, equation.params
    numbers, sizes, ideal = p["dimension_numbers"], list(p["slice_sizes"]), emission.ideal(equation.outputs[0])
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [d for d in range(len(x.shape)) if d not in dropped]
    offset = dict(zip(kept, sorted(numbers.offset_dims), strict=True))
    passing = {d: o for d, o in offset.items() if sizes[d] == x.shape[d] and d not in numbers.start_index_map}
    view = ideal.whole_along([o for o in range(len(ideal.shape)) if o not in passing.values()])
    source = View.of(x.shape, [view.kept[passing[d]] if d in passing else None for d in range(len(x.shape))])
    for d, o in passing.items():
        sizes[d] = view.sizes[o]
    values = [emission.want(x, source), emission.want(indices, View.whole(indices.shape))]
    return [Held(view, apply(equation, values, slice_sizes=tuple(sizes))[0])]


@compacts("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def scatter_compact(emission: Emission, equation: Equation) -> list[Held]:
    x, indices, updates = equation.inputs
    numbers, ideal = equation.params["dimension_numbers"], emission.ideal(equation.outputs[0])
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
