"""Unification of a small reference program with a place in a larger one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from .jaxprs import Atom, Constant, Equation, Program, Variable, bind, flatten

COMMUTATIVE = frozenset({"add", "mul", "max", "min", "and", "or", "xor", "add_any"})
Binding = dict[Variable, Any]
NAMES_ONLY = frozenset({"name", "jvp_jaxpr_fun", "jvp_jaxpr_thunk", "jvp", "inline", "debug", "debug_info"})


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The def-use graph of a program."""

    definition: Mapping[Variable, Equation]
    uses: Mapping[Variable, tuple[Equation, ...]]
    outputs: frozenset[Variable]

    @classmethod
    def of(cls, program: Program) -> Graph:
        definition = {v: e for e in program.equations for v in e.outputs}
        uses: dict[Variable, list[Equation]] = {}
        for equation in program.equations:
            for atom in dict.fromkeys(equation.inputs):
                if isinstance(atom, Variable):
                    uses.setdefault(atom, []).append(equation)
        outputs = frozenset(v for v in program.outputs if isinstance(v, Variable))
        return cls(definition, {v: tuple(e) for v, e in uses.items()}, outputs)

    def only_used_by(self, variable: Variable, equations: frozenset[Equation]) -> bool:
        return variable not in self.outputs and equations.issuperset(self.uses.get(variable, ()))

    def downstream(self, variable: Variable, depth: int) -> Iterator[Variable]:
        """Variables within `depth` equations behind one, nearest first."""
        seen, front = {variable}, [variable]
        for _ in range(depth):
            found = [o for v in front for e in self.uses.get(v, ()) for o in e.outputs]
            front = [v for v in dict.fromkeys(found) if v not in seen]
            seen.update(front)
            yield from front


@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """A place at which a reference program stands.

    Attributes:
      result: the variable that is the reference's output.
      operands: what its inputs are here.
      covered: the equations it consists of.
    """

    result: Variable
    operands: tuple[Atom, ...]
    covered: frozenset[Equation]


def find(reference: Program, graph: Graph, start: Variable) -> Match | None:
    """Where `reference`, its first input being `start`, stands behind `start`; everything inside used nowhere else."""
    (out,) = reference.outputs
    assert isinstance(out, Variable)
    pattern = Graph.of(reference)
    root = pattern.definition[out]
    for candidate in graph.downstream(start, len(reference.equations)):
        if candidate not in graph.definition or graph.definition[candidate].name != root.name:
            continue
        for binding in _unify(out, candidate, reference, pattern, graph, {reference.inputs[0]: start}):
            place = _place(binding, reference, graph, candidate)
            if start not in place.operands[1:] and graph.only_used_by(start, place.covered) and _stands_alone(place, graph):
                return place
    return None


def match(reference: Program, graph: Graph, result: Variable) -> Match | None:
    """Where `reference` stands in front of `result`, its output; everything inside used nowhere else."""
    (out,) = reference.outputs
    assert isinstance(out, Variable)
    pattern = Graph.of(reference)
    for binding in _unify(out, result, reference, pattern, graph, {}):
        place = _place(binding, reference, graph, result)
        if _stands_alone(place, graph):
            return place
    return None


def _place(binding: Binding, reference: Program, graph: Graph, result: Variable) -> Match:
    covered = frozenset(graph.definition[binding[v]] for e in reference.equations for v in e.outputs)
    return Match(result, tuple(binding[v] for v in reference.inputs), covered)


def _stands_alone(place: Match, graph: Graph) -> bool:
    """Whether nothing inside is an operand, or used outside."""
    inside = {v for e in place.covered for v in e.outputs}
    if inside.intersection(a for a in place.operands if isinstance(a, Variable)):
        return False
    return all(graph.only_used_by(v, place.covered) for v in inside - {place.result})


def _unify(want: Atom, have: Atom, reference: Program, pattern: Graph, graph: Graph, binding: Binding) -> Iterator[Binding]:
    """All ways to extend `binding` so that the pattern's `want` is the program's `have`."""
    if isinstance(want, Constant):
        if isinstance(have, Constant) and _same(want.value, have.value):
            yield binding
        return
    if want in binding:
        if binding[want] is have:
            yield binding
        return
    if want.shape != have.shape or want.aval.dtype != have.aval.dtype:
        return
    if want in reference.inputs:
        yield binding | {want: have}
        return
    if not isinstance(have, Variable) or have not in graph.definition:
        return
    ours, theirs = pattern.definition[want], graph.definition[have]
    if not _alike(ours, theirs) or ours.outputs.index(want) != theirs.outputs.index(have):
        return
    orders = itertools.permutations(theirs.inputs) if ours.name in COMMUTATIVE else [theirs.inputs]
    for order in orders:
        yield from _unify_all(ours.inputs, order, reference, pattern, graph, binding | {want: have})


def _unify_all(wants, haves, reference: Program, pattern: Graph, graph: Graph, binding: Binding) -> Iterator[Binding]:
    if not wants:
        yield binding
        return
    for extended in _unify(wants[0], haves[0], reference, pattern, graph, binding):
        yield from _unify_all(wants[1:], haves[1:], reference, pattern, graph, extended)


def _alike(a: Equation, b: Equation) -> bool:
    if a.name != b.name or a.effects or b.effects or len(a.inputs) != len(b.inputs) or a.params.keys() != b.params.keys():
        return False
    if not all(_same(a.params[k], b.params[k]) for k in a.params if k not in NAMES_ONLY):
        return False
    return "custom" not in a.name or a.name == "custom_jvp_call" and _derivative(a) == _derivative(b)


def _derivative(call: Equation) -> str:
    """The program of a `custom_jvp` call's first derivative, as text: two calls may share a primal and differ there."""
    structs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in call.inputs]
    return str(jax.make_jaxpr(lambda x, t: jax.jvp(lambda *xs: bind(call, xs), x, t))(structs, structs))


def _same(a: Any, b: Any) -> bool:
    if hasattr(a, "eqns") and hasattr(b, "eqns"):
        return hasattr(a, "consts") and hasattr(b, "consts") and equal_programs(flatten(a), flatten(b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) or hasattr(a, "dtype") and hasattr(b, "dtype"):
        return np.shape(a) == np.shape(b) and a.dtype == b.dtype and bool(np.all(np.asarray(a) == np.asarray(b)))
    return type(a) is type(b) and bool(a == b)


def equal_programs(a: Program, b: Program) -> bool:
    """Whether two programs are the same, equation by equation."""
    if len(a.inputs) != len(b.inputs) or len(a.equations) != len(b.equations) or a.constants or b.constants:
        return False
    names: dict[Variable, Atom] = dict(zip(a.inputs, b.inputs, strict=True))

    def corresponds(x: Atom, y: Atom) -> bool:
        if isinstance(x, Constant):
            return isinstance(y, Constant) and _same(x.value, y.value)
        return names.get(x) is y

    for e, f in zip(a.equations, b.equations, strict=True):
        if not _alike(e, f) or not all(map(corresponds, e.inputs, f.inputs)):
            return False
        names.update(zip(e.outputs, f.outputs, strict=True))
    return all(map(corresponds, a.outputs, b.outputs))
