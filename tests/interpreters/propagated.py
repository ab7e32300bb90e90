"""What propagation finds of a function, as arrays of cells, one for each element."""

import jax
import numpy as np

from sparta_jax.grid import Grid
from sparta_jax.interpreters.facts import CONST, LIVE, ZERO, Fact
from sparta_jax.interpreters.jaxprs import trace
from sparta_jax.interpreters.propagate import propagate

Z, C, L = int(ZERO), int(CONST), int(LIVE)


def found(fn, *facts, needs=None, dtypes=None):
    """The value cells of the outputs and the needs of the inputs, element by element; a fact is given as an array of cells."""
    cells = [np.asarray(f, np.uint8) for f in facts]
    dtypes = dtypes or ["float32"] * len(cells)
    shapes = [jax.ShapeDtypeStruct(c.shape, d) for c, d in zip(cells, dtypes, strict=True)]
    program, _ = trace(fn, *shapes)
    wanted = None if needs is None else [Grid.of_elements(np.asarray(n, bool)) for n in needs]
    facts = propagate(program, [Fact(Grid.of_elements(c)) for c in cells], wanted)
    outs = [facts.value(v).value.elements() for v in program.outputs]
    return outs, [facts.need(v).elements() for v in program.inputs]


def value_of(fn, *facts, **kwargs):
    (out, *_), _ = found(fn, *facts, **kwargs)
    return out


def live(*shape):
    return np.full(shape, LIVE)


def channels(n: int, *dead: int, value=LIVE) -> np.ndarray:
    return np.where(np.isin(np.arange(n), dead), ZERO, value)


def same(got, expected):
    np.testing.assert_array_equal(got, np.broadcast_to(expected, got.shape))
