"""What random programs and whole models found wrong, kept."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from programs.check import Trial, always_compacting
from programs.program import Data, Param, Program

LIVE = np.arange(8) % 3 > 0
COLUMNS = Param((8, 8), 0.0, 0.4, np.broadcast_to(LIVE, (8, 8)))
DENSE = Param((8, 8), 0.0, 0.4, None)
ROW = Param((8,), 0.5, 0.5, None)


@dataclasses.dataclass(frozen=True, eq=False)
class Found(Program):
    """A program written down."""

    function: Callable = lambda p, x: x

    def fn(self) -> Callable:
        return self.function


def found(function: Callable, *params: Param, shape: tuple[int, ...] = (2, 4, 8)) -> Found:
    return Found(params, (Data(shape),), (), (), function=function)


def convolved(x, w):
    return jax.lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


def constant_rows(p, x):
    """A batch whose first two elements are constants, each with a row and channels of its own."""
    first = jnp.broadcast_to(jnp.where(LIVE, 0, p[0][:, None, None] * p[1]), (2, 4, 8))
    return convolved(jnp.concatenate([first, x[0] @ p[2] + p[1]]), p[3])[1:]


def zero_for_each_other(f):
    """Both factors are zero in the same places: neither is needed there for the other's sake."""

    def fn(p, x):
        y = f(x[0] @ p[0])
        return y * jnp.tanh(y)

    return fn


FOUND = {
    "a product of vectors": found(lambda p, x: x[0] @ p[0], Param((8,), 0.0, 1.0, LIVE), shape=(8,)),
    "a convolution of constants that differ along the batch": found(
        constant_rows, Param((2,), 0.5, 0.5, None), ROW, COLUMNS, Param((2, 8, 6), 0.0, 0.3, None)
    ),
    "less a bias behind constants": found(lambda p, x: jax.nn.relu(x[0] @ p[0] + p[1]) @ p[2] - p[3], COLUMNS, ROW, DENSE, ROW),
}


ZERO_TOO = {
    "div": lambda v: v / (1 + jnp.square(v)),
    "pow": lambda v: jnp.square(v) ** 1.5,
    "atan2": lambda v: jnp.arctan2(v, 1 + jnp.square(v)),
    "rem": lambda v: jax.lax.rem(v, 0.3 + jnp.square(v)),
    "sqrt": lambda v: jnp.sqrt(jnp.square(v)),
    "log1p": lambda v: jnp.log1p(jnp.square(v)),
}
FOUND |= {f"zeros for each other's sake: {n}": found(zero_for_each_other(f), COLUMNS) for n, f in ZERO_TOO.items()}


@pytest.mark.parametrize("name", [n for n in FOUND if "sake" in n])
def test_equals_the_masked_program_whole(name):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        assert Trial(FOUND[name], 0, "float64").check(packed=True, derivatives="sqrt" not in name) is None


@pytest.mark.parametrize("name", [n for n in FOUND if "sqrt" not in n])
def test_equals_the_masked_program(name):
    with jax.enable_x64(True), always_compacting(), jax.numpy_dtype_promotion("standard"):
        assert Trial(FOUND[name], 0, "float64").check(packed=True) is None
