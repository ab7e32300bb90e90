"""The chain of rules behind a fact: from a dead variable back to where its zeros, or its uselessness, begin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..grid import Grid, combine
from .causes import Elements, Use, use_of, zero_causes
from .facts import ZERO, either
from .jaxprs import Equation, Program, Variable
from .losses import Loss, losses_of
from .propagate import Facts
from .scores import EXPONENTIALS


@dataclasses.dataclass(frozen=True, eq=False)
class Zeros:
    """Why elements of a variable are zero.

    Attributes:
      variable, elements: which.
      equation: that made it; None for an input (its TeSA says so) and for a constant of the program.
      causes: operands whose zeros, or known values, suffice.
    """

    variable: Variable
    elements: Grid
    equation: Equation | None
    causes: tuple[Variable, ...]

    @property
    def is_masked(self) -> bool:
        """Whether they are weights of a softmax whose scores are -1e4 or less."""
        return self.equation is not None and self.equation.name in EXPONENTIALS and not self.causes


@dataclasses.dataclass(frozen=True, eq=False)
class Unneeded:
    """Why elements of a variable are not needed.

    Attributes:
      variable, elements: which.
      uses: why each equation that it is an operand of does not need them; empty where nothing uses it.
    """

    variable: Variable
    elements: Grid
    uses: tuple[Use, ...]


@dataclasses.dataclass(frozen=True)
class Chain:
    """What led to the facts of one variable, nearest first.

    Attributes:
      unneeded: from the variable towards the outputs.
      zeros: from it, and from the partners that make it unneeded, towards the inputs.
      losses: where zeros were lost on the way to its live elements.
    """

    unneeded: tuple[Unneeded, ...]
    zeros: tuple[Zeros, ...]
    losses: tuple[Loss, ...]


def chain_of(program: Program, facts: Facts, variable: Variable) -> Chain:
    """Why a variable's elements are dead, and why the others are live."""
    value, need = facts.value(variable).value, facts.need(variable)
    zero = value.map(lambda c: c == ZERO)
    idle = combine(lambda v, n: (v != ZERO) & ~n, value, need)
    unneeded, wanted = why_unneeded(program, facts, {variable: idle} if idle.cells.any() else {})
    if zero.cells.any():
        _add(wanted, {variable: zero})
    return Chain(tuple(unneeded), tuple(zeros_of(program, facts, wanted)), losses_of(program, facts, variable))


def zeros_of(program: Program, facts: Facts, wanted: Mapping[Variable, Grid]) -> list[Zeros]:
    """Why these elements of these variables are zero, and those that they are zero because of; every variable once."""
    elements, steps = dict(wanted), []
    for equation in reversed(program.equations):
        for v in equation.outputs:
            if v not in elements:
                continue
            known = facts.value(v).known is not None
            causes = {} if known else zero_causes(equation, v, elements[v], facts)
            _add(elements, causes)
            steps.append(Zeros(v, elements[v], None if known else equation, tuple(causes)))
    return steps + [Zeros(v, elements[v], None, ()) for v in (*program.inputs, *program.constants) if v in elements]


def why_unneeded(program: Program, facts: Facts, wanted: Elements) -> tuple[list[Unneeded], Elements]:
    """Why these elements are not needed, and the elements whose zeros are the reason."""
    elements, zeros = dict(wanted), {}
    uses: dict[Variable, list[Use]] = {v: [] for v in wanted}
    for equation in program.equations:
        for v in [a for a in dict.fromkeys(equation.inputs) if a in elements]:
            use = use_of(equation, v, elements[v], facts)
            uses[v].append(use)
            _add(elements, use.outputs)
            _add(zeros, use.partners)
            for out in use.outputs:
                uses.setdefault(out, [])
    return [Unneeded(v, elements[v], tuple(u)) for v, u in uses.items()], zeros


def _add(elements: Elements, more: Mapping[Variable, Grid]) -> None:
    for v, grid in more.items():
        elements[v] = either(elements[v], grid) if v in elements else grid
