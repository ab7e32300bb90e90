"""Times runners in interleaved rounds, some of which live in other processes."""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

SLOW = 8.0  # a runner that is so many times slower than the baseline is timed once
MIN_ROUNDS, MAX_ROUNDS = 5, 31
SLICE = 20e-3  # seconds of calls in a round
# Threads that another library left parked, or woke up on one core, need a moment to spread out.
REST, WARM = 4e-3, 15.0  # seconds of nothing, milliseconds of calls


class Runner(Protocol):
    """One way to compute a case."""

    name: str

    def slice(self, reps: int, warm_ms: float) -> tuple[float, bool]:
        """Seconds per call over `reps` calls, and whether another program took the core meanwhile."""
        ...

    def result(self) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Local:
    """A callable of this process that returns when its result is there.

    Attributes:
      flat: the array that is compared, of what the callable returns.
    """

    name: str
    call: Callable[[], Any]
    flat: Callable[[Any], np.ndarray] = np.asarray

    def slice(self, reps: int, warm_ms: float = 0.0) -> tuple[float, bool]:
        until = time.perf_counter() + warm_ms * 1e-3
        self.call()
        while time.perf_counter() < until:
            self.call()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        start = time.perf_counter()
        for _ in range(reps):
            self.call()
        seconds = (time.perf_counter() - start) / reps
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before

    def result(self) -> np.ndarray:
        return self.flat(self.call())


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a race found of one runner.

    Attributes:
      median, min: milliseconds per call, over the slices that nothing disturbed where those are five or more.
      spread: of these slices, (median - min) / min.
      rounds: slices in all; 1 for a runner that was too slow for more.
      error: relative, against the exact result; None where it is not a number.
    """

    median: float
    min: float
    spread: float
    rounds: int
    error: float | None

    @classmethod
    def of(cls, samples: Sequence[tuple[float, bool]], error: float) -> Measured:
        quiet = [seconds for seconds, disturbed in samples if not disturbed]
        used = quiet if len(quiet) >= MIN_ROUNDS else [seconds for seconds, _ in samples]
        median, least = statistics.median(used) * 1e3, min(used) * 1e3
        return cls(median, least, (median - least) / least, len(samples), error if math.isfinite(error) else None)


def race(
    runners: Sequence[Runner], exact: np.ndarray, *, threads: int, seconds: float
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Times all runners, the first being the baseline, for about so many seconds; and says of those that failed why."""
    gap, warm = (0.0, 0.0) if threads == 1 else (REST, WARM)
    samples: dict[str, list[tuple[float, bool]]] = {}
    errors, absent, lanes = {}, {}, []
    limit = math.inf
    for runner in runners:
        try:
            errors[runner.name] = relative_error(runner.result(), exact)
            once = min((runner.slice(1, 0.0) for _ in range(2)), key=lambda sample: sample[0])
        except Exception as error:  # a library that cannot do this case must not end the run
            absent[runner.name] = f"{type(error).__name__}: {error}"[:160]
            continue
        samples[runner.name] = [once]
        if limit == math.inf:
            limit = SLOW * once[0]
        if once[0] <= limit:
            samples[runner.name] = []
            lanes.append((runner, max(1, round(SLICE / max(once[0], 1e-7)))))
    deadline = time.perf_counter() + seconds
    for r in range(MAX_ROUNDS):
        if r >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for runner, reps in lanes[r % len(lanes) :] + lanes[: r % len(lanes)]:
            time.sleep(gap)
            samples[runner.name].append(runner.slice(reps, warm))
    return {name: Measured.of(taken, errors[name]) for name, taken in samples.items()}, absent


def relative_error(got: np.ndarray, exact: np.ndarray) -> float:
    """The norm of the difference over the norm of the exact result; infinite for another shape."""
    if got.shape != exact.shape:
        return math.inf
    return float(np.linalg.norm(got.astype(np.float64) - exact) / (np.linalg.norm(exact) or 1.0))


def busy_cores(before: tuple[float, float] | None, own: Sequence[int]) -> float | None:
    """How many cores other programs used since `before = cpu_seconds(own)` was taken."""
    now = cpu_seconds(own)
    if now is None or before is None:
        return None
    wall, spent = now[0] - before[0], now[1] - before[1]
    return round(max(0.0, spent / wall), 2) if wall > 0 else None


def cpu_seconds(own: Sequence[int]) -> tuple[float, float] | None:
    """The clock, and the CPU seconds that programs other than these processes have used; None where /proc does not say."""
    try:
        tick = os.sysconf("SC_CLK_TCK")
        with open("/proc/stat") as f:
            user, nice, system, _, _, irq, softirq, steal = (int(n) for n in f.readline().split()[1:9])
        ours = 0
        for pid in own:
            with open(f"/proc/{pid}/stat") as f:
                ours += sum(int(n) for n in f.read().rpartition(")")[2].split()[11:13])
    except (OSError, ValueError, AttributeError):
        return None
    return time.perf_counter(), (user + nice + system + irq + softirq + steal - ours) / tick
