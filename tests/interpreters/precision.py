"""Small programs with the exact facts of their variables: `PRECISION[name] = Case`.

Facts are written as text, one letter an element: `.` zero, `c` constant (a param is one), `L` live, and in what is expected
`-` for what is not zero but needed by nobody. Rows stand side by side, matrices behind a `|`; what has fewer axes or an axis of
size 1 is repeated: `"c.c"` is a matrix whose middle column is zero, `"c . c"` one whose middle row is.
Expected are operands by name, `out` (or `out0`, `out1`), and what the program names by `mark`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable

import numpy as np
from jax.ad_checkpoint import checkpoint_name

from sparta_jax.grid import Grid
from sparta_jax.interpreters.facts import CONST, LIVE, ZERO, Fact

mark = checkpoint_name
LETTERS = {".": ZERO, "c": CONST, "L": LIVE}


def letters(text: str) -> np.ndarray:
    """The array of letters that a text stands for."""
    matrices = [[list(row) for row in matrix.split()] for matrix in text.split("|")]
    array = np.array(matrices)
    while array.shape[:1] == (1,):
        array = array[0]
    return array


@dataclasses.dataclass(frozen=True)
class Operand:
    """The fact of one operand: its text, spread to its shape."""

    text: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def fact(self) -> Fact:
        cells = np.vectorize(LETTERS.__getitem__, otypes=[np.uint8])(letters(self.text))
        return Fact(Grid.of_elements(np.broadcast_to(cells, self.shape)))


@dataclasses.dataclass(frozen=True)
class Case:
    """A program, the facts of its operands, and the letters of its variables."""

    fn: Callable
    operands: tuple[Operand, ...]
    expected: dict[str, str]


PRECISION: dict[str, Case] = {}


def L(*shape: int, text: str = "L", dtype: str = "float32") -> Operand:  # noqa: N802
    """Data of a shape."""
    return Operand(text, shape, dtype)


def c(*shape: int, text: str = "c", dtype: str = "float32") -> Operand:
    """Params of a shape."""
    return Operand(text, shape, dtype)


def add(name: str, fn: Callable, *operands: str | Operand, **expected: str) -> None:
    assert name not in PRECISION, name
    given = tuple(o if isinstance(o, Operand) else Operand(o, letters(o).shape) for o in operands)
    PRECISION[name] = Case(fn, given, expected)


def names(fn: Callable) -> list[str]:
    """The names of a program's operands."""
    return list(inspect.signature(fn).parameters)
