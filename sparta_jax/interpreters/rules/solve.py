"""Rules for `custom_linear_solve`."""

from __future__ import annotations

from ..facts import Fact, Need, needed
from ..registry import backward, forward


@forward("custom_linear_solve")
def custom_linear_solve_forward(*inputs: Fact, const_lengths, jaxprs, **_) -> list[Fact]:
    """The solution for a right side of zeros is zero; any other depends on all operands, and so does what comes beside it."""
    sides, outs = inputs[sum(const_lengths) :], [a.shape for a in jaxprs.solve.out_avals]
    if len(sides) == len(outs) and not any(b.nonzero.cells.any() for b in sides):
        return [Fact.zero(shape) for shape in outs]
    return [Fact.const(shape) if all(x.is_const for x in inputs) else Fact.live(shape) for shape in outs]


@backward("custom_linear_solve")
def custom_linear_solve_backward(outs: list[Need], *inputs: Fact, **_) -> list[Need]:
    return [needed(x.shape) for x in inputs]
