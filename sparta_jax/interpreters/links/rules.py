"""How each primitive passes labels on, by family."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..jaxprs import Equation
from ..rules.elementwise import KEEP_ZERO, LOSE_ZERO, ZERO_AGAINST
from ..rules.shapes import reshaped_runs
from .labels import Factor, Labels, Links, factors, pinned, renamed
from .sweep import links_rule

NAMES = {p if isinstance(p, str) else p.name for p in (*KEEP_ZERO, *LOSE_ZERO, *ZERO_AGAINST)} - {"bitcast_convert_type"}


@links_rule(*NAMES, "clamp", "integer_pow", "select_n", "polynomial", "add_any")
def elementwise_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """Positions meet."""
    return [links.joined(*inputs)]


@links_rule("optimization_barrier", "device_put")
def identity_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    return inputs


@links_rule(
    "iota", "random_bits", "random_seed", "random_wrap", "random_unwrap", "random_fold_in", "random_split", "threefry2x32"
)
def made_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    return [()] * len(equation.outputs)


# -- movement


@links_rule("broadcast_in_dim")
def broadcast_in_dim_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """New and stretched axes are free."""
    return [renamed(inputs[0], dict(enumerate(equation.params["broadcast_dimensions"])))]


@links_rule("transpose")
def transpose_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    return [renamed(inputs[0], {old: new for new, old in enumerate(equation.params["permutation"])})]


@links_rule("reshape", "squeeze", "expand_dims")
def reshape_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """A split axis has one factor over its parts. Merged ones take the labels of the first that may die, others are pinned."""
    old, new = equation.inputs[0].shape, equation.outputs[0].shape
    if 0 in old:
        return [()]
    labels, out = inputs[0], []
    groups = reshaped_runs(old, new)
    for olds, _ in groups:
        labels = tuple(g for f in labels for g in _within(links, f, olds))
    for olds, news in groups:
        inside = [f for f in labels if f.axes[0] in olds]
        if not inside:
            continue
        first, *others = [f for f in inside if not f.is_pinned] or inside[:1]
        links.pin(tuple(others))
        whole = _spread(first, olds, old)
        out += factors(news, whole.reshape([new[d] for d in news]))
    return [tuple(out)]


def _within(links: Links, factor: Factor, axes: Sequence[int]) -> Labels:
    """A factor that lies inside of these axes or outside."""
    inside = set(factor.axes) & set(axes)
    return (factor,) if len(inside) in (0, len(factor.axes)) else links.narrowed(factor, factor.axes[:1])


def _spread(factor: Factor, axes: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """The labels along all of these axes."""
    shown = factor.labels.reshape([shape[d] if d in factor.axes else 1 for d in axes])
    return np.broadcast_to(shown, [shape[d] for d in axes])


def _indexed(labels: Labels, axis: int, index: slice) -> Labels:
    """The labels of a slice along one axis."""
    out: list[Factor] = []
    for f in labels:
        at = tuple(index if a == axis else slice(None) for a in f.axes)
        out += factors(f.axes, f.labels[at]) if axis in f.axes else (f,)
    return tuple(out)


@links_rule("slice")
def slice_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    params, labels = equation.params, inputs[0]
    steps = params["strides"] or [1] * len(params["start_indices"])
    for axis, spans in enumerate(zip(params["start_indices"], params["limit_indices"], steps, strict=True)):
        labels = _indexed(labels, axis, slice(*spans))
    return [labels]


@links_rule("split")
def split_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    axis, ends = equation.params["axis"], np.cumsum(equation.params["sizes"]).tolist()
    return [_indexed(inputs[0], axis, slice(a, b)) for a, b in zip([0, *ends], ends, strict=False)]


@links_rule("rev")
def rev_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    labels = inputs[0]
    for axis in equation.params["dimensions"]:
        labels = _indexed(labels, axis, slice(None, None, -1))
    return [labels]


@links_rule("concatenate")
def concatenate_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """Along the axis one piece behind the other, elsewhere positions meet."""
    axis = equation.params["dimension"]
    pieces: list[Factor | None] = [next((f for f in labels if axis in f.axes), None) for labels in inputs]
    rest = [tuple(f for f in labels if axis not in f.axes) for labels in inputs]
    axes = {f.axes for f in pieces if f is not None}
    if len(axes) > 1:
        pieces = [None if f is None else next(iter(links.narrowed(f, [axis])), None) for f in pieces]
        axes = {(axis,)}
    if not axes:
        return [links.joined(*rest)]
    (along,) = axes
    shape = lambda atom: [atom.shape[a] for a in along]
    parts = [links.fresh(shape(a)) if f is None else f.labels for a, f in zip(equation.inputs, pieces, strict=True)]
    return [links.joined(factors(along, np.concatenate(parts, along.index(axis))), *rest)]


@links_rule("pad")
def pad_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """What is put in front and behind belongs to nobody; an axis that is spread is pinned."""
    labels = inputs[0]
    for axis, (low, high, interior) in enumerate(equation.params["padding_config"]):
        if interior or low < 0 or high < 0:
            labels = links.fixed(labels, [axis])
        elif low or high:
            labels = tuple(g for f in labels for g in _padded(links, f, axis, low, high))
    return [labels]


def _padded(links: Links, factor: Factor, axis: int, low: int, high: int) -> Labels:
    if axis not in factor.axes or factor.is_pinned:
        return () if axis in factor.axes else (factor,)
    d = factor.axes.index(axis)
    around = lambda n: links.fresh([n if i == d else size for i, size in enumerate(factor.labels.shape)])
    return factors(factor.axes, np.concatenate([around(low), factor.labels, around(high)], d))


@links_rule("gather")
def gather_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """An axis of which all is taken keeps its labels, one that is looked up in is pinned."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    links.pin(inputs[1])
    shape = equation.inputs[0].shape
    dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    window = [d for d in range(len(shape)) if d not in dropped]
    partial = [d for d in range(len(shape)) if d in dropped or sizes[d] != shape[d]]
    places = dict(zip(window, numbers.offset_dims, strict=True))
    whole = [places[d] for d in window if d not in partial]
    out = equation.outputs[0].shape
    looked_up = pinned(out, [d for d in range(len(out)) if d not in whole])
    return [(*renamed(links.fixed(inputs[0], partial), places), *looked_up)]


@links_rule("dynamic_slice")
def dynamic_slice_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    out = equation.outputs[0].shape
    return [_pinned_along(links, inputs[0], _changed(equation.inputs[0].shape, out), out)]


@links_rule("dynamic_update_slice")
def dynamic_update_slice_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    partial = _changed(equation.inputs[0].shape, equation.inputs[1].shape)
    out = equation.outputs[0].shape
    return [links.joined(*(_pinned_along(links, labels, partial, out) for labels in inputs[:2]))]


def _pinned_along(links: Links, labels: Labels, axes: Sequence[int], out: Sequence[int]) -> Labels:
    """The labels of a result of shape `out` that has used these axes as a whole and kept them."""
    return (*links.fixed(labels, axes), *pinned(out, axes))


def _changed(a: Sequence[int], b: Sequence[int]) -> list[int]:
    return [d for d, (m, n) in enumerate(zip(a, b, strict=True)) if m != n]


# -- reductions


@links_rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor")
def reduction_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """Each channel is a summand of its own."""
    return [_left(links.without(inputs[0], equation.params["axes"]), equation.params["axes"])]


@links_rule("argmax", "argmin")
def argmax_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """Positions are counted: none may go."""
    return [_left(links.fixed(inputs[0], equation.params["axes"]), equation.params["axes"])]


def _left(labels: Labels, axes: Iterable[int]) -> Labels:
    gone = set(axes)
    highest = max((a for f in labels for a in f.axes), default=-1)
    return renamed(labels, {old: new for new, old in enumerate(a for a in range(highest + 1) if a not in gone)})


@links_rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "top_k")
def running_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """Along the axis every position counts."""
    rank = len(equation.inputs[0].shape)
    axis = equation.params.get("axis", equation.params.get("dimension", rank - 1)) % rank
    out = equation.outputs[0].shape
    return [links.joined(*(_pinned_along(links, labels, [axis], out) for labels in inputs))] * len(equation.outputs)


@links_rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def window_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """Axes that windows slide along are pinned."""
    sliding = [d for d, n in enumerate(equation.params["window_dimensions"]) if n > 1]
    sliding = sorted({*sliding, *_changed(equation.inputs[0].shape, equation.outputs[0].shape)})
    return [_pinned_along(links, inputs[0], sliding, equation.outputs[0].shape)]


# -- products


@links_rule("dot_general")
def dot_general_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """Contracted positions meet, and those of a batch."""
    (l_contract, r_contract), (l_batch, r_batch) = equation.params["dimension_numbers"]
    ranks = [len(a.shape) for a in equation.inputs]
    free = lambda rank, used: [d for d in range(rank) if d not in used]
    l_free, r_free = free(ranks[0], (*l_contract, *l_batch)), free(ranks[1], (*r_contract, *r_batch))
    left = {d: i for i, d in enumerate((*l_batch, *l_free))}
    right = {d: i for i, d in enumerate(r_batch)} | {d: len(left) + i for i, d in enumerate(r_free)}
    out = len(left) + len(r_free)  # the contracted axes come last, so that factors are narrowed to others
    met = links.joined(
        renamed(inputs[0], left | {d: out + i for i, d in enumerate(l_contract)}),
        renamed(inputs[1], right | {d: out + i for i, d in enumerate(r_contract)}),
    )
    return [links.without(met, range(out, out + len(l_contract)))]


@links_rule("conv_general_dilated")
def convolution_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """Input channels meet; the features of a group live together with the channels that they read."""
    params = equation.params
    lhs, rhs, out = params["dimension_numbers"]
    window = lambda spec: spec[2:]
    x = _apart(links, links.fixed(inputs[0], window(lhs)))
    w = _apart(links, links.fixed(inputs[1], window(rhs)))
    if params["batch_group_count"] > 1:
        links.pin((*x, *w))
        return [pinned(equation.outputs[0].shape)]
    groups = params["feature_group_count"]
    x_channels, w_channels, features = _along(x, lhs[1]), _along(w, rhs[1]), _along(w, rhs[0])
    if groups == 1:
        links.joined(renamed(x_channels, {lhs[1]: 0}), renamed(w_channels, {rhs[1]: 0}))
    else:
        links.pin(w_channels)
        whole = lambda labels: tuple(g for f in labels for g in factors((0, 1), f.labels.reshape(groups, -1)))
        links.joined(*(links.without(whole(labels), [1]) for labels in (x_channels, features)))
    slid = pinned(equation.outputs[0].shape, window(out))
    return [(*renamed(_along(x, lhs[0]), {lhs[0]: out[0]}), *renamed(features, {rhs[0]: out[1]}), *slid)]


def _apart(links: Links, labels: Labels) -> Labels:
    """Labels of single axes."""
    return tuple(g for f in labels for g in links.narrowed(f, f.axes[:1]))


def _along(labels: Labels, axis: int) -> Labels:
    return tuple(f for f in labels if f.axes == (axis,))
