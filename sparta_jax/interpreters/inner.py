"""Programs inside equations: with what facts they are entered, and how a call is written again around other bodies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp

from .facts import Fact, Need, needed
from .jaxprs import REMAT, Atom, Constant, Equation, Program, Variable, scan_split
from .propagate import Facts
from .rules.bodies import body_of
from .rules.branches import taken
from .rules.loops import Scan, While


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """A program inside an equation.

    Attributes:
      program: the body.
      inputs: the facts of its inputs, in all iterations.
      outputs: which elements of its results some iteration needs.
      outside: what each input is in the program around: the operand, or the stack of which it is a slice; None for what changes
        from one iteration to the next.
      times: how often it is run, as far as that is known.
      carried: by input that a loop carries: what it starts as outside, and what an iteration makes of it.
    """

    program: Program
    inputs: Sequence[Fact]
    outputs: Sequence[Need]
    outside: Sequence[Atom | None]
    times: int = 1
    carried: Mapping[Variable, tuple[Atom, Atom]] = dataclasses.field(default_factory=dict)

    def fixed_inputs(self, fixed: Set[Variable]) -> frozenset[Variable]:
        """The inputs that are one of `fixed` outside, or a slice of one."""
        inside = zip(self.program.inputs, self.outside, strict=True)
        return frozenset(v for v, o in inside if isinstance(o, Constant) or o in fixed)


def bodies_of(equation: Equation, facts: Facts) -> list[Body]:
    """The programs inside an equation that can be written again around others; none for any other equation."""
    return BODIES[equation.name](equation, facts) if equation.name in BODIES else []


def emit(equation: Equation, runs: Sequence[Callable[..., list]], operands: Sequence[Any]) -> Sequence:
    """The equation's results with `runs` in the place of its bodies."""
    typed = lambda x, v: jnp.asarray(x, v.aval.dtype) if isinstance(v, Constant) else x
    return EMITTERS[equation.name](equation.params, runs, list(map(typed, operands, equation.inputs)))


def _remat_bodies(equation: Equation, facts: Facts) -> list[Body]:
    inputs, needs = _around(equation, facts)
    return [Body(body_of(equation.params["jaxpr"]), inputs, needs, equation.inputs)]


def _remat(params: Mapping[str, Any], runs: Sequence[Callable], operands: Sequence[Any]) -> list:
    return jax.checkpoint(runs[0], prevent_cse=params["prevent_cse"], policy=params["policy"])(*operands)


def _scan_bodies(equation: Equation, facts: Facts) -> list[Body]:
    scan = Scan.of(equation.params)
    if scan.length == 0:
        return []
    inputs, needs = _around(equation, facts)
    inside = scan.values(inputs)
    outs, _ = scan.needs(inside, needs)
    kept = _kept(equation.inputs[scan.carry], scan.program.inputs[scan.carry], scan.program.outputs)
    outside = [*equation.inputs[: scan.consts], *kept, *equation.inputs[scan.carry.stop :]]
    values = [inside.value(v) for v in scan.program.inputs]
    carried = _carried(equation.inputs[scan.carry], scan.program.inputs[scan.carry], scan.program.outputs)
    return [Body(scan.program, values, outs, outside, scan.length, carried)]


def _scan(params: Mapping[str, Any], runs: Sequence[Callable], operands: Sequence[Any]) -> list:
    consts, carried = scan_split(params)
    (run,) = runs

    def step(carry, xs):
        outs = run(*operands[:consts], *carry, *xs)
        return outs[:carried], outs[carried:]

    options = {name: params[name] for name in ("length", "reverse", "unroll", "_split_transpose") if name in params}
    carry, ys = jax.lax.scan(step, operands[consts : consts + carried], operands[consts + carried :], **options)
    return [*carry, *ys]


def _while_bodies(equation: Equation, facts: Facts) -> list[Body]:
    loop = While.of(equation.params)
    inputs, needs = _around(equation, facts)
    carry = loop.values(inputs)
    outs, _ = loop.needs(inputs, carry, needs)
    start = loop.tested + loop.consts
    kept = _kept(equation.inputs[start:], loop.program.inputs[loop.consts :], loop.program.outputs)
    carried = _carried(equation.inputs[start:], loop.program.inputs[loop.consts :], loop.program.outputs)
    around = lambda of: ([*of(inputs), *carry], [*of(equation.inputs), *kept])
    (test, test_outside), (values, outside) = around(loop.of_condition), around(loop.of_body)
    return [
        Body(loop.condition, test, [needed(())], test_outside),
        Body(loop.program, values, outs, outside, carried=carried),
    ]


def _while(params: Mapping[str, Any], runs: Sequence[Callable], operands: Sequence[Any]) -> Sequence:
    tested, start = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    test, run = runs
    proceed = lambda carry: test(*operands[:tested], *carry)[0]
    return jax.lax.while_loop(proceed, lambda carry: run(*operands[tested:start], *carry), operands[start:])


def _cond_bodies(equation: Equation, facts: Facts) -> list[Body]:
    (index, *inputs), needs = _around(equation, facts)
    return [Body(body_of(b), inputs, needs, equation.inputs[1:]) for b in taken(index, equation.params["branches"])]


def _cond(params: Mapping[str, Any], runs: Sequence[Callable], operands: Sequence[Any]) -> list:
    index, *rest = operands
    return runs[0](*rest) if len(runs) == 1 else jax.lax.switch(index, runs, *rest)


def _around(equation: Equation, facts: Facts) -> tuple[list[Fact], list[Need]]:
    return [facts.value(v) for v in equation.inputs], [facts.need(v) for v in equation.outputs]


def _kept(start: Sequence[Atom], inside: Sequence[Variable], outs: Sequence[Atom]) -> list[Atom | None]:
    """What is carried, where each iteration hands it on unchanged; None elsewhere."""
    return [s if out is v else None for s, v, out in zip(start, inside, outs, strict=False)]


def _carried(start: Sequence[Atom], inside: Sequence[Variable], outs: Sequence[Atom]) -> dict[Variable, tuple[Atom, Atom]]:
    return {v: (s, out) for s, v, out in zip(start, inside, outs, strict=False)}


BODIES = {**dict.fromkeys(REMAT, _remat_bodies), "scan": _scan_bodies, "while": _while_bodies, "cond": _cond_bodies}
EMITTERS = {**dict.fromkeys(REMAT, _remat), "scan": _scan, "while": _while, "cond": _cond}
