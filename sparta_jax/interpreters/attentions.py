"""Where attention may stand in a program: the guesses that unification is to confirm."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ..fused import Grouped, Operation, Written
from ..fused.attention import LAYOUTS, SCALINGS
from .jaxprs import Atom, Constant, Equation, Variable
from .unify import Graph

F32, BOOL = np.dtype(np.float32), np.dtype(np.bool_)
STEM, STALK = 64, 3  # how many equations in front of the exponential are looked at, and how far behind it and its product


@dataclasses.dataclass(frozen=True)
class Guess:
    """An operation that may stand at a place.

    Attributes:
      operation: which.
      operands: the shapes and dtypes of its operands.
      results: the variables that may be its result.
    """

    operation: Operation
    operands: tuple[tuple[tuple[int, ...], np.dtype], ...]
    results: tuple[Variable, ...]


@dataclasses.dataclass(frozen=True)
class _Softmax:
    """What stands around an exponential.

    Attributes:
      scores, mix: the products before and behind it.
      values: the second one's operand that is not the softmax.
      stem: the equations between the scores' product and the exponential.
      results: variables behind the second product.
    """

    scores: Equation
    mix: Equation
    values: Variable
    stem: tuple[Equation, ...]
    results: tuple[Variable, ...]

    def has(self, name: str) -> bool:
        return any(e.name == name for e in self.stem)


def attentions_at(equation: Equation, graph: Graph) -> Iterator[Guess]:
    """The ways in which attention may be written around an exponential, likely ones first."""
    if equation.name != "exp" or equation.outputs[0].aval.dtype != F32 or len(equation.outputs[0].shape) not in (4, 5):
        return
    if (place := _softmax(equation, graph)) is None:
        return
    q, k = (v.shape for v in place.scores.inputs)
    for operation in (*_grouped(place), *_written(place)):
        shapes = (_merged(q) if isinstance(operation, Grouped) else q, k, place.values.shape)
        for extras in itertools.product(*_extras(operation, place)):
            yield Guess(operation, (*((s, F32) for s in shapes), *extras), place.results)


def _softmax(exponential: Equation, graph: Graph) -> _Softmax | None:
    stem: list[Equation] = []
    front: list[Atom] = list(exponential.inputs)
    scores = None
    while front and len(stem) < STEM:
        equation = graph.definition.get(v) if isinstance(v := front.pop(0), Variable) else None
        if equation is None or equation in stem:
            continue
        if equation.name == "dot_general":
            scores = scores or equation
            continue
        stem.append(equation)
        front += equation.inputs
    mix = next(
        (e for v in graph.downstream(exponential.outputs[0], STALK) for e in graph.uses.get(v, ()) if e.name == "dot_general"),
        None,
    )
    if scores is None or mix is None:
        return None
    behind = {exponential.outputs[0], *graph.downstream(exponential.outputs[0], STALK)}
    values = [v for v in mix.inputs if isinstance(v, Variable) and v not in behind]
    if len(values) != 1 or not _is_scores(scores):
        return None
    results = (mix.outputs[0], *graph.downstream(mix.outputs[0], STALK))
    return _Softmax(scores, mix, values[0], tuple(stem), tuple(results))


def _is_scores(product: Equation) -> bool:
    """Whether it multiplies along one axis, per batch and head."""
    q, k = product.inputs
    contract, batch = product.params["dimension_numbers"]
    sizes = [len(axes) for axes in (*contract, *batch)]
    return sizes == [1, 1, 2, 2] and len(k.shape) == 4 and len(q.shape) in (4, 5)


def _grouped(place: _Softmax) -> Iterator[Grouped]:
    """As `jax.nn.dot_product_attention` writes it: the queries have an axis more."""
    q, k = (v.shape for v in place.scores.inputs)
    if len(q) != 5 or (q[0], *q[2:5:2]) != (k[0], *k[2:]) or place.values.shape != k:
        return
    scale = next((_number(e) for e in place.stem if e.name == "mul" and place.scores.outputs[0] in e.inputs), None)
    if scale is None:
        return
    causal, masked = place.has("iota"), place.has("select_n")
    for mask in (False, True) if causal else (masked,):
        for bias in (False, True):
            yield Grouped(scale, bias, mask, causal)


def _written(place: _Softmax) -> Iterator[Written]:
    """As einsums or matrix products write it."""
    if any(len(v.shape) != 4 for v in (*place.scores.inputs, place.values)):
        return
    mask = place.has("select_n")
    behind = {e.name for e in place.stem if place.scores.outputs[0] in e.inputs}
    scalings = [s for s in SCALINGS if s is None or s[0] == "q" or {"*": "mul", "/": "div"}[s[1]] in behind]
    layouts = [name for name in LAYOUTS if _lies(name, place)]
    for layout, scaling, bias in itertools.product(layouts, reversed(scalings), (False, True)):
        if bias is False or place.has("add"):
            yield Written(layout, scaling, bias, mask)


def _lies(layout: str, place: _Softmax) -> bool:
    """Whether q, k and v lie so that the products are those of this layout."""
    _, _, order, k_order = LAYOUTS[layout]
    (q_contract, k_contract), (q_batch, k_batch) = place.scores.params["dimension_numbers"]
    of_q, of_k = (*q_batch, *q_contract), (*k_batch, *k_contract)
    if of_q != tuple(order[d] for d in (0, 2, 3)) or of_k != tuple(k_order[d] for d in (0, 2, 3)):
        return False
    k, v = (tuple(a.shape[d] for d in o) for a, o in ((place.scores.inputs[1], k_order), (place.values, order)))
    return k[:3] == v[:3]


def _number(equation: Equation) -> float | None:
    return next((float(a.value) for a in equation.inputs if isinstance(a, Constant) and a.shape == ()), None)


def _merged(q: Sequence[int]) -> tuple[int, ...]:
    """The shape of queries whose heads are not in groups: `[batch, queries, heads, size]`."""
    batch, queries, groups, each, size = q
    return batch, queries, groups * each, size


Struct = tuple[tuple[int, ...], np.dtype]


def _extras(operation: Grouped | Written, place: _Softmax) -> list[list[Struct]]:
    """What each operand behind q, k and v may be."""
    scalar: list[Struct] = [((), F32)]
    if isinstance(operation, Grouped):
        return [_candidates(place, d) for d, there in ((F32, operation.bias), (BOOL, operation.mask)) if there]
    extras = [scalar] if operation.scaling else []
    extras += [_candidates(place, F32)] if operation.bias else []
    return extras + ([_candidates(place, BOOL), scalar] if operation.mask else [])


def _candidates(place: _Softmax, dtype: np.dtype) -> list[Struct]:
    """The shapes of the stem's values that may be broadcast to the scores, small ones first."""
    batch, heads, queries, keys = _sizes(place)
    seen = [a.shape for e in place.stem for a in e.inputs if isinstance(a, Variable) and a.aval.dtype == dtype]
    fits = lambda s: len(s) == 4 and all(n in (1, whole) for n, whole in zip(s, (batch, heads, queries, keys), strict=True))
    return [(s, dtype) for s in sorted(filter(fits, dict.fromkeys(seen)), key=np.prod)]


def _sizes(place: _Softmax) -> tuple[int, int, int, int]:
    """`(batch, heads, queries, keys)` of the scores."""
    q, k = (v.shape for v in place.scores.inputs)
    (q_contract, k_contract), (q_batch, k_batch) = place.scores.params["dimension_numbers"]
    free = [n for d, n in enumerate(q) if d not in (*q_contract, *q_batch)]
    (keys,) = (n for d, n in enumerate(k) if d not in (*k_contract, *k_batch))
    groups = free[1] if len(free) > 1 else 1
    return q[q_batch[0]], q[q_batch[1]] * groups, free[0], keys
