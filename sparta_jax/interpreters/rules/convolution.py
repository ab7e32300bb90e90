"""Rules for `conv_general_dilated`, for all layouts, strides, dilations and groups; zero padding keeps zeros."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from ...grid import Grid, combine
from ..facts import CONST, LIVE, ZERO, Fact, Need
from ..registry import backward, forward
from .sliding import BASE, OUT, TAP, Sliding, meet


@forward(p.conv_general_dilated_p)
def conv_general_dilated_forward(lhs: Fact, rhs: Fact, **params) -> Fact:
    """`out[n, o, z]` is zero unless some `c` and tap `y` have both `lhs[n, c, x(z, y)]` and `rhs[o, c, y]` nonzero, and live
    iff for such a pair either is live."""
    conv = _Convolution.of(lhs.shape, rhs.shape, **params)
    meet_out = lambda left, right: conv.from_out(meet(conv.slides, OUT, BASE, conv.lhs(left), TAP, conv.rhs(right)))
    nonzero = meet_out(lhs.nonzero, rhs.nonzero)
    if not (_has_constants(lhs) and _has_constants(rhs)):
        return Fact.of_mask(nonzero)
    pairs = [meet_out(_live(lhs), rhs.nonzero), meet_out(lhs.nonzero, _live(rhs))]
    return Fact(combine(lambda nz, a, b: np.where(nz, np.where(a | b, LIVE, CONST), ZERO), nonzero, *pairs))


@backward(p.conv_general_dilated_p)
def conv_general_dilated_backward(out: Need, lhs: Fact, rhs: Fact, **params) -> tuple[Need, Need]:
    """An operand's element is needed iff it meets a nonzero partner in a needed output."""
    conv = _Convolution.of(lhs.shape, rhs.shape, **params)
    outs, left, right = conv.out(out), conv.lhs(lhs.nonzero), conv.rhs(rhs.nonzero)
    need_l = meet(conv.slides, BASE, OUT, outs, TAP, _swapped(right))
    need_r = meet(conv.slides, TAP, OUT, _swapped(outs), BASE, _swapped(left))
    return conv.from_lhs(need_l), conv.from_rhs(need_r)


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """How a convolution's operands lie, and how to bring each to `[group, outer, inner, *window axes]` and back.

    Attributes:
      specs: the axes of lhs, rhs and output: batch (rhs: output features), features (rhs: input features), window axes.
      groups: how many groups of features, or of batch elements, do not meet.
      by_batch: whether the groups are of batch elements.
      slides: the window axes.
    """

    specs: tuple[Sequence[int], Sequence[int], Sequence[int]]
    groups: int
    by_batch: bool
    slides: tuple[Sliding, ...]

    @classmethod
    def of(
        cls,
        lhs: Sequence[int],
        rhs: Sequence[int],
        *,
        dimension_numbers,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        feature_group_count,
        batch_group_count,
        **_,
    ) -> _Convolution:
        """The convolution of these shapes and params."""
        l_spec, r_spec, out_spec = dimension_numbers
        slides = []
        for i, (stride, (low, high)) in enumerate(zip(window_strides, padding, strict=True)):
            sizes = lhs[l_spec[2 + i]], rhs[r_spec[2 + i]]
            slides.append(Sliding(*sizes, stride, low, high, lhs_dilation[i], rhs_dilation[i]))
        groups = feature_group_count * batch_group_count
        return cls((l_spec, r_spec, out_spec), groups, batch_group_count > 1, tuple(slides))

    def lhs(self, grid: Grid) -> Grid:
        """`[group, batch, features, *base]`."""
        return _split(grid.transpose(self.specs[0]), self._l_axis, self.groups)

    def rhs(self, grid: Grid) -> Grid:
        """`[group, output features, features, *taps]`."""
        return _split(grid.transpose(self.specs[1]), 0, self.groups)

    def out(self, grid: Grid) -> Grid:
        """`[group, batch, output features, *out]`."""
        return _split(grid.transpose(self.specs[2]), 1, self.groups)

    def from_lhs(self, grid: Grid) -> Grid:
        return _merge(grid, self._l_axis).transpose(_inverse(self.specs[0]))

    def from_rhs(self, grid: Grid) -> Grid:
        return _merge(grid, 0).transpose(_inverse(self.specs[1]))

    def from_out(self, grid: Grid) -> Grid:
        return _merge(grid, 1).transpose(_inverse(self.specs[2]))

    @property
    def _l_axis(self) -> int:
        return 0 if self.by_batch else 1


def _split(grid: Grid, axis: int, groups: int) -> Grid:
    """The groups along an axis, as the first axis."""
    if groups == 1:
        return Grid(grid.cells[None], (np.array([0, 1]), *grid.cuts))
    shape = grid.shape
    grid = grid.reshape([*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]])
    return grid.transpose([axis, *(d for d in range(grid.ndim) if d != axis)])


def _merge(grid: Grid, axis: int) -> Grid:
    """The first axis, as groups along an axis."""
    if grid.shape[0] == 1:
        return Grid(grid.cells[0], grid.cuts[1:])
    grid = grid.transpose([*range(1, axis + 1), 0, *range(axis + 1, grid.ndim)])
    return grid.reshape([*grid.shape[:axis], grid.shape[axis] * grid.shape[axis + 1], *grid.shape[axis + 2 :]])


def _swapped(grid: Grid) -> Grid:
    return grid.transpose([0, 2, 1, *range(3, grid.ndim)])


def _has_constants(fact: Fact) -> bool:
    return bool((fact.value.cells == CONST).any())


def _live(fact: Fact) -> Grid:
    return fact.value.map(lambda c: c == LIVE)


def _inverse(permutation: Sequence[int]) -> list[int]:
    return [int(i) for i in np.argsort(permutation)]
