"""Compaction through primitives that move elements and change none."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from ....grid import reshape_groups
from ...jaxprs import Equation, apply
from ..emission import Emission, Held, compacts, whole
from ..view import Kept, View, view_of_operand


@compacts("transpose")
def transpose_compact(emission: Emission, equation: Equation) -> list[Held]:
    order = equation.params["permutation"]
    view = emission.target(equation.outputs[0])
    x = emission.want(equation.inputs[0], view.transpose([int(i) for i in np.argsort(order)]))
    return [Held(view, apply(equation, [x])[0])]


@compacts("broadcast_in_dim")
def broadcast_in_dim_compact(emission: Emission, equation: Equation) -> list[Held]:
    """The operand's own axes in the result's view; new axes at their compact size."""
    if len(equation.inputs) != 1 or equation.params.get("sharding") is not None:
        return whole(emission, equation)
    x, at = equation.inputs[0], equation.params["broadcast_dimensions"]
    view = emission.target(equation.outputs[0])
    kept = [view.kept[d] if n == view.shape[d] else None for n, d in zip(x.shape, at, strict=True)]
    value = emission.want(x, View.of(x.shape, kept))
    return [Held(view, apply(equation, [value], shape=view.sizes)[0])]


@compacts("reshape", "squeeze", "expand_dims")
def reshape_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Heads that are dead are dropped from `[d]` and from `[heads, d / heads]` alike."""
    x, (result,) = equation.inputs[0], equation.outputs
    if len(equation.inputs) != 1 or equation.params.get("sharding") is not None:
        return whole(emission, equation)
    view = emission.target(result)
    sources, targets, axis = [], [], 0
    for olds, news in reshape_groups(x.shape, result.shape):
        kept = view.kept[axis : axis + len(news)]
        axis += len(news)
        old, new = _group(olds, news, kept)
        sources += old
        targets += new
    value = jnp.asarray(emission.want(x, View.of(x.shape, sources)))
    view = View.of(result.shape, targets)
    return [Held(view, value.reshape(view.sizes))]


def _group(olds: tuple[int, ...], news: tuple[int, ...], kept: Sequence[Kept]) -> tuple[list[Kept], list[Kept]]:
    """The index sets of axes that are reshaped into others, given those wanted of the latter; and those that come out."""
    nothing: tuple[list[Kept], list[Kept]] = [None] * len(olds), [None] * len(news)
    if all(k is None for k in kept):
        return nothing
    flat = _flatten(news, kept)
    old = [np.unique(i) for i in np.unravel_index(flat, olds)] if olds else []
    hull = _flatten(olds, old)
    new = [np.unique(i) for i in np.unravel_index(hull, news)]
    if len(_flatten(news, new)) != len(hull):
        return nothing
    return list(old), list(new)


def _flatten(sizes: Sequence[int], kept: Sequence[Kept]) -> np.ndarray:
    """The row-major positions of a product of index sets."""
    flat = np.zeros(1, np.int64)
    for size, k in zip(sizes, kept, strict=True):
        flat = (flat[:, None] * size + (np.arange(size) if k is None else k)).ravel()
    return flat


@compacts("rev")
def rev_compact(emission: Emission, equation: Equation) -> list[Held]:
    (x,), turned = equation.inputs, equation.params["dimensions"]
    view = emission.target(equation.outputs[0])
    flip = lambda d, k: (x.shape[d] - 1 - k)[::-1] if d in turned and k is not None else k
    source = View.of(x.shape, [flip(d, k) for d, k in enumerate(view.kept)])
    return [Held(view, apply(equation, [emission.want(x, source)])[0])]


@compacts("slice")
def slice_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Along axes that are compacted the slice becomes part of the view."""
    (x,), p = equation.inputs, equation.params
    strides = p["strides"] or (1,) * len(x.shape)
    view = emission.target(equation.outputs[0])
    view = view.whole_along([d for d, s in enumerate(strides) if s != 1])
    source = View.of(
        x.shape, [None if k is None else start + k for start, k in zip(p["start_indices"], view.kept, strict=True)]
    )
    value = jnp.asarray(emission.want(x, source))
    cut = [k is None for k in view.kept]
    starts = [s if c else 0 for s, c in zip(p["start_indices"], cut, strict=True)]
    limits = [s if c else n for s, c, n in zip(p["limit_indices"], cut, value.shape, strict=True)]
    return [Held(view, lax.slice(value, starts, limits, strides))]


@compacts("concatenate")
def concatenate_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Each operand in its own part of the result's view; those of which nothing is left are dropped."""
    axis, view = equation.params["dimension"], emission.target(equation.outputs[0])
    parts, at = [], 0
    for x in equation.inputs:
        kept = _part(view.kept[axis], at, x.shape[axis])
        at += x.shape[axis]
        if kept is None or len(kept):
            parts.append(emission.want(x, View.of(x.shape, [kept if d == axis else k for d, k in enumerate(view.kept)])))
    return [Held(view, lax.concatenate(parts, axis) if len(parts) > 1 else parts[0])]


def _part(kept: Kept, start: int, size: int) -> Kept:
    """What an index set has in `[start, start + size)`."""
    return None if kept is None else kept[(kept >= start) & (kept < start + size)] - start


@compacts("split")
def split_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Pieces of compact sizes."""
    (x,), axis, sizes = equation.inputs, equation.params["axis"], equation.params["sizes"]
    ideals = [emission.target(v) for v in equation.outputs]
    starts = np.cumsum([0, *sizes[:-1]])
    held = [view for view in ideals if not view.is_empty] or ideals
    others = [_all_of([view.kept[d] for view in held]) for d in range(len(x.shape))]
    pieces = [view.indices(axis) for view in ideals]
    kept = np.concatenate([piece + start for piece, start in zip(pieces, starts, strict=True)])
    value = emission.want(x, View.of(x.shape, others).along(axis, kept))
    views = [View.of(v.shape, others).along(axis, piece) for v, piece in zip(equation.outputs, pieces, strict=True)]
    outs = apply(equation, [value], sizes=tuple(len(piece) for piece in pieces))
    return [Held(view, out) for view, out in zip(views, outs, strict=True)]


def _all_of(sets: Sequence[Kept]) -> Kept:
    given = [k for k in sets if k is not None]
    return np.unique(np.concatenate(given)) if len(given) == len(sets) else None


@compacts("pad")
def pad_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Padding that is dead is left out."""
    (x, padding), config = equation.inputs, equation.params["padding_config"]
    moved = [d for d, (low, high, between) in enumerate(config) if between or low < 0 or high < 0]
    view = emission.target(equation.outputs[0]).whole_along(moved)
    kept, amounts = [], []
    for (low, high, between), n, k in zip(config, x.shape, view.kept, strict=True):
        own = None if k is None else _part(k, low, n)
        kept.append(own)
        amounts.append((low, high, between) if k is None else (int((k < low).sum()), int((k >= low + n).sum()), 0))
    source = View.of(x.shape, kept)
    if source.is_empty:
        return whole(emission, equation)
    value = emission.want(x, source)
    return [Held(view, apply(equation, [value, emission.want(padding, View.whole(()))], padding_config=tuple(amounts))[0])]


@compacts("stack")
def stack_compact(emission: Emission, equation: Equation) -> list[Held]:
    """Operands of which nothing is left are dropped."""
    axis, view = equation.params["axis"], emission.target(equation.outputs[0])
    kept = [k for d, k in enumerate(view.kept) if d != axis]
    parts = [emission.want(equation.inputs[i], View.of(equation.inputs[i].shape, kept)) for i in view.indices(axis)]
    return [Held(view, jnp.stack(parts, axis))]


@compacts("unstack")
def unstack_compact(emission: Emission, equation: Equation) -> list[Held]:
    (x,), axis = equation.inputs, equation.params["axis"]
    ideals = [emission.target(v) for v in equation.outputs]
    live = [i for i, view in enumerate(ideals) if not view.is_empty]
    if not live:
        return whole(emission, equation)
    others = [_all_of([ideals[i].kept[d] for i in live]) for d in range(len(x.shape) - 1)]
    view = View.of(equation.outputs[0].shape, others)
    value = jnp.asarray(emission.want(x, View.of(x.shape, [*others[:axis], np.asarray(live), *others[axis:]])))
    empty = View.empty(view.shape)
    slices = {i: lax.index_in_dim(value, place, axis, keepdims=False) for place, i in enumerate(live)}
    zeros = lambda: jnp.zeros(empty.sizes, value.dtype)
    return [Held(view, slices[i]) if i in slices else Held(empty, zeros()) for i in range(len(ideals))]


@compacts("optimization_barrier", "device_put")
def identities_compact(emission: Emission, equation: Equation) -> list[Held]:
    views = [emission.target(v) for v in equation.outputs]
    values = [emission.want(a, view_of_operand(a.shape, view)) for a, view in zip(equation.inputs, views, strict=True)]
    return [Held(view, y) for view, y in zip(views, apply(equation, values), strict=True)]


@compacts("iota")
def iota_compact(emission: Emission, equation: Equation) -> list[Held]:
    """The other axes at their compact sizes."""
    if len(equation.inputs) > 0 or equation.params.get("sharding") is not None:
        return whole(emission, equation)
    view = emission.target(equation.outputs[0]).whole_along([equation.params["dimension"]])
    return [Held(view, apply(equation, [], shape=view.sizes)[0])]
