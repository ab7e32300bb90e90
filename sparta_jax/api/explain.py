"""Explanations and warnings in words: what `interpreters` found, with the names of a propagation."""

from __future__ import annotations

import dataclasses

from ..explanation import Explanation, Finding, Step, listed, phrase_of, said_of
from ..grid import Grid, combine
from ..interpreters import (
    DENSE_IS_EXACT,
    Atom,
    Collapse,
    Constant,
    Facts,
    Loss,
    Program,
    Unneeded,
    Use,
    Variable,
    Zeros,
    both,
    chain_of,
    collapses,
    opportunities,
    why_unneeded,
    zeros_of,
)
from .names import Names, title

TESA = "its TeSA"  # why an input's elements are zero


@dataclasses.dataclass(frozen=True, eq=False)
class Teller:
    """Tells what is known of a program."""

    program: Program
    facts: Facts
    names: Names

    def explanation(self, atom: Atom, name: str, summary: str) -> Explanation:
        """Why the elements of a variable, or of a constant result, are what they are."""
        if isinstance(atom, Constant):
            return Explanation(name, summary, (), (Step(name, "it is constant", f"the program returns {atom.value}"),), ())
        chain = chain_of(self.program, self.facts, atom)
        return Explanation(
            name,
            summary,
            tuple(map(self._unneeded, chain.unneeded)),
            tuple(map(self._zeros, chain.zeros)),
            tuple(map(self._lost, chain.losses)),
        )

    def findings(self, params: tuple[int, ...]) -> tuple[Finding, ...]:
        """What is worth a warning: collapse, and zeros that were lost without need."""
        dead = map(self._collapse, collapses(self.program, self.facts, params))
        return (*dead, *map(self._opportunity, opportunities(self.program, self.facts)))

    # -- the steps of an explanation

    def _step(self, variable: Variable, fact: str, reason: str, causes: tuple[str, ...] = ()) -> Step:
        return Step(self.names.of(variable), fact, reason, causes, *self.names.place(variable))

    def _zeros(self, step: Zeros) -> Step:
        if step.variable in self.names.inputs:
            return self._step(step.variable, said_of(step.elements, "zero"), TESA)
        if step.equation is None:
            return self._step(
                step.variable, said_of(step.elements, self._state(step.variable, step.elements)), "a constant of the program"
            )
        causes = tuple(map(self.names.of, step.causes))
        reason = listed(causes) or f"{title(step.equation)} {'of masked scores' if step.is_masked else 'with constants'}"
        return self._step(step.variable, said_of(step.elements, "zero"), reason, causes)

    def _unneeded(self, step: Unneeded) -> Step:
        causes = tuple(self.names.of(v) for use in step.uses for v in (*use.partners, *use.outputs))
        uses = list(dict.fromkeys(map(self._use, step.uses)))
        reason = f"its only use {uses[0]}" if len(step.uses) == 1 else listed(uses, sep="; ") or "nothing uses it"
        fact = "no element is needed" if step.elements.cells.all() else said_of(step.elements, "not needed")
        return self._step(step.variable, fact, reason, causes)

    def _use(self, use: Use) -> str:
        partners = " and ".join(f"{self.names.of(v)} is {self._state(v, grid)}" for v, grid in use.partners.items())
        if not partners:
            reason = "which is not needed there" if use.outputs else "which does not read it"
        else:
            reason = f"where {partners}" + (" or it is not needed itself" if use.outputs else "")
        return f"{self.names.of(use.equation.outputs[0])}, {reason}"

    def _lost(self, loss: Loss) -> Step:
        operand = self.names.of(loss.operand)
        causes = (operand, *map(self.names.of, loss.partners))
        if loss.opaque:
            return self._step(loss.output, f"the zeros of {operand} are lost", _blind(loss), causes)
        phrase, plural = phrase_of(loss.elements)
        fact = f"{phrase} {'are' if plural else 'is'} {'constant' if loss.is_const else 'live'}, though zero in {operand}"
        return self._step(loss.output, fact, self._not_zero(loss), causes)

    def _not_zero(self, loss: Loss) -> str:
        if loss.equation.name == "gather":
            return "rows out of range are filled with NaN"
        if loss.partners:
            return f"{listed(map(self.names.origin, loss.partners))} is not zero"
        return f"{title(loss.equation)}(0) is not 0"

    def _state(self, variable: Variable, elements: Grid) -> str:
        """Whether elements say something by being zero or by their values."""
        return "known" if both(self.facts.value(variable).nonzero, elements).cells.any() else "zero"

    # -- warnings

    def _collapse(self, collapse: Collapse) -> Finding:
        steps = [self._root(root) for root in collapse.roots]
        told = (f"{s.name}: {s.fact}" + ("" if s.reason == TESA else f" <- {s.reason}") for s in steps)
        names, inputs = self.names, self.program.inputs
        affected = (*(names.outputs[i] for i in collapse.outputs), *(names.of(inputs[i]) for i in collapse.inputs))
        mend = "; ".join(map(_mend_of_root, steps))
        return Finding("collapse", tuple(s.name for s in steps), "; ".join(told), mend, affected, steps[0].scope, steps[0].line)

    def _root(self, root: Variable) -> Step:
        """Why nothing is left of a variable, in one step."""
        nonzero, need = self.facts.value(root).nonzero, self.facts.need(root)
        if not nonzero.cells.any():
            return self._zeros(zeros_of(self.program, self.facts, {root: nonzero.map(lambda c: ~c)})[0])
        idle = combine(lambda v, n: v & ~n, nonzero, need)
        step = self._unneeded(why_unneeded(self.program, self.facts, {root: idle})[0][0])
        return step if nonzero.cells.all() else dataclasses.replace(step, fact=f"{step.fact}, the others are zero")

    def _opportunity(self, loss: Loss) -> Finding:
        output = self.names.of(loss.output)
        why = _blind(loss) if loss.opaque else self._not_zero(loss)
        reason = f"{output} loses the zeros of {self.names.of(loss.operand)}: {why}"
        return Finding("lost", (output,), reason, _mend_of_loss(loss), (), *self.names.place(loss.output))


def _blind(loss: Loss) -> str:
    if _is_call(loss):
        return f"the derivative of {title(loss.equation)} cannot be traced"
    return DENSE_IS_EXACT.get(loss.equation.name, f"{title(loss.equation)} has no rule")


def _is_call(loss: Loss) -> bool:
    return loss.equation.name in ("custom_jvp_call", "custom_vjp_call")


def _mend_of_root(step: Step) -> str:
    if not step.causes:
        return f"keep an element of {step.name}" if step.reason == TESA else "its constants make it so"
    if len(step.causes) == 1:
        return f"keep others of {', '.join(step.causes)}"
    return f"let live elements of {' and '.join(step.causes)} meet"


def _mend_of_loss(loss: Loss) -> str:
    if loss.equation.name == "gather":
        return "write `table[i]`, or `jnp.take(..., mode='clip')`"
    if _is_call(loss):
        return "write its derivative so that JAX can trace it without values"
    return "write it with other operations, or multiply by a constant mask behind it where its result is zero"
