"""In which view each result is computed: where a sum needs more of a value than is live, perhaps in the sum's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..jaxprs import Equation, Program, Variable
from .elementwise import is_elementwise
from .view import View, view_of_operand

PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})


def grown_targets(program: Program, fixed: frozenset[Variable], ideal: Callable[[Variable], View]) -> dict[Variable, View]:
    """The views of the values that are wanted wider by the one elementwise operation that reads them.

    Two writers of a residual stream may disagree. Then what a product writes passes to the sum in the sum's view, and the
    product itself decides whether it computes zeros or is converted behind.
    """
    definition = {v: e for e in program.equations for v in e.outputs}
    uses = Counter(a for e in program.equations for a in e.inputs if isinstance(a, Variable))
    uses.update(v for v in program.outputs if isinstance(v, Variable))
    targets: dict[Variable, View] = {}
    for equation in reversed(program.equations):
        if not is_elementwise(equation) or fixed.issuperset(equation.outputs):
            continue
        (result,) = equation.outputs
        target = targets.get(result) or ideal(result)
        for x in equation.inputs:
            if not isinstance(x, Variable) or x in fixed or uses[x] > 1 or not _passes_on(definition.get(x)):
                continue
            own, wanted = ideal(x), view_of_operand(x.shape, target)
            if not own.is_empty and own.key != wanted.key and wanted.holds(own):
                targets[x] = wanted
    return targets


def _passes_on(equation: Equation | None) -> bool:
    return equation is not None and not equation.effects and (is_elementwise(equation) or equation.name in PRODUCTS)
