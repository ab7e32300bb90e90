"""Shadows: what a variable's constant elements are, axes of size 1 where all slices are alike.

A dead channel becomes a constant behind a bias. Its shadow is that constant, computed from the params alone: `[1, 1, d]` for
an activation `[batch, seq, d]`. A shadow is zero where the variable is zero or live.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..facts import CONST, Fact
from ..jaxprs import Atom, Constant, Program, Variable, located
from ..propagate import Facts
from .small import evaluate_small

LARGEST = 1 << 22  # elements of a shadow; a constant that needs more is computed with the data


def shadows(
    program: Program, facts: Facts, fixed: frozenset[Variable], given: Mapping[Variable, Any]
) -> dict[Variable, jax.Array]:
    """The shadows of the variables that have constant elements and depend on data, and of what these derive from.

    Args:
      given: values of the params among the inputs.
    """
    wanted = _wanted(program, facts, fixed)
    values: dict[Variable, jax.Array] = {v: x for v, x in {**program.constants, **given}.items() if v in wanted}
    for equation in program.equations:
        if wanted.isdisjoint(equation.outputs):
            continue
        operands = [_operand(a, facts, values) for a in equation.inputs]
        if any(x is None for x in operands):
            continue
        with located(equation):
            for v, x in zip(equation.outputs, evaluate_small(equation, operands), strict=True):
                if v in wanted and math.prod(x.shape) <= (math.prod(v.shape) if v in fixed else LARGEST):
                    values[v] = x if v in fixed else _constants_of(x, facts.value(v))
    return values


def has_constants(fact: Fact) -> bool:
    return bool((fact.value.cells == CONST).any())


def _wanted(program: Program, facts: Facts, fixed: frozenset[Variable]) -> set[Variable]:
    results = (v for e in program.equations if not e.effects for v in e.outputs if v not in fixed)
    wanted = {v for v in results if _is_plain(v) and has_constants(facts.value(v))}
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
    is_const = fact.value.map(lambda c: c == CONST)
    cells = is_const.cells
    for axis, cut in enumerate(is_const.cuts):
        if cells.shape[axis] > 1:
            cells = np.repeat(cells, np.diff(cut), axis)
    return jnp.where(cells, x, jnp.zeros((), x.dtype))


def _is_plain(variable: Variable) -> bool:
    return hasattr(variable.aval, "dtype") and not jax.dtypes.issubdtype(variable.aval.dtype, jax.dtypes.extended)
