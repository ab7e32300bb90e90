"""Rules for loops. What a body carries is followed to a fixed point, forward for values and backward for needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import primitives as p

from ...grid import Grid
from ..facts import Fact, Need, either, needed, unneeded
from ..jaxprs import Program, Variable, scan_split
from ..propagate import Facts, backward_sweep
from ..registry import backward, forward
from .bodies import body_of, forward_facts, settled, values, varying

Needs = dict[Variable, Need]


@forward(p.scan_p)
def scan_forward(*inputs: Fact, **params) -> list[Fact]:
    """The carry after the last iteration, and each iteration's other results behind one another."""
    scan = Scan.of(params)
    if scan.length == 0:
        return [*inputs[scan.carry], *(Fact.zero((0, *v.shape)) for v in scan.program.outputs[scan.carried :])]
    facts = scan.values(inputs)
    outs = [facts.value(v) for v in scan.program.outputs]
    return [*outs[: scan.carried], *(Fact(scan.stacked(y.value)) for y in outs[scan.carried :])]


@backward(p.scan_p)
def scan_backward(outs: list[Need], *inputs: Fact, **params) -> list[Need]:
    """What some iteration needs."""
    scan = Scan.of(params)
    if scan.length == 0:
        needs = [unneeded(x.shape) for x in inputs]
        needs[scan.carry] = outs[: scan.carried]
        return needs
    _, found = scan.needs(scan.values(inputs), outs)
    swept = [found[v] for v in scan.program.inputs]
    return [*swept[: scan.carry.stop], *map(scan.stacked, swept[scan.carry.stop :])]


@dataclasses.dataclass(frozen=True)
class Scan:
    """A scan's body and how its operands divide: constants, then what is carried, then what is scanned over."""

    program: Program
    consts: int
    carried: int
    length: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Scan:
        return cls(body_of(params["jaxpr"], params.get("depth", 0)), *scan_split(params), params["length"])

    @property
    def carry(self) -> slice:
        return slice(self.consts, self.consts + self.carried)

    def values(self, inputs: Sequence[Fact]) -> Facts:
        """The value facts of the body that hold in each of at least one iteration."""
        return _scan_values(self, tuple(map(_shared, inputs)))

    def needs(self, facts: Facts, outs: Sequence[Need]) -> tuple[list[Need], Needs]:
        """Which elements of the body's results some iteration needs, and of all its variables."""
        ys = [y.reduce([0]) for y in outs[self.carried :]]

        def iterate(carry: list[Need]) -> tuple[list[Need], Needs]:
            found = backward_sweep(self.program, facts, [*carry, *ys])
            return [found[v] for v in self.program.inputs[self.carry]], found

        carry, found = settled(outs[: self.carried], iterate, self.length - 1)
        return [*carry, *ys], found

    def stacked(self, grid: Grid) -> Grid:
        """One copy per iteration, along a new first axis."""
        return grid.broadcast((self.length, *grid.shape), range(1, grid.ndim + 1))


@functools.lru_cache(maxsize=64)
def _scan_values(scan: Scan, inputs: tuple[Fact, ...]) -> Facts:
    consts, start, xs = inputs[: scan.consts], inputs[scan.carry], inputs[scan.carry.stop :]
    slices = [Fact(x.value.reduce([0], np.maximum)) for x in xs]

    def iterate(carry: list[Grid]) -> tuple[list[Grid], Facts]:
        facts = forward_facts(scan.program, [*consts, *map(Fact, carry), *slices])
        return [facts.value(v).value for v in scan.program.outputs[: scan.carried]], facts

    _, facts = settled([c.value for c in start], iterate, scan.length - 1)
    return facts


@forward(p.while_p)
def while_forward(*inputs: Fact, **params) -> list[Fact]:
    """What the carry may be before or after any iteration."""
    return While.of(params).values(inputs)


@backward(p.while_p)
def while_backward(outs: list[Need], *inputs: Fact, **params) -> list[Need]:
    """What some iteration needs, or a test of the condition, or what is needed of the result."""
    loop = While.of(params)
    carry = loop.values(inputs)
    tested = loop.condition_needs(inputs, carry)
    needs, found = loop.needs(inputs, carry, outs)
    return [*tested[: loop.tested], *(found[v] for v in loop.program.inputs[: loop.consts]), *needs]


@dataclasses.dataclass(frozen=True)
class While:
    """A while loop's condition and body and how its operands divide: `tested` constants of the condition, `consts` of the
    body, then what is carried."""

    condition: Program
    program: Program
    tested: int
    consts: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> While:
        condition, program = (body_of(params[name], params.get("depth", 0)) for name in ("cond_jaxpr", "body_jaxpr"))
        return cls(condition, program, params["cond_nconsts"], params["body_nconsts"])

    def of_condition(self, inputs: Sequence) -> Sequence:
        return inputs[: self.tested]

    def of_body(self, inputs: Sequence) -> Sequence:
        return inputs[self.tested : self.tested + self.consts]

    def values(self, inputs: Sequence[Fact]) -> list[Fact]:
        """The facts of the carry that hold before and after each iteration.

        Where the number of iterations depends on the data, so does what an iteration may change, unless it stays zero."""
        return list(_while_values(self, tuple(map(_shared, inputs))))

    def condition_needs(self, inputs: Sequence[Fact], carry: Sequence[Fact]) -> list[Need]:
        """What the condition needs of its constants and of the carry."""
        facts = forward_facts(self.condition, [*self.of_condition(inputs), *carry])
        found = backward_sweep(self.condition, facts, [needed(v.shape) for v in self.condition.outputs])
        return [found[v] for v in self.condition.inputs]

    def needs(self, inputs: Sequence[Fact], carry: Sequence[Fact], outs: Sequence[Need]) -> tuple[list[Need], Needs]:
        """Which elements of the carry an iteration needs, or the condition, or what comes behind the loop; and of all
        variables of the body."""
        facts = forward_facts(self.program, [*self.of_body(inputs), *carry])
        tested = self.condition_needs(inputs, carry)[self.tested :]

        def iterate(carry: list[Need]) -> tuple[list[Need], Needs]:
            found = backward_sweep(self.program, facts, carry)
            return [found[v] for v in self.program.inputs[self.consts :]], found

        return settled(list(map(either, outs, tested)), iterate)


@functools.lru_cache(maxsize=64)
def _while_values(loop: While, inputs: tuple[Fact, ...]) -> tuple[Fact, ...]:
    start = inputs[loop.tested + loop.consts :]
    kept = [out is carried for out, carried in zip(loop.program.outputs, loop.program.inputs[loop.consts :], strict=True)]

    def iterate(carry: list[Grid]) -> tuple[list[Grid], None]:
        facts = list(map(Fact, carry))
        outs = values(loop.program, [*loop.of_body(inputs), *facts])
        (test,) = values(loop.condition, [*loop.of_condition(inputs), *facts])
        if not test.is_const:
            outs = [out if k else varying(out) for out, k in zip(outs, kept, strict=True)]
        return [out.value for out in outs], None

    carry, _ = settled([c.value for c in start], iterate)
    return tuple(map(Fact, carry))


def _shared(fact: Fact) -> Fact:
    """The same object for equal scalars of a program: the facts of a loop are looked up by identity."""
    known = fact.known
    return fact if known is None or known.ndim else _scalar(known.item(), known.dtype)


@functools.lru_cache(maxsize=256)
def _scalar(value, dtype: np.dtype) -> Fact:
    return Fact.of_constant(np.asarray(value, dtype))
