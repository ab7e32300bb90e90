"""Rules for primitives that move elements and change none."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from ...grid import Grid, combine, concatenate
from ..facts import Fact, Need, either
from ..registry import backward, forward
from .elementwise import unbroadcast


@forward(p.reshape_p)
def reshape_forward(x: Fact, *, new_sizes, **_) -> Fact:
    """The same elements in row-major order."""
    return Fact(x.value.reshape(new_sizes))


@backward(p.reshape_p)
def reshape_backward(out: Need, x: Fact, **_) -> tuple[Need]:
    return (out.reshape(x.shape),)


@forward(p.squeeze_p)
def squeeze_forward(x: Fact, *, dimensions, **_) -> Fact:
    """Drops axes of size 1."""
    return Fact(x.value.reshape([n for d, n in enumerate(x.shape) if d not in dimensions]))


@backward(p.squeeze_p)
def squeeze_backward(out: Need, x: Fact, **_) -> tuple[Need]:
    return (out.reshape(x.shape),)


@forward(p.transpose_p)
def transpose_forward(x: Fact, *, permutation, **_) -> Fact:
    """Axis `i` of the output is axis `permutation[i]` of the operand."""
    return Fact(x.value.transpose(permutation))


@backward(p.transpose_p)
def transpose_backward(out: Need, x: Fact, *, permutation, **_) -> tuple[Need]:
    return (out.transpose([int(i) for i in np.argsort(permutation)]),)


@forward(p.broadcast_in_dim_p)
def broadcast_in_dim_forward(x: Fact, *, shape, broadcast_dimensions, **_) -> Fact:
    """Axis `i` becomes axis `broadcast_dimensions[i]`; size 1 stretches, new axes repeat."""
    return Fact(x.value.broadcast(shape, broadcast_dimensions))


@backward(p.broadcast_in_dim_p)
def broadcast_in_dim_backward(out: Need, x: Fact, *, broadcast_dimensions, **_) -> tuple[Need]:
    """An element is needed iff one of its copies is."""
    need = out.reduce([d for d in range(out.ndim) if d not in broadcast_dimensions])
    return (unbroadcast(need, x.shape),)


@forward(p.slice_p)
def slice_forward(x: Fact, *, start_indices, limit_indices, strides, **_) -> Fact:
    """`out[i] = x[start + i * stride]`."""
    return Fact(x.value.slice(start_indices, limit_indices, strides))


@backward(p.slice_p)
def slice_backward(out: Need, x: Fact, *, start_indices, strides, **_) -> tuple[Need]:
    """What lies outside the slice is not needed."""
    strides = strides or (1,) * out.ndim
    spread = [(n - 1) * stride + 1 if n else 0 for n, stride in zip(out.shape, strides, strict=True)]
    high = [n - start - taken for n, start, taken in zip(x.shape, start_indices, spread, strict=True)]
    return (out.pad(False, start_indices, high, [s - 1 for s in strides]),)


@forward(p.concatenate_p)
def concatenate_forward(*xs: Fact, dimension, **_) -> Fact:
    """The operands behind one another."""
    return Fact(concatenate([x.value for x in xs], dimension))


@backward(p.concatenate_p)
def concatenate_backward(out: Need, *xs: Fact, dimension, **_) -> list[Need]:
    return _pieces(out, dimension, [x.shape[dimension] for x in xs])


@forward("split")
def split_forward(x: Fact, *, sizes, axis, **_) -> list[Fact]:
    """The inverse of a concatenation."""
    return [Fact(piece) for piece in _pieces(x.value, axis, sizes)]


@backward("split")
def split_backward(outs: list[Need], x: Fact, *, axis, **_) -> tuple[Need]:
    return (concatenate(outs, axis),)


@forward("stack")
def stack_forward(*xs: Fact, axis, **_) -> Fact:
    """The operands behind one another along a new axis."""
    return Fact(concatenate([_with_axis(x.value, axis) for x in xs], axis))


@backward("stack")
def stack_backward(out: Need, *xs: Fact, axis, **_) -> list[Need]:
    return [piece.reduce([axis]) for piece in _pieces(out, axis, [1] * len(xs))]


@forward("unstack")
def unstack_forward(x: Fact, *, axis, **_) -> list[Fact]:
    """The slices along an axis, which they lose."""
    return [Fact(piece.reduce([axis], np.maximum)) for piece in _pieces(x.value, axis, [1] * x.shape[axis])]


@backward("unstack")
def unstack_backward(outs: list[Need], x: Fact, *, axis, **_) -> tuple[Need]:
    return (concatenate([_with_axis(out, axis) for out in outs], axis),)


@forward("tile")
def tile_forward(x: Fact, *, reps, **_) -> Fact:
    """The operand `reps[i]` times behind itself along axis `i`."""
    grid = x.value
    for axis, count in enumerate(reps):
        grid = concatenate([grid] * count, axis) if count else Grid.uniform(_resized(grid.shape, axis, 0), np.uint8(0))
    return Fact(grid)


@backward("tile")
def tile_backward(out: Need, x: Fact, *, reps, **_) -> tuple[Need]:
    """An element is needed iff one of its copies is."""
    for axis, count in enumerate(reps):
        copies = _pieces(out, axis, [x.shape[axis]] * count)
        out = functools.reduce(either, copies, Grid.uniform(_resized(out.shape, axis, x.shape[axis]), False))
    return (out,)


@forward(p.pad_p)
def pad_forward(x: Fact, padding: Fact, *, padding_config, **_) -> Fact:
    """The operand, and the padding value around and between its elements."""
    low, high, interior = _padding(padding_config)
    return Fact(x.value.pad(padding.value.cells.reshape(()), low, high, interior))


@backward(p.pad_p)
def pad_backward(out: Need, x: Fact, padding: Fact, *, padding_config, **_) -> tuple[Need, Need]:
    """The padding value is needed iff a needed element is padding."""
    low, high, interior = _padding(padding_config)
    if 0 in x.shape:
        return Grid.uniform(x.shape, False), Grid.uniform((), bool(out.cells.any()))
    spread = out.pad(False, [-n for n in low], [-n for n in high])
    need = spread.slice([0] * x.value.ndim, spread.shape, [n + 1 for n in interior])
    around = combine(np.logical_and, out, Grid.uniform(x.shape, False).pad(True, low, high, interior))
    return need, Grid.uniform((), bool(around.cells.any()))


@forward(p.rev_p)
def rev_forward(x: Fact, *, dimensions, **_) -> Fact:
    """Axes in the opposite order."""
    return Fact(x.value.reverse(dimensions))


@backward(p.rev_p)
def rev_backward(out: Need, x: Fact, *, dimensions, **_) -> tuple[Need]:
    return (out.reverse(dimensions),)


@forward(p.device_put_p, "optimization_barrier")
def identities_forward(*xs: Fact, **_) -> list[Fact]:
    """`outs[i] = xs[i]`."""
    return [Fact(x.value) for x in xs]


@backward(p.device_put_p, "optimization_barrier")
def identities_backward(outs: list[Need], *xs: Fact, **_) -> list[Need]:
    return outs


def _pieces(grid: Grid, axis: int, sizes: Sequence[int]) -> list[Grid]:
    """Consecutive slices of `sizes` along an axis."""
    ends = np.cumsum(sizes)
    at = lambda position: [position if d == axis else 0 for d in range(grid.ndim)]
    until = lambda position: [position if d == axis else n for d, n in enumerate(grid.shape)]
    return [grid.slice(at(int(end - n)), until(int(end))) for n, end in zip(sizes, ends, strict=True)]


def _with_axis(grid: Grid, axis: int) -> Grid:
    return grid.reshape([*grid.shape[:axis], 1, *grid.shape[axis:]])


def _resized(shape: Sequence[int], axis: int, size: int) -> list[int]:
    return [*shape[:axis], size, *shape[axis + 1 :]]


def _padding(config) -> tuple[list[int], list[int], list[int]]:
    low, high, interior = zip(*config, strict=True) if config else ((), (), ())
    return [int(n) for n in low], [int(n) for n in high], [int(n) for n in interior]
