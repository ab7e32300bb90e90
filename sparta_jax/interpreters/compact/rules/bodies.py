"""Compaction of loops, branches and what is rematerialised: operands and results in views, the bodies compacted for these."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

import jax

from ...facts import Fact, Need, both
from ...inner import Body, bodies_of, emit
from ...jaxprs import REMAT, Atom, Equation
from ...propagate import propagate
from ...rules.loops import Scan, While
from ..emission import Emission, Held, compacts, whole
from ..view import View

Views = list[View]


@compacts(*REMAT)
def remat_compact(emission: Emission, equation: Equation) -> list[Held]:
    return _branched(emission, equation, 0)


@compacts("cond")
def cond_compact(emission: Emission, equation: Equation) -> list[Held]:
    return _branched(emission, equation, 1)


def _branched(emission: Emission, equation: Equation, first: int) -> list[Held]:
    """Bodies of which one is run, on the operands from `first` on: these in what any of the bodies needs."""
    bodies = [Inside(body) for body in bodies_of(equation, emission.facts)]
    wanted = results_in(emission, equation)
    views = [functools.reduce(operator.or_, vs) for vs in zip(*(body.inputs for body in bodies), strict=True)]
    operands = [*map(View.whole, (a.shape for a in equation.inputs[:first])), *views]
    return _emitted(emission, equation, operands, [body.run(views, wanted) for body in bodies], wanted)


@compacts("scan")
def scan_compact(emission: Emission, equation: Equation) -> list[Held]:
    """What is carried keeps one view through all iterations; stacks are whole along their first axis."""
    scan = Scan.of(equation.params)
    if scan.length == 0:
        return whole(emission, equation)
    (body,) = (Inside(body) for body in bodies_of(equation, emission.facts))
    wanted = results_in(emission, equation)
    carry = [a | b | c for a, b, c in zip(body.inputs[scan.carry], body.outputs, wanted, strict=False)]
    ys = [View(v.shape[1:], v.kept[1:]) for v in wanted[scan.carried :]]
    inputs = [*body.inputs[: scan.consts], *carry, *body.inputs[scan.carry.stop :]]
    stacks = [_stacked(v, scan.length) for v in (*inputs[scan.carry.stop :], *ys)]
    n = len(inputs) - scan.carry.stop
    results = [*carry, *stacks[n:]]
    return _emitted(emission, equation, [*inputs[: scan.carry.stop], *stacks[:n]], [body.run(inputs, [*carry, *ys])], results)


@compacts("while")
def while_compact(emission: Emission, equation: Equation) -> list[Held]:
    loop = While.of(equation.params)
    test, body = (Inside(body) for body in bodies_of(equation, emission.facts))
    wanted = results_in(emission, equation)
    tested = test.inputs[loop.tested :]
    carry = [
        functools.reduce(operator.or_, vs) for vs in zip(tested, body.inputs[loop.consts :], body.outputs, wanted, strict=True)
    ]
    of_test, of_body = test.inputs[: loop.tested], body.inputs[: loop.consts]
    runs = [test.run([*of_test, *carry], [View.whole(())]), body.run([*of_body, *carry], carry)]
    return _emitted(emission, equation, [*of_test, *of_body, *carry], runs, carry)


class Inside:
    """A body with its own facts.

    Attributes:
      inputs: the views of its inputs outside which they are zero or not needed.
      outputs: those of its results.
    """

    def __init__(self, body: Body):
        self.program = body.program
        self.facts = propagate(body.program, body.inputs, body.outputs)
        self.inputs = [used_of(v, self.facts.value(v), self.facts.need(v)) for v in self.program.inputs]
        needs = zip(self.program.outputs, body.outputs, strict=True)
        self.outputs = [used_of(v, self.facts.value(v), need) for v, need in needs]

    def run(self, inputs: Sequence[View], outputs: Sequence[View]) -> Callable[..., list]:
        """The body on values in these views."""

        def run(*values):
            held = [Held(v, x) for v, x in zip(inputs, values, strict=True)]
            return Emission(self.program, self.facts).run(held, outputs)

        return run


def _emitted(
    emission: Emission, equation: Equation, operands: Sequence[View], runs: Sequence[Callable], results: Sequence[View]
) -> list[Held]:
    values = [emission.want(a, view) for a, view in zip(equation.inputs, operands, strict=True)]
    return [Held(view, y) for view, y in zip(results, emit(equation, runs, values), strict=True)]


def results_in(emission: Emission, equation: Equation) -> Views:
    """The views that are wanted of an equation's results; each holds something."""
    return [emission.target(v).nonempty for v in equation.outputs]


def used_of(atom: Atom, fact: Fact, need: Need) -> View:
    """The view of an operand outside which it is zero or not needed; it holds something, of random keys everything."""
    if jax.dtypes.issubdtype(atom.aval.dtype, jax.dtypes.extended):
        return View.whole(atom.shape)
    return View.around(both(fact.nonzero, need)).nonempty


def _stacked(view: View, length: int) -> View:
    return View((length, *view.shape), (None, *view.kept))
