"""The sweep that passes labels through a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import numpy as np

from ..jaxprs import Atom, Constant, Equation, Program, Variable
from .labels import PINNED, Labels, Links, factors, pinned

Rule = Callable[[Links, Equation, list[Labels]], Sequence[Labels]]
RULES: dict[str, Rule] = {}


def links_rule(*names: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        if known := RULES.keys() & set(names):
            raise KeyError(f"{sorted(known)} have rules already")
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return add


def channels_of(program: Program, params: Set[Variable]) -> dict[Variable, tuple[np.ndarray, ...]]:
    """The channel of each position of each axis of the params: equal numbers must die together, 0 may not die.

    The data and the outputs keep all their positions. A primitive without a rule pins what it reads.
    """
    links = Links()
    own = {v: tuple(_own(links, n) for n in v.shape) for v in program.inputs if v in params}
    given = [
        tuple(f for d, labels in enumerate(own[v]) for f in factors((d,), labels)) if v in params else pinned(v.shape)
        for v in program.inputs
    ]
    for labels in sweep(links, program, given):
        links.pin(labels)
    channels = links.channels()
    return {v: tuple(channels[labels] for labels in axes) for v, axes in own.items()}


def _own(links: Links, size: int) -> np.ndarray:
    """A label per position; none of an axis with only one: that is no choice."""
    return np.full(size, PINNED) if size == 1 else links.fresh((size,))


def sweep(links: Links, program: Program, inputs: Sequence[Labels]) -> list[Labels]:
    """The labels of the outputs."""
    env: dict[Atom, Labels] = dict.fromkeys(program.constants, ())
    env.update(zip(program.inputs, inputs, strict=True))
    get = lambda atom: () if isinstance(atom, Constant) else env[atom]
    for equation in program.equations:
        labels = [get(a) for a in equation.inputs]
        rule = RULES.get(equation.name, unknown)
        env.update(zip(equation.outputs, rule(links, equation, labels), strict=True))
    return [get(atom) for atom in program.outputs]


def unknown(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """What it reads it may need whole."""
    for labels in inputs:
        links.pin(labels)
    return [pinned(v.shape) for v in equation.outputs]
