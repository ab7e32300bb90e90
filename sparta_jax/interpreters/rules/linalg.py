"""Rules for linear algebra and Fourier transforms: inside a matrix everything mixes, matrices and right-hand sides do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p
from jax.lax import FftType

from ...grid import Grid, combine
from ..facts import CONST, LIVE, ZERO, Fact, Need
from ..registry import backward, forward
from .reduction import running
from .shapes import result_shapes

# How many of the last axes of each operand are mixed.
DECOMPOSITIONS: dict[Primitive, tuple[int, ...]] = {
    p.cholesky_p: (2,),
    p.eig_p: (2,),
    p.eigh_p: (2,),
    p.hessenberg_p: (2,),
    p.householder_product_p: (2, 1),
    p.lu_p: (2,),
    p.qr_p: (2,),
    p.schur_p: (2,),
    p.svd_p: (2,),
    p.tridiagonal_p: (2,),
}


def _register_decomposition(primitive: Primitive, mixed: tuple[int, ...]) -> None:
    @forward(primitive)
    def decomposition_forward(*xs: Fact, **params) -> Fact | list[Fact]:
        """As live as the whole matrix; factors of a zero matrix are constants."""
        shapes = result_shapes(primitive, params, *(x.shape for x in xs))
        if any(0 in x.shape for x in xs):
            outs = [Fact.live(shape) for shape in shapes]
        else:
            most = _any_of_batch([x.value for x in xs], mixed, np.maximum).map(lambda c: np.maximum(c, CONST))
            outs = [Fact(most.broadcast(shape, range(most.ndim))) for shape in shapes]
        return outs if primitive.multiple_results else outs[0]

    @backward(primitive)
    def decomposition_backward(outs: Need | list[Need], *xs: Fact, **_) -> list[Need]:
        """A matrix is needed iff one of its results is."""
        outs = [outs] if isinstance(outs, Grid) else outs
        batch = len(xs[0].shape) - mixed[0]
        need = _any_of_batch(outs, [out.ndim - batch for out in outs], np.logical_or)
        return [need.broadcast(x.shape, range(batch)) for x in xs]


for _primitive, _mixed in DECOMPOSITIONS.items():
    _register_decomposition(_primitive, _mixed)


@forward(p.triangular_solve_p)
def triangular_solve_forward(a: Fact, b: Fact, *, left_side, lower, transpose_a, **_) -> Fact:
    """Substitution keeps zeros until it meets the first other element of a right-hand side."""
    if 0 in b.shape:
        return Fact.live(b.shape)
    axis, reverse = _substitution(b, left_side, lower, transpose_a)
    return _solution([a], running(np.maximum, b.value, axis, reverse))


@backward(p.triangular_solve_p)
def triangular_solve_backward(out: Need, a: Fact, b: Fact, *, left_side, lower, transpose_a, **_) -> tuple[Need, Need]:
    """A right-hand side is needed up to its last needed unknown; the matrix iff one of its unknowns is."""
    axis, reverse = _substitution(b, left_side, lower, transpose_a)
    return _need_of_matrix(out, a, 2), running(np.logical_or, out, axis, not reverse)


@forward(p.tridiagonal_solve_p)
def tridiagonal_solve_forward(lower: Fact, diagonal: Fact, upper: Fact, b: Fact, **_) -> Fact:
    """Zero where a right-hand side is zero throughout."""
    if 0 in b.shape:
        return Fact.live(b.shape)
    columns = b.value.reduce([len(b.shape) - 2], np.maximum, keepdims=True).broadcast(b.shape)
    return _solution([lower, diagonal, upper], columns)


@backward(p.tridiagonal_solve_p)
def tridiagonal_solve_backward(out: Need, lower: Fact, diagonal: Fact, upper: Fact, b: Fact, **_) -> list[Need]:
    """A right-hand side is needed iff one of its unknowns is, the matrix iff any is."""
    columns = out.reduce([out.ndim - 2], keepdims=True).broadcast(b.shape)
    return [*(_need_of_matrix(out, x, 1) for x in (lower, diagonal, upper)), columns]


@forward(p.fft_p)
def fft_forward(x: Fact, *, fft_type, fft_lengths, **_) -> Fact:
    """Zero where all that is transformed together is."""
    lengths = list(fft_lengths)
    if fft_type == FftType.RFFT:
        lengths[-1] = lengths[-1] // 2 + 1
    elif fft_type != FftType.IRFFT:
        lengths[-1] = x.shape[-1]
    batch = len(x.shape) - len(lengths)
    if 0 in x.shape:
        return Fact.live([*x.shape[:batch], *lengths])
    return Fact(_any_of_batch([x.value], [len(lengths)], np.maximum).broadcast([*x.shape[:batch], *lengths], range(batch)))


@backward(p.fft_p)
def fft_backward(out: Need, x: Fact, *, fft_lengths, **_) -> tuple[Need]:
    """All that is transformed together is needed iff one of its results is."""
    return (_need_of_matrix(out, x, len(fft_lengths)),)


def _any_of_batch(grids: Sequence[Grid], mixed: Sequence[int], join: np.ufunc) -> Grid:
    """What holds of each batch element: `join` over the last `mixed[i]` axes of each grid, and over the grids."""
    of_batch = [g.reduce(range(g.ndim - n, g.ndim), join) for g, n in zip(grids, mixed, strict=True)]
    return combine(lambda *cells: join.reduce(np.broadcast_arrays(*cells)), *of_batch)


def _need_of_matrix(out: Need, x: Fact, mixed: int) -> Need:
    batch = len(x.shape) - mixed
    return out.reduce(range(batch, out.ndim)).broadcast(x.shape, range(batch))


def _solution(matrix: Sequence[Fact], b: Grid) -> Fact:
    """As `b`, but live where the matrix is, unless it is zero."""
    mixed = [len(x.shape) - (b.ndim - 2) for x in matrix]
    most = _any_of_batch([x.value for x in matrix], mixed, np.maximum).broadcast(b.shape, range(b.ndim - 2))
    return Fact(combine(lambda value, m: np.where((value != ZERO) & (m == LIVE), LIVE, value), b, most))


def _substitution(b: Fact, left_side: bool, lower: bool, transposed: bool) -> tuple[int, bool]:
    """The axis along which unknowns are eliminated, and whether from its end."""
    return len(b.shape) - (2 if left_side else 1), (lower == left_side) == transposed
