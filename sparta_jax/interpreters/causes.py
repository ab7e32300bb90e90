"""Why one equation's rule says what it says: the rule asked again with an operand's fact taken away.

An operand is a cause if the fact does not hold without it. Where several suffice alone, the one that is defined first is
named, so the causes are a smallest set that suffices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..grid import Grid, combine
from .facts import CONST, LIVE, ZERO, Fact, Need, both, needed, unneeded
from .jaxprs import Atom, Equation, Variable
from .propagate import Facts, needs_for, results_of
from .scores import Freedom

Elements = dict[Variable, Grid]


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """Why an equation does not need some elements of an operand.

    Attributes:
      equation: the equation.
      outputs: its results that nobody needs, with their elements in question.
      partners: its operands that are zero, or known, with their elements in question.
    """

    equation: Equation
    outputs: Mapping[Variable, Grid]
    partners: Mapping[Variable, Grid]


def zero_causes(equation: Equation, output: Variable, elements: Grid, facts: Facts) -> Elements:
    """The operands that make `elements` of a result zero, with their own elements in question.

    Empty where the equation makes zeros of its own: it multiplies with a literal 0, or is an exponential of masked scores.
    """
    index = equation.outputs.index(output)

    def holds(given: Mapping[Atom, Fact]) -> bool:
        results = results_with(equation, [given[a] for a in equation.inputs], facts)
        return not both(results[index].nonzero, elements).cells.any()

    own = {a: facts.value(a) for a in equation.inputs}
    if not holds(own):
        return {}
    causes = smallest(own, [a for a in own if _says_something(a, own[a])], holds)
    outs = [elements if v is output else unneeded(v.shape) for v in equation.outputs]
    met = _needs(
        equation, outs, {a: f if f.known is not None and a in causes else Fact.live(f.shape) for a, f in own.items()}, facts
    )
    return {a: _in_question(own[a], met[a]) for a in causes}


def use_of(equation: Equation, operand: Variable, elements: Grid, facts: Facts) -> Use:
    """Why an equation does not need `elements` of an operand."""
    own = {a: facts.value(a) for a in equation.inputs}
    whole = {v: facts.need(v) for v in equation.outputs}

    def holds(given: Mapping[Any, Any]) -> bool:
        needs = _needs(equation, [given[v] for v in equation.outputs], {a: given[a] for a in equation.inputs}, facts)
        return not both(needs[operand], elements).cells.any()

    some = [v for v, need in whole.items() if not need.cells.all()]
    causes = smallest({**own, **whole}, [*(a for a in own if _says_something(a, own[a])), *some], holds)
    reached = reach(equation, operand, elements, facts, causes)
    given = {a: Fact.of_mask(elements) if a is operand else _weakened(f, a in causes) for a, f in own.items()}
    met = _needs(equation, reached, given, facts)
    outputs = {v: both(whole[v].map(np.logical_not), r) for v, r in zip(equation.outputs, reached, strict=True) if v in causes}
    return Use(equation, outputs, {a: _in_question(own[a], met[a]) for a in causes if a in own})


def reach(equation: Equation, operand: Variable, elements: Grid, facts: Facts, unknown: Collection[Atom] = ()) -> list[Grid]:
    """Boolean grids of the results: which of their elements depend on `elements` of an operand.

    Those of `unknown` are taken for any constants, though they may be known.
    """
    changed = Fact(elements.map(lambda c: np.where(c, LIVE, CONST)))
    others = lambda a, f: f if f.known is not None and a not in unknown else Fact.const(f.shape)
    given = [changed if a is operand else others(a, facts.value(a)) for a in equation.inputs]
    return [out.value.map(lambda c: c == LIVE) for out in results_with(equation, given, facts)]


def results_with(equation: Equation, inputs: list[Fact], facts: Facts) -> list[Fact]:
    """The facts of an equation's results for these of its operands, with the freedom that `facts` were found with."""
    return results_of(equation, inputs, _allowed(facts))


def smallest(facts: Mapping, candidates: Sequence, holds: Callable[[Mapping], bool]) -> list:
    """The candidates that are left after those without which `holds` still holds; the last ones are tried first."""
    given, left = dict(facts), []
    for key in reversed(candidates):
        without = {**given, key: _nothing_of(given[key])}
        if holds(without):
            given = without
        else:
            left.append(key)
    return left[::-1]


def _allowed(facts: Facts) -> Freedom | None:
    """The same permission; what is done with it is noted nowhere."""
    return None if facts.freedom is None else Freedom()


def _nothing_of(fact: Fact | Need) -> Fact | Need:
    return Fact.live(fact.shape) if isinstance(fact, Fact) else needed(fact.shape)


def _weakened(fact: Fact, is_unknown: bool) -> Fact:
    return Fact.live(fact.shape) if fact.known is None or is_unknown else fact


def _says_something(atom: Atom, fact: Fact) -> bool:
    return isinstance(atom, Variable) and (fact.has_zeros or fact.known is not None)


def _needs(equation: Equation, outs: list[Need], given: Mapping[Atom, Fact], facts: Facts) -> dict[Atom, Need]:
    """What is needed of each operand, over all positions that it stands at."""
    needs: dict[Atom, Need] = {}
    found = needs_for(equation, outs, [given[a] for a in equation.inputs], _allowed(facts))
    for atom, need in zip(equation.inputs, found, strict=True):
        needs[atom] = combine(np.logical_or, needs[atom], need) if atom in needs else need
    return needs


def _in_question(fact: Fact, met: Need) -> Grid:
    """The zeros of an operand among the elements that meet; all that meet where its known values decide."""
    zeros = combine(lambda v, m: (v == ZERO) & m, fact.value, met)
    if zeros.cells.any():
        return zeros
    return met if fact.known is not None and met.cells.any() else fact.value.map(lambda c: c == ZERO)
