"""The rule tables: one forward and one backward rule per JAX primitive, by the primitive's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from jax.extend.core import Primitive

Rule = TypeVar("Rule", bound=Callable)

forward_rules: dict[str, Callable] = {}
backward_rules: dict[str, Callable] = {}


def forward(*primitives: Primitive | str) -> Callable[[Rule], Rule]:
    """Registers `rule(*in_facts, **params) -> Fact` (a list of them where the primitive has several results).

    A primitive that `jax.extend.core.primitives` does not export, or that some JAX version lacks, is given by its name.
    """
    return _register(forward_rules, primitives)


def backward(*primitives: Primitive | str) -> Callable[[Rule], Rule]:
    """Registers `rule(out_need, *in_facts, **params) -> needs`, one need per input (`out_need` is a list where the
    primitive has several results)."""
    return _register(backward_rules, primitives)


def _register(table: dict[str, Callable], primitives: tuple[Primitive | str, ...]) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        for primitive in primitives:
            name = primitive if isinstance(primitive, str) else primitive.name
            if name in table:
                raise ValueError(f"{name} already has a rule: {table[name]}")
            table[name] = rule
        return rule

    return add
