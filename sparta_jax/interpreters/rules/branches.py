"""Rules for `cond` and `switch`."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from ..facts import Fact, Need, both, either, needed, unneeded
from ..jaxprs import Program
from ..registry import backward, forward
from .bodies import body_of, needs, values, varying


@forward(p.cond_p)
def cond_forward(index: Fact, *inputs: Fact, branches, depth: int = 0, **_) -> list[Fact]:
    """What holds of every branch that may be taken; where the data choose, what differs between branches depends on them."""
    programs = [body_of(b, depth) for b in taken(index, branches)]
    outs = [functools.reduce(Fact.__or__, facts) for facts in zip(*(values(b, inputs) for b in programs), strict=True)]
    if index.is_const or len(programs) == 1:
        return outs
    return [out if _passed_on(programs, i) else varying(out) for i, out in enumerate(outs)]


@backward(p.cond_p)
def cond_backward(outs: list[Need], index: Fact, *inputs: Fact, branches, depth: int = 0, **_) -> list[Need]:
    """What some branch needs; the index where a result that is needed may differ from zero."""
    programs = [body_of(b, depth) for b in taken(index, branches)]
    results = cond_forward(index, *inputs, branches=branches, depth=depth)
    chooses = any(both(fact.nonzero, need).cells.any() for fact, need in zip(results, outs, strict=True))
    swept = [needs(b, inputs, outs) for b in programs]
    of_inputs = [functools.reduce(either, found) for found in zip(*swept, strict=True)]
    return [needed(index.shape) if chooses else unneeded(index.shape), *of_inputs]


def taken(index: Fact, branches: Sequence) -> Sequence:
    """The branches that may be taken."""
    if index.known is not None:
        return [branches[int(np.clip(index.known, 0, len(branches) - 1))]]
    if not index.nonzero.cells.any():
        return branches[:1]
    return branches


def _passed_on(programs: Sequence[Program], place: int) -> bool:
    """Whether every branch hands on the same operand there."""
    atoms = [b.outputs[place] for b in programs]
    places = {b.inputs.index(a) if a in b.inputs else None for a, b in zip(atoms, programs, strict=True)}
    return len(places) == 1 and None not in places
