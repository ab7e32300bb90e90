"""A random program as data: statements of Python source over masked params and data, and the scopes that write them."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import derivatives

SIZES = (4, 6, 8)
LARGEST = 256  # elements of one value
NAMESPACE = {"jax": jax, "jnp": jnp, "lax": lax, "np": np, "own": derivatives}
Shape = tuple[int, ...]


class Skip(Exception):  # noqa: N818
    """No value in scope suits what was to be drawn."""


@dataclasses.dataclass(frozen=True, eq=False)
class Param:
    """A param: normal numbers around `mean`, and which of them live (None: dense)."""

    shape: Shape
    mean: float
    deviation: float
    mask: np.ndarray | None

    def draw(self, rng: np.random.Generator, dtype: str) -> np.ndarray:
        return np.asarray(self.mean + self.deviation * rng.normal(size=self.shape), dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data argument: normal numbers, or integers of `[0, high)`."""

    shape: Shape
    high: int | None = None

    def draw(self, rng: np.random.Generator, dtype: str) -> np.ndarray:
        if self.high is None:
            return np.asarray(rng.normal(size=self.shape), dtype)
        return np.asarray(rng.integers(self.high, size=self.shape), "int32")


@dataclasses.dataclass(frozen=True)
class Statement:
    """Source that defines `targets`, values of the given shapes."""

    text: str
    targets: tuple[str, ...]
    shapes: tuple[Shape, ...]

    def reads(self, name: str) -> bool:
        return re.search(rf"\b{name}\b", self.text) is not None


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """`fn(p, x) -> outputs`, with lists of params `p` and of data `x`.

    Attributes:
      reverse: whether it has a reverse-mode derivative.
      derived: whether the program is the gradient of its outputs' sum.
    """

    params: tuple[Param, ...]
    data: tuple[Data, ...]
    statements: tuple[Statement, ...]
    outputs: tuple[str, ...]
    reverse: bool = True
    derived: bool = False

    @property
    def source(self) -> str:
        lines = [line for s in self.statements for line in s.text.split("\n")]
        return "\n    ".join(["def fn(p, x):", *lines, f"return [{', '.join(self.outputs)}]"])

    def __str__(self) -> str:
        masks = [None if p.mask is None else p.mask.astype(int).tolist() for p in self.params]
        inputs = [*(f"p[{i}]: {p.shape}, mask {m}" for i, (p, m) in enumerate(zip(self.params, masks, strict=True)))]
        inputs += [f"x[{i}]: {d.shape}" + (f", integers below {d.high}" if d.high else "") for i, d in enumerate(self.data)]
        note = ["# and its gradient in p is the program"] if self.derived else []
        return "\n".join([self.source, *note, *(f"# {line}" for line in inputs)])

    def fn(self) -> Callable:
        names = dict(NAMESPACE)
        exec(compile(self.source, "<random program>", "exec"), names)
        fn = names["fn"]
        return jax.grad(lambda p, x: total(fn(p, x))) if self.derived else fn


def total(outputs: Sequence[jax.Array]) -> jax.Array:
    """A weighted sum of all elements."""
    weights = [np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype) for y in outputs]
    return sum(jnp.sum(y * w) for y, w in zip(outputs, weights, strict=True))


class Scope:
    """Values that statements to come may read; writes a program, or the body of a function in one."""

    def __init__(self, rng: random.Random, outer: Scope | None = None):
        self.rng, self.outer = rng, outer
        self.values: dict[str, Shape] = {}
        self.statements: list[Statement] = []
        self.root: Scope = self if outer is None else outer.root
        self.depth = 0 if outer is None else outer.depth + 1
        if outer is None:
            self.params: list[Param] = []
            self.data: list[Data] = []
            self.channels: dict[int, list[np.ndarray]] = {}
            self.names = 0
            self.reverse = True

    # -- drawing

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def choose(self, items: Sequence):
        return items[self.rng.randrange(len(items))]

    def size(self, lead: Shape = ()) -> int:
        return self.choose([n for n in SIZES if np.prod(lead, dtype=int) * n <= LARGEST] or [2])

    def order(self, n: int) -> list[int]:
        return self.rng.sample(range(n), n)

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.rng.getrandbits(32))

    def pick(self, test: Callable[[Shape], bool] = lambda shape: True) -> tuple[str, Shape]:
        """A value whose shape passes the test, most often a recent one."""
        fits = [(name, shape) for name, shape in self.values.items() if test(shape)]
        if not fits:
            raise Skip
        return self.choose(fits[-3:] if self.chance(0.6) else fits)

    # -- writing

    def fresh(self, prefix: str) -> str:
        self.root.names += 1
        return f"{prefix}{self.root.names}"

    def let(self, text: str, *shapes: Shape, before: str = "") -> tuple[str, ...]:
        """Defines values by an expression; `before` is source that it needs."""
        if any(np.prod(s, dtype=int) > LARGEST or not all(s) for s in shapes):
            raise Skip
        targets = tuple(self.fresh("v") for _ in shapes)
        self.statements.append(Statement(f"{before}{', '.join(targets)} = {text}", targets, shapes))
        self.values.update(zip(targets, shapes, strict=True))
        return targets

    def weight(self, shape: Shape, fan_in: int) -> str:
        return self._param(shape, 0.0, fan_in**-0.5)

    def dead_columns(self, shape: Shape, fan_in: int) -> str:
        """A weight of which some slices of the last axis are dead."""
        mask = np.broadcast_to(self._live(shape[-1]), shape)
        self.root.params.append(Param(shape, 0.0, fan_in**-0.5, mask))
        return f"p[{len(self.root.params) - 1}]"

    def bias(self, shape: Shape) -> str:
        return self._param(shape, 0.0, 0.5)

    def scale(self, shape: Shape) -> str:
        return self._param(shape, 1.0, 0.3)

    def _param(self, shape: Shape, mean: float, deviation: float) -> str:
        params = self.root.params
        alike = [i for i, p in enumerate(params) if p.shape == shape and p.mean == mean]
        if alike and self.chance(0.15):
            return f"p[{self.choose(alike)}]"
        turned = [i for i, p in enumerate(params) if p.shape == shape[::-1] and p.mean == mean and len(shape) == 2]
        if turned and self.chance(0.1):
            return f"p[{self.choose(turned)}].T"
        params.append(Param(shape, mean, deviation, self._mask(shape)))
        return f"p[{len(params) - 1}]"

    def integers(self, shape: Shape, high: int) -> str:
        self.root.data.append(Data(shape, high))
        return f"x[{len(self.root.data) - 1}]"

    # -- masks

    def _mask(self, shape: Shape) -> np.ndarray | None:
        kind = self.rng.random()
        if kind < 0.2:
            return None
        if kind < 0.65 or len(shape) == 1:
            return self._channel_mask(shape)
        if kind < 0.75 and len(shape) > 1:
            return self._channel_mask(shape) & self._channel_mask(shape)
        if kind < 0.9:
            return self.generator().random(shape) < 0.5
        if kind < 0.97:
            mask = self.generator().random([-(-n // 2) for n in shape]) < 0.5
            for axis, n in enumerate(shape):
                mask = np.take(mask, np.arange(n) // 2, axis)
            return mask
        return np.zeros(shape, bool)

    def _channel_mask(self, shape: Shape) -> np.ndarray:
        axis = self.rng.randrange(len(shape)) if self.chance(0.5) else len(shape) - 1
        live = self._live(shape[axis])
        return np.broadcast_to(live.reshape([-1 if d == axis else 1 for d in range(len(shape))]), shape)

    def _live(self, n: int) -> np.ndarray:
        """Live channels: most often a set that other params of this size share, so that writers agree, or nearly."""
        known = self.root.channels.setdefault(n, [])
        if known and self.chance(0.6):
            return self.choose(known)
        generator = self.generator()
        live = generator.random(n) < 0.55
        if n % 2 == 0 and self.chance(0.3):
            live = np.repeat(live[: n // 2], 2)
        known.append(live)
        return live
