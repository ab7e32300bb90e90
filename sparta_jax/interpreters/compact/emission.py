"""The compact program, emitted equation by equation: every value is held in a view of the whole one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ...grid import combine
from ..facts import CONST, LIVE
from ..jaxprs import Atom, Constant, Equation, Program, Variable, apply, located
from ..propagate import Facts
from ..stage import SETTLED
from .convert import convert, fill, moves, reduced
from .elementwise import is_elementwise
from .small import evaluate_small
from .targets import grown_targets
from .view import View, view_of_operand

REARRANGED = frozenset({"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "convert_element_type", "copy"})

compact_rules: dict[str, Callable] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """A value in a view.

    Attributes:
      view: what of the variable is held.
      value: `[view.sizes]`.
      offset: of the params alone, to be added to `value`: what folded constants contribute; axes of size 1 where uniform.
    """

    view: View
    value: Any
    offset: jax.Array | None = None

    @property
    def whole(self) -> Any:
        """The value with its offset."""
        return self.value if self.offset is None else self.value + self.offset.astype(self.value.dtype)


def compacts(*names: str) -> Callable[[Callable], Callable]:
    """Registers `rule(emission, equation) -> one Held per result`."""

    def add(rule: Callable) -> Callable:
        for name in names:
            if name in compact_rules:
                raise ValueError(f"{name} already has a rule: {compact_rules[name]}")
            compact_rules[name] = rule
        return rule

    return add


class Emission:
    """Evaluates a program on compact values.

    Attributes:
      program: the whole program.
      facts: of its variables.
      fixed: the variables that depend on the params alone.
      shadows: of those with constants that may be folded.
      watch: called with every variable that is computed and how it is held.
    """

    def __init__(
        self,
        program: Program,
        facts: Facts,
        fixed: frozenset[Variable] = frozenset(),
        shadows: Mapping[Variable, jax.Array] | None = None,
        watch: Callable[[Variable, Held], None] = lambda variable, held: None,
    ):
        self.program, self.facts, self.fixed, self.shadows, self.watch = program, facts, fixed, shadows or {}, watch
        self._held: dict[Variable, Held | None] = {}
        self._converted: dict[tuple, Any] = {}
        self._ideals: dict[tuple[Variable, bool], View] = {}
        self._small: dict[Variable, jax.Array] = {}
        self._shadows: dict[Variable, jax.Array] = {}
        self._definition = {v: e for e in program.equations for v in e.outputs}
        self._targets = grown_targets(program, self.fixed, self.ideal)

    def run(self, inputs: Sequence[Held], outputs: Sequence[View] | None = None) -> list:
        """The outputs in the views `outputs` (whole, unless told)."""
        self._held = {v: Held(View.whole(v.shape), x) for v, x in self.program.constants.items()}
        self._held.update(zip(self.program.inputs, inputs, strict=True))
        for equation in self.program.equations:
            self._emit(equation)
        views = [View.whole(a.shape) for a in self.program.outputs] if outputs is None else outputs
        return [self.want(a, view) for a, view in zip(self.program.outputs, views, strict=True)]

    def _emit(self, equation: Equation) -> None:
        if not equation.effects and all(self.drops(v) for v in equation.outputs):
            self._held.update(dict.fromkeys(equation.outputs))
            return
        with located(equation):
            for v, held in zip(equation.outputs, self._results(equation), strict=True):
                self._held[v] = held
                self.watch(v, held)

    def _results(self, equation: Equation) -> list[Held]:
        if equation.effects or any(0 in a.shape for a in (*equation.inputs, *equation.outputs)):
            return whole(self, equation)
        if equation.name in compact_rules:
            return compact_rules[equation.name](self, equation)
        return elementwise(self, equation) if is_elementwise(equation) else whole(self, equation)

    def drops(self, variable: Variable) -> bool:
        """Whether nothing of a variable need be computed: all of it is zero, not needed, or in its shadow."""
        return hasattr(variable.aval, "dtype") and 0 not in variable.shape and self.ideal(variable).is_empty

    def ideal(self, atom: Atom, fold: bool = True) -> View:
        """The smallest view outside which an atom is zero, not needed or (with `fold`) a constant that its shadow holds."""
        if isinstance(atom, Constant) or jax.dtypes.issubdtype(atom.aval.dtype, jax.dtypes.extended):
            return View.whole(atom.shape)
        fold = fold and self.folds(atom)
        if (atom, fold) not in self._ideals:
            least = LIVE if fold else CONST
            keep = combine(lambda value, need: need & (value >= least), self.facts.value(atom).value, self.facts.need(atom))
            self._ideals[atom, fold] = View.around(keep)
        return self._ideals[atom, fold]

    def target(self, variable: Variable) -> View:
        """The view in which a result is wanted: what is live of it, or more where the sum that reads it needs more."""
        return self._targets.get(variable) or self.ideal(variable)

    def folds(self, atom: Atom) -> bool:
        """Whether an atom depends on data, and its constants are known apart from it."""
        return isinstance(atom, Variable) and atom in self.shadows and atom not in self.fixed

    def shadow(self, atom: Atom) -> jax.Array:
        """The constants of an atom that `folds`, as the prologue hands them over."""
        assert isinstance(atom, Variable)
        if atom not in self._shadows:
            self._shadows[atom] = checkpoint_name(self.shadows[atom], SETTLED)
        return self._shadows[atom]

    def is_fixed(self, atom: Atom) -> bool:
        return isinstance(atom, Constant) or atom in self.fixed

    def want(self, atom: Atom, view: View) -> Any:
        """An atom's value in a view; what it does not hold is zero, or what its shadow says."""
        if isinstance(atom, Constant):
            return atom.value
        key = (atom, view.key)
        if key not in self._converted:
            self._converted[key] = self._again(atom, view) if self._is_cheap(atom, view) else self._convert(atom, view)
        return self._converted[key]

    def _is_cheap(self, variable: Variable, view: View) -> bool:
        """Whether a variable is better made anew in a view: of the params alone, and a mere rearrangement of them."""
        held, equation = self._held[variable], self._definition.get(variable)
        if variable not in self.fixed or equation is None or held is None or not moves(held.view, view):
            return False
        return equation.name in REARRANGED and held.view.holds(view)

    def _again(self, variable: Variable, view: View) -> Any:
        """A variable made in a view; so params are narrowed before they are broadcast, cast or transposed."""
        equation = self._definition[variable]
        before, self._ideals[variable, False] = self.ideal(variable), view
        with located(equation):
            (held,) = self._results(equation)
        self._ideals[variable, False] = before
        return convert(jnp.asarray(held.value), held.view, view)

    def held(self, atom: Atom) -> Held | None:
        """How a variable is held; None of a constant, and of what is nothing but zeros and constants."""
        return self._held.get(atom) if isinstance(atom, Variable) else None

    def _convert(self, variable: Variable, view: View) -> Any:
        held = self._held[variable]
        if held is None:
            x, have = jnp.zeros(view.sizes, variable.aval.dtype), View.empty(view.shape)
        else:
            x, have = held.whole, held.view
            if not moves(have, view):
                return x
            x = convert(jnp.asarray(x), have, view)
        if self.folds(variable):
            x = fill(x, have, view, self.shadow(variable))
        return checkpoint_name(x, SETTLED) if variable in self.fixed else x

    def small(self, atom: Atom) -> Any:
        """The value of an atom that depends on the params alone, axes of size 1 where uniform."""
        if isinstance(atom, Constant):
            return atom.value
        if atom in self.shadows:
            return self.shadows[atom]
        if atom not in self._small:
            equation = self._definition.get(atom)
            if equation is None:
                return self.want(atom, View.whole(atom.shape))
            results = evaluate_small(equation, [self.small(a) for a in equation.inputs])
            self._small.update(zip(equation.outputs, results, strict=True))
        return self._small[atom]


def whole(emission: Emission, equation: Equation) -> list[Held]:
    """The equation itself, on whole operands."""
    values = [emission.want(a, View.whole(a.shape)) for a in equation.inputs]
    return [Held(View.whole(v.shape), x) for v, x in zip(equation.outputs, apply(equation, values), strict=True)]


def elementwise(emission: Emission, equation: Equation) -> list[Held]:
    """Each operand in the result's view."""
    (result,) = equation.outputs
    view = emission.target(result)
    if equation.name in ("add", "sub") and (held := _with_bias(emission, equation, view)) is not None:
        return [held]
    values = [emission.want(a, view_of_operand(a.shape, view)) for a in equation.inputs]
    return [Held(view, apply(equation, values)[0])]


def _with_bias(emission: Emission, equation: Equation, view: View) -> Held | None:
    """`(value + offset) + bias` as `value + (offset + bias)`, less a bias as `value - (bias - offset)`."""
    x, bias = equation.inputs
    held = emission.held(x)
    if held is None or held.offset is None:
        if equation.name == "sub" or (held := emission.held(bias)) is None or held.offset is None:
            return None
        x, bias = bias, x
    if not emission.is_fixed(bias) or moves(held.view, view):
        return None
    own = jnp.asarray(emission.small(bias))
    own = reduced(own, view) if own.ndim else own
    total = held.offset + own if equation.name == "add" else own - held.offset
    total = spread(checkpoint_name(total, SETTLED), view.sizes)
    return Held(view, apply(equation, [held.value, total])[0])


def spread(row: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """A small array at its whole size, in the form in which a bias is added."""
    axes = [d for d, n in enumerate(row.shape) if n > 1]
    return jax.lax.broadcast_in_dim(row.reshape([row.shape[d] for d in axes]), sizes, axes)
