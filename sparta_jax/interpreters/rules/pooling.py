"""Rules for windows that are reduced, and for those that choose an element: sums, maxima, and the gradients of maxima."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from ...grid import Grid, combine
from ..facts import CONST, LIVE, ZERO, Fact, Need
from ..registry import backward, forward
from .sliding import BASE, OUT, Sliding, slide


@forward(p.reduce_window_sum_p)
def reduce_window_sum_forward(x: Fact, **params) -> Fact:
    """Zero iff the whole window is; padding is zero."""
    return Fact(seen(x.value, windows(x.shape, **params)))


@forward(p.reduce_window_max_p, p.reduce_window_min_p)
def reduce_window_max_forward(x: Fact, **params) -> Fact:
    """Zero iff the whole window is; padding has no part in it, unless there is nothing else: then it is a constant."""
    slides = windows(x.shape, **params)
    if (filled := nonempty(x.shape, slides)) is None:
        return Fact.live([s.out for s in slides])
    return Fact(combine(lambda value, any_element: np.where(any_element, value, CONST), seen(x.value, slides), filled))


@backward(p.reduce_window_sum_p, p.reduce_window_max_p, p.reduce_window_min_p)
def reduce_window_backward(out: Need, x: Fact, **params) -> tuple[Need]:
    """An element is needed iff one of its windows is."""
    return (slide(out, windows(x.shape, **params), OUT, BASE),)


@forward(p.select_and_scatter_add_p)
def select_and_scatter_add_forward(source: Fact, operand: Fact, **params) -> Fact:
    """Zero iff all windows that hold the element have a zero source; live where the data chooses or is added."""
    slides = windows(operand.shape, **params)
    chosen = seen(operand.value, slides)
    moved = combine(lambda s, x: np.where((s != ZERO) & (x == LIVE), LIVE, s), source.value, chosen)
    return Fact(seen(moved, slides, OUT, BASE))


@backward(p.select_and_scatter_add_p)
def select_and_scatter_add_backward(out: Need, source: Fact, operand: Fact, **params) -> tuple[Need, Need]:
    """A source is needed iff an element of its window is, and with it, unless it is zero, all that the window chooses from."""
    slides = windows(operand.shape, **params)
    need = slide(out, slides, BASE, OUT)
    moving = combine(lambda n, s: n & (s != ZERO), need, source.value)
    return need, slide(moving, slides, OUT, BASE)


@forward(p.select_and_gather_add_p)
def select_and_gather_add_forward(tangents: Fact, operand: Fact, **params) -> Fact:
    """Zero iff the whole window of tangents is; live where the data chooses or is chosen."""
    slides = windows(operand.shape, **params)
    pairs = seen(tangents.value, slides), seen(operand.value, slides)
    return Fact(combine(lambda t, x: np.where((t != ZERO) & (x == LIVE), LIVE, t), *pairs))


@backward(p.select_and_gather_add_p)
def select_and_gather_add_backward(out: Need, tangents: Fact, operand: Fact, **params) -> tuple[Need, Need]:
    """A tangent is needed iff one of its windows is, what chooses where that window's tangents are not all zero."""
    slides = windows(operand.shape, **params)
    moving = combine(lambda n, t: n & (t != ZERO), out, seen(tangents.value, slides))
    return slide(out, slides, OUT, BASE), slide(moving, slides, OUT, BASE)


def windows(
    shape: Sequence[int],
    *,
    window_dimensions,
    window_strides,
    padding,
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
    **_,
) -> list[Sliding]:
    """How the windows of an operand of `shape` slide, axis by axis."""
    ones = (1,) * len(shape)
    sizes = zip(shape, window_dimensions, window_strides, strict=True)
    dilations = zip(base_dilation or ones, window_dilation or ones, strict=True)
    return [Sliding(*size, low, high, *d) for size, (low, high), d in zip(sizes, padding, dilations, strict=True)]


def nonempty(shape: Sequence[int], slides: Sequence[Sliding]) -> Grid | None:
    """Boolean grid: whether a window holds an element; None where that is not told."""
    if any(s.is_long and not s.surely_meets for s in slides):
        return None
    return slide(Grid.uniform(shape, True), slides, BASE, OUT)


def seen(value: Grid, slides: Sequence[Sliding], source: str = BASE, target: str = OUT) -> Grid:
    """The weakest fact that meets each position; zero where none does."""
    nonzero = slide(value.map(lambda c: c != ZERO), slides, source, target)
    live = slide(value.map(lambda c: c == LIVE), slides, source, target)
    return combine(lambda some, most: np.where(most, LIVE, np.where(some, CONST, ZERO)), nonzero, live)
