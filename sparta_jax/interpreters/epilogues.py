"""Epilogues: what stands behind a product and may be computed with it. Each is a reference function, found by unification."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Set

import jax
import jax.numpy as jnp

from ..problem import Epilogue
from ..products import ACTIVATIONS
from .jaxprs import Atom, Equation, Program, Variable, trace
from .normal import Normal
from .unify import Graph, Match, find


@dataclasses.dataclass(frozen=True, eq=False)
class Tail:
    """The epilogue found behind a product.

    Attributes:
      epilogue: which parts it has.
      extras: the scale (`[columns]` or one number), the bias `[columns]` and the residual, where it has them.
      covered: the equations it stands for.
      result: the last one's result.
    """

    epilogue: Epilogue
    extras: tuple[Atom, ...]
    covered: frozenset[Equation]
    result: Variable


def _plain(y, b):
    return b


def _reshaped(y, b):
    return jnp.reshape(b, (1,) * (y.ndim - b.ndim) + b.shape)


def _broadcast(y, b):
    return jnp.broadcast_to(b, y.shape)


def _sum(y, b, spread: Callable = _plain):
    return y + spread(y, b)


def _times(y, s, spread: Callable = _plain):
    return y * spread(y, s)


SPREADS: tuple[Callable, ...] = (_plain, _reshaped, _broadcast)
"""How programs bring a vector along the columns to the shape of the result."""
BIASES = tuple(functools.partial(_sum, spread=spread) for spread in SPREADS)
SCALES = tuple(functools.partial(_times, spread=spread) for spread in SPREADS)


def find_tail(product: Equation, normal: Normal, graph: Graph, taken: Set[Equation]) -> Tail:
    """The longest epilogue behind a product, of equations that are not `taken`; empty where none stands there.

    A scale alone is left to whatever stands behind it: attention, for instance."""
    (y,) = product.outputs
    tail = Tail(Epilogue(), (), frozenset(), y)
    if not normal.keeps_order:
        return tail
    for extend in (_scale, _bias, _activation, _residual):
        longer = extend(tail, normal, graph)
        if longer is not None and longer.covered.isdisjoint(taken):
            tail = longer
    return Tail(Epilogue(), (), frozenset(), y) if tail.epilogue == Epilogue(scale=True) else tail


def _scale(tail: Tail, normal: Normal, graph: Graph) -> Tail | None:
    for reference, shape in [(_times, ()), *((reference, normal.columns) for reference in SCALES)]:
        if (match := _find(reference, tail.result, (shape,), graph)) is not None:
            return _extended(tail, match, dataclasses.replace(tail.epilogue, scale=True))
    return None


def _bias(tail: Tail, normal: Normal, graph: Graph) -> Tail | None:
    for reference in BIASES:
        if (match := _find(reference, tail.result, (normal.columns,), graph)) is not None:
            return _extended(tail, match, dataclasses.replace(tail.epilogue, bias=True))
    return None


def _activation(tail: Tail, normal: Normal, graph: Graph) -> Tail | None:
    for name, reference in ACTIVATIONS.items():
        if (match := _find(reference, tail.result, (), graph)) is not None:
            return _extended(tail, match, dataclasses.replace(tail.epilogue, activation=name))
    return None


def _residual(tail: Tail, normal: Normal, graph: Graph) -> Tail | None:
    if (match := _find(_sum, tail.result, (tail.result.shape,), graph)) is None:
        return None
    return _extended(tail, match, dataclasses.replace(tail.epilogue, residual=True))


def _extended(tail: Tail, match: Match, epilogue: Epilogue) -> Tail:
    return Tail(epilogue, (*tail.extras, *match.operands[1:]), tail.covered | match.covered, match.result)


def _find(reference: Callable, start: Variable, extras: tuple[tuple[int, ...], ...], graph: Graph) -> Match | None:
    if start in graph.outputs:
        return None
    return find(_traced(reference, start.shape, start.aval.dtype, extras), graph, start)


@functools.lru_cache(maxsize=512)
def _traced(reference: Callable, shape: tuple[int, ...], dtype, extras: tuple[tuple[int, ...], ...]) -> Program:
    program, _ = trace(reference, *(jax.ShapeDtypeStruct(s, dtype) for s in (shape, *extras)))
    return program
