"""Compaction of `dot_general`: dead and constant slices of the contracted axes are left out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ...jaxprs import Atom, Equation, apply
from ..convert import inside, reduced
from ..emission import Emission, Held, compacts
from ..price import moves_pay
from ..small import expanded
from ..view import Kept, View, holds, meet


@compacts("dot_general")
def dot_general_compact(emission: Emission, equation: Equation) -> list[Held]:
    """What constant slices contribute is an offset of the result, where the other operand depends on the params alone."""
    contract, batch = equation.params["dimension_numbers"]
    operands = equation.inputs
    folding = [emission.folds(a) and emission.is_fixed(b) for a, b in (operands, operands[::-1])]
    needed = [emission.ideal(a, fold=False) for a in operands]
    least = [emission.ideal(a, fold=f) for a, f in zip(operands, folding, strict=True)]
    base = [meet(needed[0].kept[i], needed[1].kept[j]) for i, j in zip(*contract, strict=True)]
    held = [meet(least[0].kept[i], least[1].kept[j]) for i, j in zip(*contract, strict=True)]
    view = _result_view(emission, equation, held)
    held = _contracted(emission, equation, view, held, base)
    free = [[d for d in range(len(a.shape)) if d not in (*c, *b)] for a, c, b in zip(operands, contract, batch, strict=True)]
    places = _places(batch, free)
    views = [_operand_view(a, view, p, c, held) for a, p, c in zip(operands, places, contract, strict=True)]
    values = [emission.want(a, v) for a, v in zip(operands, views, strict=True)]
    (y,) = apply(equation, values)
    if not any(folding) or all(_same(a, b) for a, b in zip(base, held, strict=True)):
        return [Held(view, y)]
    side = folding.index(True)
    around = [_operand_view(a, view, p, c, base) for a, p, c in zip(operands, places, contract, strict=True)]
    return [Held(view, y, _offset(emission, equation, side, views[side], around))]


def _result_view(emission: Emission, equation: Equation, held: Sequence[Kept]) -> View:
    """What is live of the result; or all that is wanted of it, where converting it costs more than computing zeros."""
    live, wanted = (find(equation.outputs[0]) for find in (emission.ideal, emission.target))
    size = _contracted_size(equation, held)
    extra = (math.prod(wanted.sizes) - math.prod(live.sizes)) * size
    return live if moves_pay(math.prod(wanted.sizes), extra) else wanted


def _contracted(emission: Emission, equation: Equation, view: View, held: Sequence[Kept], base: Sequence[Kept]) -> list[Kept]:
    """What is contracted: `held`, or more where an operand holds more and narrowing it costs more than it saves."""
    contract, _ = equation.params["dimension_numbers"]
    wider, moved = list(held), 0
    for atom, axes in zip(equation.inputs, contract, strict=True):
        have = emission.held(atom)
        if have is None or emission.is_fixed(atom):
            continue
        for place, axis in enumerate(axes):
            kept = meet(have.view.kept[axis], base[place])
            if holds(kept, held[place]):
                moved += 0 if _same(have.view.kept[axis], held[place]) else math.prod(have.view.sizes)
                wider[place] = kept
    extra = math.prod(view.sizes) * (_contracted_size(equation, wider) - _contracted_size(equation, held))
    return list(held) if not extra or moves_pay(moved, extra) else wider


def _contracted_size(equation: Equation, held: Sequence[Kept]) -> int:
    axes = equation.params["dimension_numbers"][0][0]
    sizes = (equation.inputs[0].shape[a] if k is None else len(k) for a, k in zip(axes, held, strict=True))
    return math.prod(sizes)


def _offset(emission: Emission, equation: Equation, side: int, have: View, around: list[View]) -> jax.Array:
    """What the constants of operand `side` contribute that are in `around` and not in `have`."""
    contract, batch = equation.params["dimension_numbers"]
    axes = contract[side]
    if len(axes) == 1:  # only the slices that are left out
        out = np.setdiff1d(around[side].indices(axes[0]), have.indices(axes[0]), assume_unique=True)
        around = [v.along(c[0], out) for v, c in zip(around, contract, strict=True)]
    shadow = reduced(emission.shadow(equation.inputs[side]), around[side])
    if len(axes) > 1:
        others = [d for d in range(shadow.ndim) if d not in axes]
        shadow = jnp.where(inside(have.whole_along(others), around[side]), jnp.zeros((), shadow.dtype), shadow)
    shadow = expanded(shadow, around[side].sizes, axes)
    partner = jnp.asarray(emission.want(equation.inputs[1 - side], around[1 - side]))
    uneven = [d for d, e in zip(batch[side], batch[1 - side], strict=True) if shadow.shape[d] != partner.shape[e]]
    shadow = expanded(shadow, around[side].sizes, uneven)
    return apply(equation, [shadow, partner] if side == 0 else [partner, shadow])[0]


def _places(batch: Sequence[Sequence[int]], free: Sequence[Sequence[int]]) -> list[dict[int, int]]:
    """For each operand: the axis of the result that each of its batch and free axes becomes."""
    first = len(batch[0])
    left = {d: i for i, d in enumerate(batch[0])} | {d: first + i for i, d in enumerate(free[0])}
    right = {d: i for i, d in enumerate(batch[1])} | {d: first + len(free[0]) + i for i, d in enumerate(free[1])}
    return [left, right]


def _operand_view(atom: Atom, result: View, places: dict[int, int], contract: Sequence[int], held: Sequence[Kept]) -> View:
    sets: list[Kept] = [None] * len(atom.shape)
    for axis, place in places.items():
        sets[axis] = result.kept[place]
    for axis, kept in zip(contract, held, strict=True):
        sets[axis] = kept
    return View.of(atom.shape, sets)


def _same(a: Kept, b: Kept) -> bool:
    return (a is None) == (b is None) and (a is None or b is None or np.array_equal(a, b))
