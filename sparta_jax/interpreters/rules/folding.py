"""Rules for reductions by any function: what the function makes of facts, whatever the order in which it is applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jax.extend.core import primitives as p

from ...grid import Grid, combine
from ..facts import CONST, LIVE, ZERO, Fact, Need
from ..jaxprs import Program, flatten
from ..propagate import Facts, forward_sweep
from ..registry import backward, forward
from .pooling import nonempty, seen, windows
from .sliding import BASE, OUT, slide

LEVELS = ZERO, CONST, LIVE
See = Callable[[Grid], Grid]  # an operand's facts, as the weakest that each output meets


@forward(p.reduce_p)
def reduce_forward(*xs: Fact, jaxpr, dimensions, **_) -> list[Fact]:
    """What the function makes of the elements along `dimensions` and the initial values."""
    operands, inits = _halves(xs)
    if 0 in operands[0].shape:
        kept = [n for d, n in enumerate(operands[0].shape) if d not in dimensions]
        return [Fact.live(kept) for _ in operands]
    return _folded(lambda grid: grid.reduce(dimensions, np.maximum), operands, inits, flatten(jaxpr))


@backward(p.reduce_p)
def reduce_backward(outs: list[Need], *xs: Fact, dimensions, **_) -> list[Need]:
    """All elements along `dimensions` are needed where one of the results is."""
    operands, inits = _halves(xs)
    need = combine(lambda *cells: np.logical_or.reduce(cells), *outs)
    shape = operands[0].shape
    need = need.broadcast(shape, [d for d in range(len(shape)) if d not in dimensions])
    return [*(need for _ in operands), *(Grid.uniform((), True) for _ in inits)]


@forward(p.reduce_window_p)
def reduce_window_forward(*xs: Fact, jaxpr, consts, **params) -> list[Fact]:
    """What the function makes of the elements of a window and the initial values."""
    operands, inits = _halves(xs)
    slides = windows(operands[0].shape, **params)
    sizes = [s.out for s in slides]
    filled = nonempty(operands[0].shape, slides)
    if 0 in operands[0].shape or 0 in sizes or consts or filled is None:
        return [Fact.live(sizes) for _ in operands]
    exact = not any(s.is_long for s in slides)
    folded = _folded(lambda grid: seen(grid, slides), operands, inits, flatten(jaxpr), exact)
    empty = [init.value.broadcast(sizes) for init in inits]
    pairs = zip(folded, empty, strict=True)
    return [Fact(combine(np.where, filled, fact.value, init)) for fact, init in pairs]


@backward(p.reduce_window_p)
def reduce_window_backward(outs: list[Need], *xs: Fact, **params) -> list[Need]:
    """A window is needed where one of its results is."""
    operands, inits = _halves(xs)
    need = combine(lambda *cells: np.logical_or.reduce(cells), *outs)
    need = slide(need, windows(operands[0].shape, **params), OUT, BASE)
    return [*(need for _ in operands), *(Grid.uniform((), True) for _ in inits)]


def _folded(see: See, operands: Sequence[Fact], inits: Sequence[Fact], body: Program, exact: bool = True) -> list[Fact]:
    """The facts of the results, where each output meets at least one element; `exact`: and what it sees is surely there."""
    base = len(LEVELS) ** np.arange(len(operands))
    encode = lambda *cells: np.tensordot(base, np.stack(np.broadcast_arrays(*cells)), 1)
    weakest = combine(encode, *(see(x.value) for x in operands))
    tables = np.zeros((len(operands), len(LEVELS) ** len(operands)), np.uint8)
    for code in np.unique(weakest.cells):
        tables[:, code] = _fold(body, [Fact.uniform((), LEVELS[code // b % len(LEVELS)]) for b in base], inits)
    outs = [weakest.map(lambda code, table=table: table[code]) for table in tables]
    if exact and _absorbs_zero(body):
        absorbed = see(operands[0].value.map(lambda c: np.where(c == ZERO, LIVE, ZERO)))
        outs = [combine(lambda zero, out: np.where(zero == LIVE, ZERO, out), absorbed, outs[0])]
    return [Fact(out) for out in outs]


def _fold(body: Program, xs: list[Fact], inits: Sequence[Fact]) -> list[np.ndarray]:
    """The facts of all terms of the function that hold at least one of the elements `xs`."""
    ends = _apply(body, inits, inits)
    if not all(_same(a, b) for a, b in zip(inits, ends, strict=True)):
        inits = _either(inits, ends)
    terms = xs
    while True:
        pairs = (terms, terms), (terms, inits), (inits, terms)
        more = terms
        for pair in pairs:
            more = _either(more, _apply(body, *pair))
        if all(a.value == b.value for a, b in zip(more, terms, strict=True)):
            return [t.value.cells for t in terms]
        terms = more


def _absorbs_zero(body: Program) -> bool:
    """Whether the function of one operand is zero as soon as one of its arguments is."""
    if len(body.inputs) != 2:
        return False
    zero, live = [Fact.zero(())], [Fact.live(())]
    return not any(_apply(body, *pair)[0].nonzero.cells for pair in ((zero, live), (live, zero)))


def _apply(body: Program, left: Sequence[Fact], right: Sequence[Fact]) -> list[Fact]:
    facts = Facts(forward_sweep(body, [*left, *right]), {}, ())
    return [facts.value(v) for v in body.outputs]


def _either(a: Sequence[Fact], b: Sequence[Fact]) -> list[Fact]:
    return [x | y for x, y in zip(a, b, strict=True)]


def _same(a: Fact, b: Fact) -> bool:
    return a.known is not None and b.known is not None and bool(a.known == b.known)


def _halves(items: Sequence) -> tuple[Sequence, Sequence]:
    return items[: len(items) // 2], items[len(items) // 2 :]
