"""Times several callables in one run, interleaved, so that a machine's moods fall on all of them alike."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call, one sample per round.

    Attributes:
      samples: in the order of the rounds; each is the mean over the calls of its round.
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def min(self) -> float:
        return min(self.samples)

    @property
    def spread(self) -> float:
        """The interquartile range as a share of the median; 0 for a single sample."""
        if len(self.samples) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (upper - lower) / self.median


def ratio(baseline: Timing, other: Timing) -> float:
    """How many times faster `other` is: the median over rounds of both times in the *same* round."""
    return statistics.median(b / o for b, o in zip(baseline.samples, other.samples, strict=True))


def interleave(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    sample_seconds: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Timing]:
    """Times each callable once per round; every round starts with another one.

    Args:
      calls: by name; each returns when its work is done (`jax.block_until_ready`). They are called a few times before the
        first round: for compilation and caches, and to find out how often a round must call them.
      rounds: samples per callable, at least 1.
      sample_seconds: a callable that takes less than this is called repeatedly within a round, and the mean is the sample.
      progress: called behind each round with the rounds done and their number.
    """
    names = list(calls)
    repeats = {name: _repeats(calls[name], sample_seconds) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            samples[name].append(_sample(calls[name], repeats[name]))
        if progress is not None:
            progress(r + 1, rounds)
    return {name: Timing(tuple(s)) for name, s in samples.items()}


def _sample(call: Callable[[], object], repeats: int) -> float:
    """The mean seconds of `repeats` calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call: Callable[[], object], sample_seconds: float) -> int:
    """How many calls fill a sample; the first call, which compiles, does not count."""
    call()
    seconds = min(_sample(call, 1) for _ in range(3))
    return max(1, math.ceil(sample_seconds / max(seconds, 1e-9)))
