"""Fused operations in a program: references of `sparta_jax.fused`, found by unifying their traces with it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Set

import jax
import numpy as np

from ..fused import Operation
from .attentions import attentions_at
from .jaxprs import Atom, Constant, Equation, Program, Variable, trace
from .unify import Graph, match


@dataclasses.dataclass(frozen=True, eq=False)
class Fusion:
    """A part of a program that is one operation.

    Attributes:
      equation: the last one of it, which defines its result.
      operation: which.
      inputs: its operands.
      result: the variable that it defines.
      covered: all equations that it stands for.
    """

    equation: Equation
    operation: Operation
    inputs: tuple[Atom, ...]
    result: Variable
    covered: frozenset[Equation]

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return (self.result,)


def find_fusions(program: Program, taken: Set[Equation], fixed: Set[Variable]) -> list[Fusion]:
    """The fused operations among the equations that are not `taken`. None of them hides a value that is derived from the params
    alone (`fixed`): packed params are named by what a program reads of them."""
    found: list[Fusion] = []
    graph = Graph.of(program)
    constants = _made_of_constants(program)
    for equation in program.equations:
        for fusion in _fusions_at(equation, graph):
            used = {*taken, *(e for f in found for e in f.covered)}
            hidden = {v for e in fusion.covered for v in e.outputs if v in fixed} - constants
            if fusion.covered.isdisjoint(used) and not hidden:
                found.append(fusion)
                break
    return found


def _fusions_at(equation: Equation, graph: Graph) -> Iterator[Fusion]:
    for guess in attentions_at(equation, graph):
        reference = _traced(guess.operation, guess.operands)
        for result in guess.results:
            if (place := match(reference, graph, result)) is not None:
                yield Fusion(graph.definition[result], guess.operation, place.operands, place.result, place.covered)


@functools.lru_cache(maxsize=512)
def _traced(operation: Operation, operands: tuple[tuple[tuple[int, ...], np.dtype], ...]) -> Program:
    program, _ = trace(operation.reference, *(jax.ShapeDtypeStruct(*s) for s in operands))
    return program


def _made_of_constants(program: Program) -> Set[Variable]:
    """The variables that derive from literals alone."""
    known: set[Variable] = set()
    for equation in program.equations:
        if not equation.effects and all(isinstance(a, Constant) or a in known for a in equation.inputs):
            known.update(equation.outputs)
    return known
