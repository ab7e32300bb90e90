"""What is not needed is not computed, zeros stand for it: kept away from operations that are not finite there.

An element that nobody needs may share a tensor with needed ones. `1 / 0` there would be NaN behind a product with the zero that
makes it unneeded, and in the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..grid import Grid
from .jaxprs import Constant, Equation, Program
from .propagate import Facts
from .rules.elementwise import KEEP_ZERO

# Neither finite everywhere, nor are their derivatives.
POLES = frozenset(
    {
        *("div", "rem", "pow", "integer_pow", "atan2", "log", "log2", "log1p", "sqrt", "rsqrt", "cbrt", "tan", "asin", "acos"),
        *("acosh", "atanh", "erf_inv", "lgamma", "digamma", "polygamma", "zeta", "igamma", "igammac", "igamma_grad_a"),
        "regularized_incomplete_beta",
    }
)
ZERO_KEPT = frozenset(p if isinstance(p, str) else p.name for p in KEEP_ZERO)  # f(0) = 0


def partly_needed(program: Program, facts: Facts) -> dict[Equation, np.ndarray]:
    """What is needed of the results of operations with poles, where that is not all: boolean, size 1 along uniform axes."""
    needs = {e: facts.need(e.outputs[0]) for e in program.equations if _has_poles(e)}
    return {e: broadcastable(need) for e, need in needs.items() if need.cells.any() and not need.cells.all()}


def off_poles(equation: Equation, need: np.ndarray, values: Sequence[Any]) -> list:
    """Operands that are harmless where the result is not needed; the result is 0 there if it can be known to be: of a product
    of zeros each factor is unneeded for the other's sake, so one that is zero must stay so."""
    shape = equation.outputs[0].shape
    apart = lambda x, by: jnp.where(need, jnp.broadcast_to(x, shape), jnp.asarray(by, jnp.result_type(x)))
    operands = zip(equation.inputs, values, _harmless(equation), strict=True)
    return [x if isinstance(a, Constant) else apart(x, by) for a, x, by in operands]


def _harmless(equation: Equation) -> tuple[int, ...]:
    """Operands of which the result is 0 where it may be zero at all, and finite."""
    if equation.name in ZERO_KEPT:
        return (0,)
    if equation.name in ("div", "rem", "atan2"):
        return 0, 1
    if equation.name == "pow":
        power = equation.inputs[1]
        rises = not isinstance(power, Constant) or bool(np.all(np.asarray(power.value) > 0))
        return (0 if rises else 1), 1
    return (1,) * len(equation.inputs)


def broadcastable(grid: Grid) -> np.ndarray:
    """A grid's elements, size 1 along axes of one cell."""
    cells = grid.cells
    for axis, cut in enumerate(grid.cuts):
        if cells.shape[axis] > 1:
            cells = np.repeat(cells, np.diff(cut), axis)
    return cells


def _has_poles(equation: Equation) -> bool:
    if equation.name == "integer_pow":
        return equation.params["y"] < 0
    return equation.name in POLES and not (equation.name == "div" and isinstance(equation.inputs[1], Constant))
