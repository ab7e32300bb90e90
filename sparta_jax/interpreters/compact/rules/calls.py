"""Compaction through calls that keep their own meaning: custom derivatives.

A call becomes `narrow(call(widen(operands)))`: what its operands' views leave out is zero or not needed. Its body is compacted
for these views, and so is the program of its derivative, which stays the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....grid import Grid
from ...facts import Fact, both
from ...jaxprs import Equation, Program, apply, body
from ...propagate import propagate
from ...registry import backward_rules
from ..derivative import moving, with_derivative, with_pullback
from ..emission import Emission, Held, compacts
from ..view import View
from .bodies import used_of


@compacts("custom_jvp_call")
def custom_jvp_call_compact(emission: Emission, equation: Equation) -> list[Held]:
    """The body compacted; the program of the user's derivative, at the same views, in the derivative's place."""
    views, wanted = call_views(emission, equation)

    def derivative(program: Program, *operands):
        ins, outs = [*views, *moving(equation.inputs, views)], [*wanted, *moving(equation.outputs, wanted)]
        return inner(program, ins, outs)(*operands)

    return _called(emission, equation, views, wanted, with_derivative, derivative)


@compacts("custom_vjp_call")
def custom_vjp_call_compact(emission: Emission, equation: Equation) -> list[Held]:
    """As of `custom_jvp_call`; the forward pass is run again by the backward one, where the compiler finds it twice."""
    views, wanted = call_views(emission, equation)

    def pull(program: Program, *operands):
        return inner(program, [*views, *moving(equation.outputs, wanted)], moving(equation.inputs, views))(*operands)

    return _called(emission, equation, views, wanted, with_pullback, pull)


def _called(
    emission: Emission, equation: Equation, views: list[View], wanted: list[View], attach: Callable, derivative: Callable
) -> list[Held]:
    """The call itself where all of it is wanted, else its body in these views with a derivative attached."""
    values = [emission.want(a, v) for a, v in zip(equation.inputs, views, strict=True)]
    if all(v.is_whole for v in (*views, *wanted)):
        outs = apply(equation, values)
    else:
        outs = attach(inner(body(equation), views, wanted), derivative, equation, values)
    return [Held(v, y) for v, y in zip(wanted, outs, strict=True)]


def call_views(emission: Emission, equation: Equation) -> tuple[list[View], list[View]]:
    """The views of a call's operands, outside which they are zero or not needed for its results', and these."""
    wanted = [emission.target(v).nonempty for v in equation.outputs]
    facts = [emission.facts.value(a) for a in equation.inputs]
    needs = backward_rules[equation.name]([holding(v) for v in wanted], *facts, **equation.params)
    return [used_of(a, f, need) for a, f, need in zip(equation.inputs, facts, needs, strict=True)], wanted


def inner(program: Program, inputs: Sequence[View], outputs: Sequence[View]) -> Callable[..., list]:
    """`narrow(program(widen(inputs)))`, itself compacted."""
    facts = propagate(program, [Fact.of_mask(holding(v)) for v in inputs], [holding(v) for v in outputs])

    def run(*values):
        held = [Held(v, x) for v, x in zip(inputs, values, strict=True)]
        return Emission(program, facts).run(held, outputs)

    return run


def holding(view: View) -> Grid:
    """Boolean grid: what a view holds."""
    out = Grid.uniform(view.shape, True)
    for axis, kept in enumerate(view.kept):
        if kept is not None:
            line = Grid.of_elements(view.inside(axis)).broadcast(view.shape, [axis])
            out = both(out, line)
    return out
