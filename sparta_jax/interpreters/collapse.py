"""Collapse: where everything becomes dead, and the inputs and outputs that count for nothing because of it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from ..grid import combine
from .causes import use_of, zero_causes
from .explain import why_unneeded
from .facts import ZERO
from .jaxprs import Equation, Program, Variable
from .propagate import Facts

Roots = dict[Variable, frozenset[Variable]]


@dataclasses.dataclass(frozen=True, eq=False)
class Collapse:
    """Everything that is dead for one reason.

    Attributes:
      roots: the first variables at which nothing is left: zero everywhere, or nothing of them needed.
      outputs: positions of the program's outputs that are zero everywhere.
      inputs: positions of its inputs of which no element counts.
    """

    roots: tuple[Variable, ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]


def collapses(program: Program, facts: Facts, params: Sequence[int]) -> list[Collapse]:
    """The outputs, params (positions among the inputs) and branches that are dead everywhere, by their reason."""
    zero, killing = _zero_roots(program, facts)
    idle = _idle_roots(program, facts, zero)
    found: dict[frozenset[Variable], tuple[list[int], list[int]]] = collections.defaultdict(lambda: ([], []))
    for i, v in enumerate(program.outputs):
        if isinstance(v, Variable) and v in zero:
            found[zero[v]][0].append(i)
    for i in params:
        if roots := idle.get(program.inputs[i]):
            found[roots][1].append(i)
    seen = frozenset().union(*found)
    for root in killing - seen:
        found[frozenset([root])]  # a branch that is dead, and nothing else
    order = {v: i for i, v in enumerate((*program.inputs, *(v for e in program.equations for v in e.outputs)))}
    first = [(sorted(roots, key=order.__getitem__), *dead) for roots, dead in found.items()]
    first.sort(key=lambda entry: order[entry[0][0]])
    return [Collapse(tuple(roots), tuple(outputs), tuple(inputs)) for roots, outputs, inputs in first]


def _zero_roots(program: Program, facts: Facts) -> tuple[Roots, set[Variable]]:
    """The first zeros behind each variable that is zero everywhere, and those of them that kill something live."""
    roots: Roots = {v: frozenset([v]) for v in program.inputs if _is_zero(v, facts)}
    killing: set[Variable] = set()
    for equation in program.equations:
        for v in equation.outputs:
            if not _is_zero(v, facts):
                continue
            causes = zero_causes(equation, v, facts.value(v).nonzero.map(lambda c: ~c), facts)
            whole = [c for c in causes if c in roots]
            roots[v] = frozenset().union(*(roots[c] for c in whole)) if whole else frozenset([v])
            if _kills(equation, causes, facts, roots):
                killing |= roots[v]
    return roots, killing


def _kills(equation: Equation, causes, facts: Facts, roots: Roots) -> bool:
    """Whether something that is not zero everywhere meets zeros which come from the inputs."""
    given = any(facts.value(c).known is None for c in causes)
    met = [a for a in equation.inputs if isinstance(a, Variable) and facts.value(a).known is None and a not in roots]
    return given and bool(met)


def _idle_roots(program: Program, facts: Facts, zero: Roots) -> Roots:
    """The reason for each variable that is not zero everywhere, and dead everywhere; empty where no zero is the reason."""
    uses: dict[Variable, list[Equation]] = collections.defaultdict(list)
    for equation in program.equations:
        for v in dict.fromkeys(a for a in equation.inputs if isinstance(a, Variable)):
            uses[v].append(equation)
    roots: Roots = {}
    for v in (*(v for e in reversed(program.equations) for v in e.outputs), *program.inputs):
        if v not in zero and _is_dead(v, facts):
            behind = frozenset().union(*(_behind(e, v, facts, zero, roots) for e in uses[v]))
            roots[v] = behind or (frozenset([v]) if _dies_of_zeros(program, facts, v) else behind)
    return roots


def _behind(equation: Equation, variable: Variable, facts: Facts, zero: Roots, roots: Roots) -> frozenset[Variable]:
    """The reason for a use that is dead everywhere itself, or that meets zeros alone; empty for any other."""
    behind = [zero[v] if v in zero else roots.get(v) for v in equation.outputs]
    if None in behind:
        idle = facts.need(variable).map(lambda c: ~c)
        behind = [zero.get(p) for p in use_of(equation, variable, idle, facts).partners]
    return frozenset().union(*(r for r in behind if r))


def _dies_of_zeros(program: Program, facts: Facts, variable: Variable) -> bool:
    """Whether a variable is not needed because of zeros that are no constants of the program."""
    idle = combine(lambda v, n: (v != ZERO) & ~n, facts.value(variable).value, facts.need(variable))
    _, partners = why_unneeded(program, facts, {variable: idle})
    return any(facts.value(p).known is None for p in partners)


def _is_dead(variable: Variable, facts: Facts) -> bool:
    """Whether no element of it counts, and it is no constant of the program."""
    value, need = facts.value(variable), facts.need(variable)
    if value.known is not None or 0 in variable.shape or need.cells.all():
        return False
    return not (facts.live(variable) if value.has_zeros else need).cells.any()


def _is_zero(variable: Variable, facts: Facts) -> bool:
    """Whether it is zero everywhere, and no constant of the program."""
    value = facts.value(variable)
    return value.known is None and 0 not in variable.shape and bool((value.value.cells == ZERO).all())
