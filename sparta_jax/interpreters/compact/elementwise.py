"""Which equations act on each element for itself."""

from __future__ import annotations

from ..jaxprs import Equation
from ..rules.elementwise import KEEP_ZERO, LOSE_ZERO, ZERO_AGAINST

SHARDED = {"sharding_constraint", "reshard"}  # bound to the shape that they were traced at
RESHAPING = {"bitcast_convert_type"}  # may split an element into several
_named = lambda p: p if isinstance(p, str) else p.name
ELEMENTWISE = frozenset({_named(p) for p in (*KEEP_ZERO, *LOSE_ZERO, *ZERO_AGAINST)} | {"select_n", "clamp", "integer_pow"}) - (
    SHARDED | RESHAPING
)


def is_elementwise(equation: Equation) -> bool:
    """Whether element `i` of the result depends on elements `i` (or the only one) of the operands alone."""
    return equation.name in ELEMENTWISE and equation.params.get("sharding") is None
