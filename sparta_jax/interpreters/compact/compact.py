"""Compaction of a whole program into a smaller one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...grid import Grid, combine
from ..facts import CONST, LIVE
from ..inner import bodies_of
from ..jaxprs import Program, Variable, like, trace
from ..propagate import Facts, propagate
from .emission import Emission, Held
from .shadow import shadows
from .targets import PRODUCTS
from .view import View


def compact(program: Program, facts: Facts, params: frozenset[Variable], fixed: frozenset[Variable]) -> Program:
    """The program with every axis slice left out that is dead, or constant and folded; of the same inputs and outputs.

    The program itself where no product has such a slice.

    Args:
      params: the inputs that are params; dead elements of theirs are zero.
      fixed: the variables that depend on the params alone.
    """
    if not _has_slices(program, facts, fixed):
        return program
    return trace(lambda *inputs: run_compact(program, facts, params, fixed, inputs), *(like(v) for v in program.inputs))[0]


def run_compact(
    program: Program,
    facts: Facts,
    params: frozenset[Variable],
    fixed: frozenset[Variable],
    inputs: Sequence[Any],
    watch: Callable[[Variable, Held], None] = lambda variable, held: None,
) -> list:
    """The outputs of the program, computed on compact values."""
    given: Mapping[Variable, Any] = dict(zip(program.inputs, inputs, strict=True))
    folded = shadows(program, facts, fixed, {v: given[v] for v in params})
    emission = Emission(program, facts, fixed, folded, watch)
    return emission.run([Held(View.whole(v.shape), x) for v, x in given.items()])


def live_sizes(facts: Facts, param: Variable) -> tuple[int, ...]:
    """The shape of the slices of a param that are not dead."""
    return View.around(_live(facts, param, is_fixed=True)).sizes


def _has_slices(program: Program, facts: Facts, fixed: frozenset[Variable]) -> bool:
    """Whether an operand or a result of a product, or a table that is looked up, has a slice that is dead or constant."""
    for equation in program.equations:
        if fixed.issuperset(equation.outputs):
            continue
        atoms = (a for a in (*equation.inputs, *equation.outputs) if isinstance(a, Variable))
        if equation.name in (*PRODUCTS, "gather") and any(not View.around(_live(facts, v, v in fixed)).is_whole for v in atoms):
            return True
        inner = ((b, propagate(b.program, b.inputs, b.outputs)) for b in bodies_of(equation, facts))
        if any(_has_slices(body.program, found, body.fixed_inputs(fixed)) for body, found in inner):
            return True
    return False


def _live(facts: Facts, variable: Variable, is_fixed: bool) -> Grid:
    least = CONST if is_fixed else LIVE
    return combine(lambda value, need: need & (value >= least), facts.value(variable).value, facts.need(variable))
