"""Schedules: at which steps masks change, and how dense they are then."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

import numpy as np

from ..errors import SpartaTypeError, SpartaValueError


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Masks change at the steps `begin, begin + every, ...` up to `end`.

    Attributes:
      begin, end: the first step and the last one that may be; the optimizer's first step is 0.
      every: steps between two changes, at least 1.
    """

    begin: int
    end: int
    every: int

    def __post_init__(self) -> None:
        for name in ("begin", "end", "every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise SpartaTypeError(f"{name}={value!r} is no integer")
        if not 0 <= self.begin <= self.end or self.every < 1:
            raise SpartaValueError(
                f"begin={self.begin}, end={self.end}, every={self.every}: needs 0 <= begin <= end and every >= 1"
            )

    @property
    def steps(self) -> range:
        """The steps at which masks change."""
        return range(self.begin, self.end + 1, self.every)

    def is_due(self, step: Any) -> Any:
        """Whether masks change at a step; an integer or a traced one."""
        return (step >= self.begin) & (step <= self.end) & ((step - self.begin) % self.every == 0)


@dataclasses.dataclass(frozen=True)
class Densities(Schedule):
    """As a `Schedule`, with the density at each change: from `initial` to `final`, on a polynomial.

    Attributes:
      initial, final: share of live units before the first change and at the last one.
      power: of the polynomial.
    """

    final: float
    initial: float = 1.0
    power: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("initial", "final"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise SpartaTypeError(f"{name}={value!r} is no number")
            if not 0 <= float(value) <= 1:
                raise SpartaValueError(f"{name}={value} is outside [0, 1]; it is the share that lives")
        if self.final > self.initial:
            raise SpartaValueError(f"final={self.final} is above initial={self.initial}: pruning does not bring weights back")

    def density(self, step: int) -> float:
        """The share that lives after the change at a step."""
        last = self.steps[-1]
        progress = 1.0 if last == self.begin else (min(max(step, self.begin), last) - self.begin) / (last - self.begin)
        return self.final + (self.initial - self.final) * (1 - progress) ** self.power


def check_schedule(schedule: Any, kind: type[Schedule]) -> None:
    """Raises `SpartaTypeError` unless it is a schedule of that kind."""
    if isinstance(schedule, kind):
        return
    dense = kind is Densities
    what = "how dense masks become: `one_shot(...)` and `polynomial(...)` do" if dense else "when: `periodic(...)` does"
    raise SpartaTypeError(f"schedule={schedule!r} does not say {what}")


def periodic(*, every: int, begin: int | None = None, end: int) -> Schedule:
    """Masks change every so many steps; from step `every` on, unless told, up to `end`."""
    return Schedule(every if begin is None else begin, end, every)


def one_shot(step: int, density: float) -> Densities:
    """All at once."""
    return Densities(step, step, 1, density)


def polynomial(*, begin: int, end: int, every: int, final: float, initial: float = 1.0, power: float = 3.0) -> Densities:
    """Many at first, when there is much to choose from, fewer towards the end.

    Zhu and Gupta, "To prune, or not to prune", 2017. The last change at or before `end` reaches `final`.
    """
    return Densities(begin, end, every, final, initial, power)
