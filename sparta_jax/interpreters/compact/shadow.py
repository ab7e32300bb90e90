"""Shadows: what a variable's constant elements are, axes of size 1 where all slices are alike.

A dead channel becomes a constant behind a bias. Its shadow is that constant, computed from the params alone: `[1, 1, d]` for
an activation `[batch, seq, d]`. A shadow is zero where the variable is zero or live.

What an equation makes of the zeros that stand for live elements is nonsense (`s / 0`). It is dropped from the result, and must
not come back as a gradient either, where `0 * inf` is NaN: see `_apart`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ...grid import combine
from ..facts import CONST, LIVE, Fact
from ..inner import bodies_of
from ..jaxprs import REMAT, Atom, Constant, Equation, Program, Variable, located
from ..poles import broadcastable
from ..propagate import Facts, propagate
from ..stage import fixed_variables
from .elementwise import is_elementwise
from .small import MULTILINEAR, evaluate_small

LARGEST = 1 << 22  # elements of a shadow; a constant that needs more is computed with the data


def shadows(
    program: Program, facts: Facts, fixed: frozenset[Variable], given: Mapping[Variable, Any], also: Iterable[Atom] = ()
) -> dict[Variable, jax.Array]:
    """The shadows of the variables that have constant elements and depend on data, and of what these derive from.

    Args:
      given: values of the params among the inputs.
      also: further variables that are wanted.
    """
    wanted = _wanted(program, facts, fixed, also)
    values: dict[Variable, jax.Array] = {v: x for v, x in {**program.constants, **given}.items() if v in wanted}
    for equation in program.equations:
        if equation.effects or wanted.isdisjoint(equation.outputs):
            continue
        operands = [_operand(a, facts, values) for a in equation.inputs]
        if any(x is None for x in operands):
            continue
        with located(equation):
            for v, x in zip(equation.outputs, _results(equation, facts, fixed, operands), strict=True):
                if x is not None and v in wanted and math.prod(x.shape) <= (math.prod(v.shape) if v in fixed else LARGEST):
                    values[v] = x if v in fixed else _constants_of(x, facts.value(v))
    return values


def _results(equation: Equation, facts: Facts, fixed: frozenset[Variable], operands: list) -> Sequence[jax.Array | None]:
    """An equation's results on shadows, None where they are not known."""
    if fixed.issuperset(equation.outputs):
        return evaluate_small(equation, operands)
    if equation.name in REMAT:
        return _inside(equation, facts, fixed, operands)
    apart = _apart(equation, facts, operands)
    return [None] * len(equation.outputs) if apart is None else evaluate_small(equation, apart)


def _apart(equation: Equation, facts: Facts, operands: list) -> list | None:
    """Operands to which no nonsense of the result flows back; None where that cannot be said.

    Multilinear operations make none. Else each operand must be zero where the result is not a constant."""
    if equation.name in MULTILINEAR:
        return operands
    results = [facts.value(v) for v in equation.outputs]
    given = [(i, a) for i, a in enumerate(equation.inputs) if isinstance(a, Variable)]
    if all(_covers(fact, facts.value(a)) for fact in results for _, a in given):
        return operands
    if not is_elementwise(equation):
        return None
    apart = list(operands)
    for i, _ in given:
        apart[i] = _constants_of(operands[i], results[0])
    return apart


def _covers(result: Fact, operand: Fact) -> bool:
    """Whether a result is constant, or zero, where an operand is a constant."""
    if not (result.value.cells == LIVE).any():
        return True
    if result.shape != operand.shape:
        return not has_constants(operand)
    return not combine(lambda r, x: (r == LIVE) & (x == CONST), result.value, operand.value).cells.any()


def _inside(equation: Equation, facts: Facts, fixed: frozenset[Variable], operands: list) -> list[jax.Array | None]:
    """The results of a body that is run once, by the shadows of its own variables."""
    (body,) = bodies_of(equation, facts)
    program, found = body.program, propagate(body.program, body.inputs, body.outputs)
    own = fixed_variables(program, body.fixed_inputs(fixed))
    values = shadows(program, found, own, dict(zip(program.inputs, operands, strict=True)), program.outputs)
    return [_operand(a, found, values) for a in program.outputs]


def has_constants(fact: Fact) -> bool:
    return bool((fact.value.cells == CONST).any())


def _wanted(program: Program, facts: Facts, fixed: frozenset[Variable], also: Iterable[Atom]) -> set[Variable]:
    results = (v for e in program.equations if not e.effects for v in e.outputs if v not in fixed)
    roots = (*results, *(v for v in also if isinstance(v, Variable)))
    wanted = {v for v in roots if _is_plain(v) and has_constants(facts.value(v))}
    for equation in reversed(program.equations):
        if not wanted.isdisjoint(equation.outputs):
            wanted |= {a for a in equation.inputs if isinstance(a, Variable) and has_constants(facts.value(a))}
    return wanted


def _operand(atom: Atom, facts: Facts, values: Mapping[Variable, jax.Array]) -> Any:
    """An operand's shadow; zero where it has no constants, None where they are not known."""
    if isinstance(atom, Constant):
        return atom.value
    if atom in values:
        return values[atom]
    if has_constants(facts.value(atom)) or not _is_plain(atom):
        return None
    return jnp.zeros([1] * len(atom.shape), atom.aval.dtype)


def _constants_of(x: jax.Array, fact: Fact) -> jax.Array:
    """`x` where the fact is a constant, zero elsewhere."""
    if (fact.value.cells == CONST).all():
        return x
    is_const = broadcastable(fact.value.map(lambda c: c == CONST))
    return jnp.where(is_const, x, jnp.zeros((), x.dtype))


def _is_plain(variable: Variable) -> bool:
    return hasattr(variable.aval, "dtype") and not jax.dtypes.issubdtype(variable.aval.dtype, jax.dtypes.extended)
