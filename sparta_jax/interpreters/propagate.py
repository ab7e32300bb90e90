"""Propagation: one forward sweep for values, one backward sweep for needs."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence

import numpy as np

from . import known
from .facts import Fact, Need, dead, either, needed, unneeded
from .jaxprs import Atom, Constant, Equation, Program, Variable
from .registry import backward_rules, forward_rules
from .scores import EXPONENTIALS, Freedom, Scores


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """The facts of every variable of a program.

    Attributes:
      values: what each variable's elements are, found forward.
      needs: which of its elements an output needs, found backward.
      dropped: equations without a rule whose inputs carried zeros that were lost there.
      freedom: what was counted as weight 0 in a softmax, None where that is not allowed.
    """

    values: dict[Variable, Fact]
    needs: dict[Variable, Need]
    dropped: tuple[Equation, ...]
    freedom: Freedom | None = None

    def value(self, atom: Atom) -> Fact:
        return Fact.of_constant(atom.value) if isinstance(atom, Constant) else self.values[atom]

    def need(self, variable: Variable) -> Need:
        return self.needs[variable]

    def live(self, variable: Variable) -> Need:
        """Where a variable is neither zero nor unneeded."""
        return dead(self.values[variable], self.needs[variable]).map(np.logical_not)


def propagate(
    program: Program, inputs: Sequence[Fact], outputs: Sequence[Need] | None = None, freedom: Freedom | None = None
) -> Facts:
    """The facts of all variables, given those of the inputs and which elements of the outputs matter (all, unless told)."""
    values = forward_sweep(program, inputs, freedom)
    facts = Facts(values, {}, _dropped(program, values), freedom)
    outputs = [needed(v.shape) for v in program.outputs] if outputs is None else outputs
    return dataclasses.replace(facts, needs=backward_sweep(program, facts, outputs))


def forward_sweep(program: Program, inputs: Sequence[Fact], freedom: Freedom | None = None) -> dict[Variable, Fact]:
    values = {v: Fact.of_constant(array) for v, array in program.constants.items()}
    values.update(zip(program.inputs, inputs, strict=True))
    facts = Facts(values, {}, ())
    scores = Scores({v: e for e in program.equations for v in e.outputs}, facts.value, freedom)
    for equation in program.equations:
        outs = results_of(equation, [facts.value(v) for v in equation.inputs], freedom)
        if equation.name in EXPONENTIALS:
            outs = [scores.exponential(equation, outs[0])]
        for variable, fact in zip(equation.outputs, outs, strict=True):
            assert fact.shape == variable.shape, f"the rule of {equation.name} gave {fact.shape} for {variable.aval}"
            values[variable] = fact
    return values


def backward_sweep(program: Program, facts: Facts, outputs: Sequence[Need]) -> dict[Variable, Need]:
    needs: dict[Variable, Need] = {}

    def add(atom: Atom, need: Need) -> None:
        if isinstance(atom, Variable):
            needs[atom] = either(needs[atom], need) if atom in needs else need

    for atom, need in zip(program.outputs, outputs, strict=True):
        add(atom, need)
    for equation in reversed(program.equations):
        for variable in equation.outputs:
            needs.setdefault(variable, unneeded(variable.shape))
        for atom, need in zip(equation.inputs, needs_of_operands(equation, facts, needs), strict=True):
            assert need.shape == atom.shape, f"the rule of {equation.name} gave a need of {need.shape} for {atom.aval}"
            add(atom, need)
    for variable in (*program.inputs, *program.constants):
        needs.setdefault(variable, unneeded(variable.shape))
    return needs


def needs_of_operands(equation: Equation, facts: Facts, needs: dict[Variable, Need] | None = None) -> Sequence[Need]:
    """Which elements of its operands one equation needs, for what is needed of its results."""
    needs = facts.needs if needs is None else needs
    return needs_for(equation, [needs[v] for v in equation.outputs], [facts.value(v) for v in equation.inputs], facts.freedom)


def needs_for(equation: Equation, outs: list[Need], inputs: Sequence[Fact], freedom: Freedom | None = None) -> Sequence[Need]:
    """As `needs_of_operands`, for these needs of the results and these facts of the operands."""
    if equation.effects:
        return [needed(v.shape) for v in equation.inputs]
    if not any(n.cells.any() for n in outs):
        return [unneeded(v.shape) for v in equation.inputs]
    if (rule := backward_rules.get(equation.name)) is None:
        return [needed(v.shape) for v in equation.inputs]
    out = outs if equation.primitive.multiple_results else outs[0]
    return rule(out, *inputs, **_allowed(rule, freedom), **equation.params)


def results_of(equation: Equation, inputs: list[Fact], freedom: Freedom | None = None) -> list[Fact]:
    """The facts of an equation's results, for these of its operands."""
    if (computed := known.evaluate(equation, inputs)) is not None:
        return computed
    if (rule := forward_rules.get(equation.name)) is None:
        unchanged = bool(inputs) and all(f.is_const for f in inputs) and not equation.effects
        return [Fact.const(v.shape) if unchanged else Fact.live(v.shape) for v in equation.outputs]
    out = rule(*inputs, **_allowed(rule, freedom), **equation.params)
    return list(out) if equation.primitive.multiple_results else [out]


def _allowed(rule: Callable, freedom: Freedom | None) -> dict[str, Freedom]:
    """The keyword of a rule that sweeps programs of its own: it names `freedom` among its parameters."""
    return {"freedom": freedom} if freedom is not None and _sweeps(rule) else {}


@functools.cache
def _sweeps(rule: Callable) -> bool:
    return "freedom" in inspect.signature(rule).parameters


def _dropped(program: Program, values: dict[Variable, Fact]) -> tuple[Equation, ...]:
    def carries_zeros(atom: Atom) -> bool:
        return isinstance(atom, Variable) and values[atom].has_zeros and values[atom].known is None

    lost = lambda e: e.name not in forward_rules and any(carries_zeros(v) for v in e.inputs)
    return tuple(e for e in program.equations if lost(e))
