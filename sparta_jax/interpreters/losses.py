"""Where zeros were lost: the nearest rules but for which a live element would be zero."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from ..grid import Grid, combine
from .causes import reach, results_with, zero_causes
from .facts import LIVE, ZERO, Fact, both, either
from .jaxprs import Atom, Constant, Equation, Program, Variable
from .propagate import Facts
from .registry import forward_rules
from .rules.opaque import DENSE_IS_EXACT

MIXING = frozenset({"dot_general", "conv_general_dilated"})  # a zero that meets something live there is not lost


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """Zeros of an operand that are no zeros of the result.

    Attributes:
      equation, output: where they were lost.
      elements: of the result: those that depend on nothing but zeros of the operand.
      operand: whose zeros were lost.
      is_const: whether they depend on the params alone now.
      partners: the other operands that are not zero there; empty where `f(0) != 0`.
      opaque: whether the equation could not be looked into: it has no rule, or its derivative could not be traced.
    """

    equation: Equation
    output: Variable
    elements: Grid
    operand: Variable
    is_const: bool = False
    partners: tuple[Atom, ...] = ()
    opaque: bool = False


def losses_of(program: Program, facts: Facts, variable: Variable) -> tuple[Loss, ...]:
    """The nearest losses behind a variable's live elements, nearest first.

    The program is swept once more as if zeros that became constants had stayed zeros; what of the variable would be zero then
    is followed back to where it was lost first. Zeros that met something live are listed where the variable itself, or what it
    is made of element by element, meets them. Behind an equation that cannot be looked into nothing is assumed: it is listed
    if it lies behind the variable.
    """
    before = _ancestors(program, variable)
    hopeful, lost, opaque = dataclasses.replace(facts, values=dict(facts.values)), {}, []
    for equation in before:
        inputs = [hopeful.value(a) for a in equation.inputs]
        if not any(carries_zeros(a, f) for a, f in zip(equation.inputs, inputs, strict=True)):
            continue
        if is_opaque(equation, facts):
            opaque.append(_opaque_loss(equation, hopeful))
            continue
        for v, fact in zip(equation.outputs, _hoped(equation, inputs, facts, hopeful), strict=True):
            lost[v] = [loss for loss in losses_at(equation, v, fact, hopeful) if loss.is_const]
            gone = [loss.elements for loss in lost[v]]
            hopeful.values[v] = Fact(combine(_zero_where_any, fact.value, *gone)) if gone else fact
    would = combine(
        lambda now, then: (now != ZERO) & (then == ZERO), facts.value(variable).value, hopeful.value(variable).value
    )
    live = both(would, facts.need(variable))
    found = _followed_back(before, hopeful, lost, variable, live) if live.cells.any() else []
    return (*_met_live(before, facts, variable), *found, *reversed(opaque))


def _hoped(equation: Equation, inputs: list[Fact], facts: Facts, hopeful: Facts) -> list[Fact]:
    """The facts of the results for the hopeful ones of the operands: their own where no operand's differs."""
    own = [facts.value(v) for v in equation.outputs]
    if all(isinstance(a, Constant) or f is facts.values[a] for a, f in zip(equation.inputs, inputs, strict=True)):
        return own
    better = results_with(equation, inputs, hopeful)
    return [dataclasses.replace(b, value=combine(np.minimum, b.value, o.value)) for b, o in zip(better, own, strict=True)]


def _met_live(before: list[Equation], facts: Facts, variable: Variable) -> list[Loss]:
    """The nearest zeros that something live was added to, behind what makes zeros of zeros and functions of one operand."""
    found, wanted = [], {variable}
    for equation in reversed(before):
        for v in wanted.intersection(equation.outputs):
            losses = [] if is_opaque(equation, facts) else losses_at(equation, v, facts.value(v), facts)
            found += [loss for loss in losses if not loss.is_const]
            if not losses and equation.name not in MIXING:
                wanted.update(_carriers(equation, equation.outputs.index(v), facts))
    return found


def _carriers(equation: Equation, index: int, facts: Facts) -> list[Variable]:
    """The operand, or those of several whose zeros would be zeros of the result."""
    operands = [a for a in dict.fromkeys(equation.inputs) if isinstance(a, Variable)]
    if len(operands) == 1:
        return operands
    zeroed = lambda a: [Fact.zero(b.shape) if b is a else facts.value(b) for b in equation.inputs]
    is_zero = lambda a: not results_with(equation, zeroed(a), facts)[index].nonzero.cells.any()
    return [a for a in operands if _is_alike(a, equation.outputs[index]) and is_zero(a)]


def losses_at(equation: Equation, output: Variable, fact: Fact, facts: Facts) -> list[Loss]:
    """Where a result is not zero, but depends on zeros alone of one operand."""
    found = []
    if fact.known is not None:
        return found
    for operand in dict.fromkeys(equation.inputs):
        if not isinstance(operand, Variable) or not _is_alike(operand, output):
            continue
        given = facts.value(operand)
        if not carries_zeros(operand, given):
            continue
        index = equation.outputs.index(output)
        touched = reach(equation, operand, given.nonzero, facts)[index]
        elements = combine(lambda v, t: (v != ZERO) & ~t, fact.value, touched)
        if elements.cells.any():
            elements = both(elements, reach(equation, operand, given.value.map(lambda c: c == ZERO), facts)[index])
        if elements.cells.any():
            live = combine(lambda v, e: (v == LIVE) & e, fact.value, elements).cells.any()
            partners = _partners(equation, index, operand, elements, facts)
            found.append(Loss(equation, output, elements, operand, not live, partners))
    return found


def opportunities(program: Program, facts: Facts) -> list[Loss]:
    """The losses that another way to write the program would mend: no rule, a derivative that cannot be traced, a gather
    that fills with NaN."""
    found = []
    for equation in program.equations:
        if not any(carries_zeros(a, facts.value(a)) for a in equation.inputs):
            continue
        if is_opaque(equation, facts):
            found += [] if equation.name in DENSE_IS_EXACT else [_opaque_loss(equation, facts)]
        elif equation.name == "gather":
            (output,) = equation.outputs
            found += losses_at(equation, output, facts.value(output), facts)
    return found


def is_opaque(equation: Equation, facts: Facts) -> bool:
    """Whether a call cannot be looked into: not even zeros alone give anything but live results."""
    if equation.name not in forward_rules:
        return True
    if not equation.name.startswith("custom_"):
        return False
    outs = results_with(equation, [Fact.zero(a.shape) for a in equation.inputs], facts)
    return all((out.value.cells == LIVE).all() for out in outs)


def carries_zeros(atom: Atom, fact: Fact) -> bool:
    """Whether zeros come in that are no constants of the program."""
    return isinstance(atom, Variable) and fact.known is None and fact.has_zeros


def _opaque_loss(equation: Equation, facts: Facts) -> Loss:
    operand = next(a for a in equation.inputs if isinstance(a, Variable) and carries_zeros(a, facts.value(a)))
    output = equation.outputs[0]
    return Loss(equation, output, Grid.uniform(output.shape, True), operand, opaque=True)


def _ancestors(program: Program, variable: Variable) -> list[Equation]:
    """The equations that a variable depends on, in the program's order."""
    wanted, found = {variable}, []
    for equation in reversed(program.equations):
        if wanted.intersection(equation.outputs):
            wanted.update(a for a in equation.inputs if isinstance(a, Variable))
            found.append(equation)
    return found[::-1]


def _followed_back(before: list[Equation], hopeful: Facts, lost: dict[Variable, list[Loss]], variable: Variable, live: Grid):
    """The first losses that are met on the way back from the elements `live`."""
    elements, found = {variable: live}, []
    for equation in reversed(before):
        for v in [v for v in equation.outputs if v in elements]:
            rest = elements[v]
            for loss in lost.get(v, ()):
                met = both(loss.elements, rest)
                if met.cells.any():
                    found.append(dataclasses.replace(loss, elements=met))
                    rest = combine(lambda r, m: r & ~m, rest, met)
            if not rest.cells.any() or v not in lost:
                continue
            for cause, part in zero_causes(equation, v, rest, hopeful).items():
                elements[cause] = either(elements[cause], part) if cause in elements else part
    return found


def _partners(equation: Equation, index: int, operand: Variable, elements: Grid, facts: Facts) -> tuple[Atom, ...]:
    """The other operands but for which some of the elements were zero."""
    found = []
    for atom in dict.fromkeys(equation.inputs):
        if atom is operand or not _is_alike(atom, operand):
            continue
        given = [Fact.zero(a.shape) if a is atom else facts.value(a) for a in equation.inputs]
        zero = results_with(equation, given, facts)[index].value.map(lambda c: c == ZERO)
        if both(zero, elements).cells.any():
            found.append(atom)
    return tuple(found)


def _is_alike(a: Atom, b: Atom) -> bool:
    """Whether both are numbers of one kind: indices and predicates move values, they are none."""
    return _kind(a) == _kind(b) != "b"


def _kind(atom: Atom) -> str:
    dtype = getattr(atom.aval, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, np.number):
        return "b"
    return "f" if jnp.issubdtype(dtype, np.inexact) else "i"


def _zero_where_any(value: np.ndarray, *gone: np.ndarray) -> np.ndarray:
    return np.where(np.logical_or.reduce(gone), ZERO, value)
