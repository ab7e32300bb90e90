"""Masked scores: which weights of a softmax are zero.

`exp` of -1e4 or less is zero in every floating-point type, so an exponential of a score that is surely so low is zero. A
softmax takes the exponential of `score - maximum of its row`, and there the zero is a freedom: *a score of -1e4 or less in a
softmax row that has a statically live element counts as weight 0*. It is right unless the live scores of the row are all about
as low.

- A score is low where a constant of -1e4 or less stands for it (`where(mask, s, -1e9)`), or where a constant of -1e8 or less
  is added to it: then the sum is above -1e4 only if the score itself is about 1e8.
- An element is statically live where no such constant can stand for it. Where the data chooses (a padding mask) one can, and a
  row of such elements keeps all its weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from ..grid import Grid, combine, concatenate
from .facts import ZERO, Fact, distinct, grid_of
from .jaxprs import Atom, Constant, Equation, Variable

LOWEST, ADDED = -1e4, -1e8
FREE, PERHAPS, LOW = np.uint8(0), np.uint8(1), np.uint8(2)
DEEPEST = 32  # equations that are looked through
EXPONENTIALS = frozenset({"exp", "exp2", "logistic"})
SAME = frozenset({"stop_gradient", "copy", "name"})


@dataclasses.dataclass(frozen=True, eq=False)
class Freedom:
    """The permission to count masked scores as weight 0.

    Attributes:
      taken: the exponentials at which it was taken, by module path and source line.
    """

    taken: dict[tuple[str, str], Equation] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a program.

    Attributes:
      definition: the equation of each variable.
      fact: the value fact of an atom that was found so far.
      freedom: where the freedom of a softmax is noted, None where it is not given.
    """

    definition: dict[Variable, Equation]
    fact: Callable[[Atom], Fact]
    freedom: Freedom | None

    def exponential(self, equation: Equation, result: Fact) -> Fact:
        """The fact of an exponential, zero where it counts as zero."""
        zero = self._low(equation.inputs[0], LOWEST, sums=False).map(lambda c: c == LOW)
        if self.freedom is not None and (weightless := self._weightless(equation)) is not None:
            zero = combine(np.logical_or, zero, weightless)
            self.freedom.taken[equation.scope, equation.line] = equation
        if not zero.cells.any():
            return result
        return Fact(combine(lambda value, z: np.where(z, ZERO, value), result.value, zero))

    def _weightless(self, equation: Equation) -> Grid | None:
        """Boolean grid: the low scores of a softmax in rows with a free one; None where it is no softmax, or has none."""
        difference = self._defined(equation.inputs[0], "sub")
        if difference is None:
            return None
        score, top = (self._behind(atom) for atom in difference.inputs)
        if (axes := self._axes_of_maximum(top, score)) is None:
            return None
        levels = self._low(score, LOWEST, sums=True)
        if not (levels.cells == LOW).any():
            return None
        free = levels.map(lambda c: c == FREE).reduce(axes, keepdims=True)
        weightless = combine(lambda level, f: (level == LOW) & f, levels, free)
        return weightless if weightless.cells.any() else None

    def _axes_of_maximum(self, top: Atom, score: Atom) -> tuple[int, ...] | None:
        """The axes of `score` that `top`, spread over `score`, is the maximum along; None where it is something else."""
        along: list[int | None] = list(range(len(score.shape)))  # the axis of `score` that each axis of `top` lies along
        while len(top.shape) == len(along) and (equation := self._defined(top)) is not None:
            operand = self._behind(equation.inputs[0])
            if equation.name == "broadcast_in_dim":
                along = [along[d] for d in equation.params["broadcast_dimensions"]]
            elif equation.name in ("reshape", "squeeze", "expand_dims"):
                along = _through_reshape(along, top.shape, operand.shape)
            elif equation.name == "max" and (other := self._beside_bottom(equation)) is not None:
                operand = self._behind(other)
            elif equation.name == "reduce_max" and operand is score:
                axes = equation.params["axes"]
                kept = [d for d in range(len(score.shape)) if d not in axes]
                right = all(a == d or n == 1 for a, d, n in zip(along, kept, top.shape, strict=True))
                return tuple(int(a) for a in axes) if right else None
            else:
                return None
            top = operand
        return None

    def _beside_bottom(self, equation: Equation) -> Atom | None:
        """The operand of a maximum whose other one is a constant of -1e4 or less."""
        x, y = equation.inputs
        for constant, other in ((x, y), (y, x)):
            known = self.fact(constant).known
            if known is not None and other.shape == equation.outputs[0].shape and (distinct(known) <= LOWEST).all():
                return other
        return None

    def _behind(self, atom: Atom) -> Atom:
        """The atom that this one is a copy of."""
        while (equation := self._defined(atom)) is not None and equation.name in SAME:
            atom = equation.inputs[0]
        return atom

    def _defined(self, atom: Atom, name: str | None = None) -> Equation | None:
        equation = None if isinstance(atom, Constant) else self.definition.get(atom)
        return equation if equation is not None and name in (None, equation.name) else None

    # -- how low

    def _low(self, atom: Atom, bound: float, sums: bool, depth: int = 0) -> Grid:
        """`LOW` where an atom is `bound` or less, `PERHAPS` where it may be by choice of the data, else `FREE`.

        Sums with a constant of `ADDED` or less are low if `sums` says so."""
        fact = self.fact(atom)
        if fact.known is not None:
            return _levels(fact.known, bound, np.less_equal)
        equation = self._defined(atom)
        if equation is None or depth == DEEPEST or not jnp.issubdtype(atom.aval.dtype, jnp.floating):
            return Grid.uniform(atom.shape, FREE)
        inner = lambda x, bound=bound: self._low(x, bound, sums, depth + 1)
        if (rule := RULES.get(equation.name)) is not None:
            return rule(equation, self.fact, inner, bound)
        if equation.name in SUMS and sums:
            added = max(ADDED, float(jnp.finfo(atom.aval.dtype).min))  # in float16 nothing is as low
            return SUMS[equation.name](equation, self.fact, inner, min(bound, added))
        return Grid.uniform(atom.shape, FREE)


def _levels(known: np.ndarray, bound: float, compare: np.ufunc) -> Grid:
    """The bound is taken as the constant's own type rounds it."""
    if not jnp.issubdtype(known.dtype, jnp.floating):
        return Grid.uniform(known.shape, FREE)
    with np.errstate(over="ignore"):
        rounded = np.asarray(bound).astype(known.dtype)
    return grid_of(known, lambda x: np.where(compare(x, rounded), LOW, FREE))


def _through_reshape(along: list, shape: tuple[int, ...], operand: tuple[int, ...]) -> list:
    """The axes of a reshape's operand, where it only adds or drops axes of size 1; else none."""
    if [n for n in shape if n != 1] != [n for n in operand if n != 1]:
        return []
    long = iter([a for a, n in zip(along, shape, strict=True) if n != 1])
    return [None if n == 1 else next(long) for n in operand]


def _select_n(equation: Equation, fact, inner, bound) -> Grid:
    """As low as the case that is chosen; perhaps low where the data chooses and one is."""
    which, *cases = equation.inputs
    found = fact(which)
    chosen = Grid.uniform((), -1) if found.known is None else grid_of(found.known, lambda x: x.astype(np.int64))

    def choose(value, chosen, *levels):
        chosen = np.where(value == ZERO, 0, chosen)
        join = np.where(np.minimum.reduce(levels) == LOW, LOW, np.where(np.maximum.reduce(levels) == FREE, FREE, PERHAPS))
        return np.where(chosen < 0, join, np.choose(np.maximum(chosen, 0), levels))

    return combine(choose, found.value, chosen, *map(inner, cases))


def _add(equation: Equation, fact, inner, bound) -> Grid:
    x, y = equation.inputs
    return combine(np.maximum, inner(x, bound), inner(y, bound))


def _sub(equation: Equation, fact, inner, bound) -> Grid:
    """`s - (1 - mask) * 1e9`."""
    x, y = equation.inputs
    if (known := fact(y).known) is None:
        return combine(np.maximum, inner(x, bound), Grid.uniform(y.shape, FREE))
    return combine(np.maximum, inner(x, bound), _levels(known, -bound, np.greater_equal))


def _scale(equation: Equation, fact, inner, bound) -> Grid:
    """A product with, or a quotient by, known positive numbers."""
    shape = equation.outputs[0].shape
    divides = equation.name == "div"
    for x, y in (equation.inputs, equation.inputs[::-1])[: 1 if divides else 2]:
        known = None if fact(y).known is None else distinct(fact(y).known)
        if known is not None and known.size and (known > 0).all():
            factor = 1 / float(known.max()) if divides else float(known.min())
            return inner(x, bound / factor).broadcast(shape)
    return Grid.uniform(shape, FREE)


def _pad(equation: Equation, fact, inner, bound) -> Grid:
    low, high, interior = zip(*equation.params["padding_config"], strict=True)
    value = inner(equation.inputs[1]).cells.reshape(())
    return inner(equation.inputs[0]).pad(value, low, high, interior)


def _slice(equation: Equation, fact, inner, bound) -> Grid:
    params = equation.params
    return inner(equation.inputs[0]).slice(params["start_indices"], params["limit_indices"], params["strides"])


def _moved(move: Callable[[Grid, dict], Grid]) -> Callable:
    return lambda equation, fact, inner, bound: move(inner(equation.inputs[0]), equation.params)


_reshaped = lambda equation, fact, inner, bound: inner(equation.inputs[0]).reshape(equation.outputs[0].shape)
_joined = lambda join: lambda equation, fact, inner, bound: combine(join, *map(inner, equation.inputs))
_same = _moved(lambda grid, params: grid)

SUMS: dict[str, Callable] = {"add": _add, "add_any": _add, "sub": _sub}
RULES: dict[str, Callable] = {
    **dict.fromkeys((*SAME, "convert_element_type", "reduce_precision"), _same),
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshaped),
    "broadcast_in_dim": _moved(lambda grid, params: grid.broadcast(params["shape"], params["broadcast_dimensions"])),
    "transpose": _moved(lambda grid, params: grid.transpose(params["permutation"])),
    "concatenate": lambda e, fact, inner, bound: concatenate(list(map(inner, e.inputs)), e.params["dimension"]),
    "slice": _slice,
    "pad": _pad,
    "select_n": _select_n,
    "mul": _scale,
    "div": _scale,
    "max": _joined(np.minimum),
    "min": _joined(np.maximum),
}
