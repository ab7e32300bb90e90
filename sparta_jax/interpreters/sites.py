"""Sites: the products of a program that have a sparse weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Set

import jax.numpy as jnp
import numpy as np

from ..grid import combine
from ..problem import Epilogue
from ..tesa import TeSA
from .epilogues import find_tail
from .facts import ZERO
from .jaxprs import Atom, Equation, Program, Variable
from .normal import Normal, normalise
from .propagate import Facts, needs_of_operands
from .unify import Graph

LARGEST_BATCH = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """A product with a sparse weight, and what is fused behind it.

    Attributes:
      equation: the `dot_general`.
      normal: how it reads as `x @ W`.
      x, weight: its operands; `weight` depends on the params alone.
      patterns: the live elements of each `W [k, n]`, one per batch element.
      precision, out_dtype: of the product.
      epilogue, extras: what follows, and its operands.
      covered: all equations that the site stands for.
      result: the variable that it defines.
    """

    equation: Equation
    normal: Normal
    x: Atom
    weight: Variable
    patterns: tuple[TeSA, ...]
    precision: str | None
    out_dtype: np.dtype
    epilogue: Epilogue
    extras: tuple[Atom, ...]
    covered: frozenset[Equation]
    result: Variable

    @property
    def inputs(self) -> tuple[Atom, ...]:
        return (self.x, *self.extras)

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return (self.result,)


@dataclasses.dataclass(frozen=True, eq=False)
class Unmatched:
    """A product with a sparse weight that stays dense, and why."""

    equation: Equation
    weight: Variable
    reason: str


def find_sites(program: Program, facts: Facts, fixed: Set[Variable]) -> tuple[list[Site], list[Unmatched]]:
    """The products whose weight has dead elements and is among `fixed` (the variables that depend on the params alone)."""
    sites: list[Site] = []
    unmatched: list[Unmatched] = []
    graph = Graph.of(program)
    for equation in program.equations:
        if equation.name != "dot_general" or equation.outputs[0] in fixed:
            continue
        for side in (1, 0):
            weight = equation.inputs[side]
            if not isinstance(weight, Variable) or weight not in fixed or not facts.value(weight).has_zeros:
                continue
            if (reason := _why_not(equation)) is not None:
                unmatched.append(Unmatched(equation, weight, reason))
                break
            site = _site(equation, side, facts, graph, {e for s in sites for e in s.covered})
            if len(site.patterns) > LARGEST_BATCH:
                unmatched.append(
                    Unmatched(
                        equation, weight, f"has {len(site.patterns)} weights in a batch, at most {LARGEST_BATCH} are split"
                    )
                )
                break
            sites.append(site)
            break
    return sites, unmatched


def _site(equation: Equation, side: int, facts: Facts, graph: Graph, taken: Set[Equation]) -> Site:
    normal = normalise(equation, side)
    weight = equation.inputs[side]
    assert isinstance(weight, Variable)
    need = needs_of_operands(equation, facts)[side]
    live = combine(lambda v, n: (v != ZERO) & n, facts.value(weight).value, need)
    grid = normal.w_grid(live)
    patterns = [
        TeSA.of_grid(grid.slice((b, 0, 0), (b + 1, normal.k, normal.n)).reshape((normal.k, normal.n)))
        for b in range(grid.shape[0])
    ]
    tail = find_tail(equation, normal, graph, taken)
    return Site(
        equation=equation,
        normal=normal,
        x=equation.inputs[1 - side],
        weight=weight,
        patterns=tuple(patterns),
        precision=canonical_precision(equation.params["precision"]),
        out_dtype=np.dtype(equation.outputs[0].aval.dtype),
        epilogue=tail.epilogue,
        extras=tail.extras,
        covered=tail.covered | {equation},
        result=tail.result,
    )


def _why_not(equation: Equation) -> str | None:
    dtypes = [v.aval.dtype for v in (*equation.inputs, *equation.outputs)]
    if not all(jnp.issubdtype(d, jnp.floating) for d in dtypes):
        return f"multiplies {' by '.join(str(d) for d in dtypes[:2])}, not real floating-point numbers"
    precision = equation.params["precision"]
    if precision is not None and canonical_precision(precision) is None:
        return f"asks for the dot algorithm {precision}"
    return None


def canonical_precision(precision) -> str | None:
    """`None`, `"default"`, `"high"` or `"highest"`; the higher one where the operands' differ."""
    pair = precision if isinstance(precision, tuple) else (precision,)
    names = [getattr(p, "name", "").lower() for p in pair if p is not None]
    order = ("highest", "high", "default")
    return next((name for name in order if name in names), None)
