"""Rules for `dot_general`."""

from __future__ import annotations

import numpy as np
from jax.extend.core import primitives as p

from ...grid import Grid, combine, contract
from ..facts import CONST, LIVE, ZERO, Fact, Need
from ..registry import backward, forward


@forward(p.dot_general_p)
def dot_general_forward(lhs: Fact, rhs: Fact, *, dimension_numbers, **_) -> Fact:
    """`out[b, m, n]` is zero unless some `k` has both `lhs[b, m, k]` and `rhs[b, k, n]` nonzero, and live iff for such a `k`
    either is live."""
    axes = _axes(dimension_numbers)
    nonzero = contract(lhs.nonzero, rhs.nonzero, *axes)
    live = Grid.uniform(nonzero.shape, False)
    for left, right in ((_live(lhs), rhs.nonzero), (lhs.nonzero, _live(rhs))):
        live = combine(np.logical_or, live, contract(left, right, *axes))
    return Fact(
        combine(lambda any_live, any_nonzero: np.where(any_live, LIVE, np.where(any_nonzero, CONST, ZERO)), live, nonzero)
    )


@backward(p.dot_general_p)
def dot_general_backward(out: Need, lhs: Fact, rhs: Fact, *, dimension_numbers, **_) -> tuple[Need, Need]:
    """An operand's element is needed iff it meets a nonzero partner in a needed output."""
    (l_contract, r_contract), (l_batch, r_batch) = dimension_numbers
    l_free = [d for d in range(len(lhs.shape)) if d not in (*l_contract, *l_batch)]
    r_free = [d for d in range(len(rhs.shape)) if d not in (*r_contract, *r_batch)]
    batch = list(range(len(l_batch)))
    l_out = [len(batch) + i for i in range(len(l_free))]
    r_out = [len(batch) + len(l_free) + i for i in range(len(r_free))]
    need_l = contract(out, rhs.nonzero, r_out, r_free, batch, r_batch)  # batch, lhs free, rhs contracted in rhs order
    need_r = contract(out, lhs.nonzero, l_out, l_free, batch, l_batch)
    l_order = _inverse([*l_batch, *l_free, *_in_order(l_contract, r_contract)])
    r_order = _inverse([*r_batch, *r_free, *_in_order(r_contract, l_contract)])
    return need_l.transpose(l_order), need_r.transpose(r_order)


def _axes(dimension_numbers):
    (l_contract, r_contract), (l_batch, r_batch) = dimension_numbers
    return l_contract, r_contract, l_batch, r_batch


def _live(fact: Fact) -> Grid:
    return fact.value.map(lambda c: c == LIVE)


def _in_order(axes, partners) -> list[int]:
    """`axes`, ordered as their partner axes lie in the other operand."""
    return [a for _, a in sorted(zip(partners, axes, strict=True))]


def _inverse(permutation: list[int]) -> list[int]:
    return [int(i) for i in np.argsort(permutation)]
