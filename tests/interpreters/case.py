"""A case: a small program with its operands, in the one table of all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Operand:
    """An array to draw: normal floats, or integers of `[low, high)`."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: int = -3
    high: int = 4

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        if self.dtype == "bool":
            return rng.random(self.shape) < 0.5
        if np.issubdtype(self.dtype, np.integer):
            return rng.integers(self.low, self.high, self.shape).astype(self.dtype)
        return rng.normal(size=self.shape).astype(self.dtype)


def ints(*shape: int, low: int = -3, high: int = 4) -> Operand:
    return Operand(shape, "int32", low, high)


def bools(*shape: int) -> Operand:
    return Operand(shape, "bool")


X = Operand((4, 6))
Case = tuple[Callable, list[Operand]]
CASES: dict[str, Case] = {}


def add(name: str, fn: Callable, *operands) -> None:
    assert name not in CASES, name
    CASES[name] = fn, [o if isinstance(o, Operand) else Operand(o) for o in operands]


def gradient(fn: Callable, argnums) -> Callable:
    """The gradient of a weighted sum of `fn`."""

    def scalar(*args):
        y = fn(*args)
        return (y * jnp.arange(1, y.size + 1, dtype=y.dtype).reshape(y.shape)).sum()

    return jax.grad(scalar, argnums)
