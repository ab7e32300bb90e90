"""What propagation knows of a variable: two lattices, kept apart.

*Value*, found forward: `ZERO < CONST < LIVE`, an element's fact.

- `ZERO`: the element is zero, or counts as zero.
- `CONST`: it depends on the params alone, not on the data arguments: what a dead channel becomes behind a bias.
- `LIVE`: anything.

*Need*, found backward: whether an element can reach an output through partners that are not zero. Need never flows back into
value; the two meet only where a fact is read: an element is dead if it is zero or not needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax.core
import numpy as np

from ..grid import Grid, combine

ZERO, CONST, LIVE = np.uint8(0), np.uint8(1), np.uint8(2)
KNOWN_CAP = 1 << 20  # distinct elements; beyond it a constant of the program keeps its zeros, but not its values

Need = Grid


@dataclasses.dataclass(frozen=True, eq=False)
class Fact:
    """The value fact of one variable.

    Attributes:
      value: uint8 grid of `ZERO`, `CONST`, `LIVE`.
      known: the variable's value where it is a small constant of the program, else None.
    """

    value: Grid
    known: np.ndarray | None = None

    @classmethod
    def uniform(cls, shape: Sequence[int], value: np.uint8) -> Fact:
        return cls(Grid.uniform(shape, value))

    @classmethod
    def live(cls, shape: Sequence[int]) -> Fact:
        return cls.uniform(shape, LIVE)

    @classmethod
    def zero(cls, shape: Sequence[int]) -> Fact:
        return cls.uniform(shape, ZERO)

    @classmethod
    def const(cls, shape: Sequence[int]) -> Fact:
        return cls.uniform(shape, CONST)

    @classmethod
    def of_mask(cls, nonzero: Grid, value: np.uint8 = LIVE) -> Fact:
        """`value` where `nonzero` is True, `ZERO` elsewhere."""
        return cls(nonzero.map(lambda c: np.where(c, value, ZERO)))

    @classmethod
    def of_constant(cls, array) -> Fact:
        """The fact of a constant of the program; live where its value cannot be read now."""
        if isinstance(array, jax.core.Tracer):
            return cls.live(array.shape)
        shape, dtype = np.shape(array), getattr(array, "dtype", None) or np.asarray(array).dtype
        if jax.dtypes.issubdtype(dtype, jax.dtypes.extended) or not getattr(array, "is_fully_addressable", True):
            return cls.const(shape)
        if dtype == jax.dtypes.float0:  # the derivative of an integer
            return cls.zero(shape)
        host = np.asarray(array)
        grid = grid_of(host, lambda x: np.where(x != 0, CONST, ZERO))
        return cls(grid, host if distinct(host).size <= KNOWN_CAP else None)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def nonzero(self) -> Grid:
        """Boolean grid: where the value may differ from zero."""
        return self.value.map(lambda c: c != ZERO)

    @property
    def has_zeros(self) -> bool:
        return bool((self.value.cells == ZERO).any())

    @property
    def is_const(self) -> bool:
        """Whether no element depends on the data."""
        return not (self.value.cells == LIVE).any()

    def __or__(self, other: Fact) -> Fact:
        """The weaker of two facts, element by element: what holds where either may be the case."""
        return Fact(combine(np.maximum, self.value, other.value))


def distinct(array: np.ndarray) -> np.ndarray:
    """The array with size 1 along axes that repeat one slice (numpy's broadcasts: a mask `[batch, heads, seq, seq]`)."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)] if array.size else array


def grid_of(array: np.ndarray, fn: Callable[[np.ndarray], np.ndarray]) -> Grid:
    """The grid of `fn`, elementwise, of an array."""
    return Grid.of_elements(np.asarray(fn(distinct(array)))).broadcast(array.shape)


def needed(shape: Sequence[int]) -> Need:
    return Grid.uniform(shape, True)


def unneeded(shape: Sequence[int]) -> Need:
    return Grid.uniform(shape, False)


def either(a: Need, b: Need) -> Need:
    return combine(np.logical_or, a, b)


def both(a: Need, b: Need) -> Need:
    return combine(np.logical_and, a, b)


def dead(fact: Fact, need: Need) -> Grid:
    """Boolean grid: zero or not needed."""
    return combine(lambda v, n: (v == ZERO) | ~n, fact.value, need)
