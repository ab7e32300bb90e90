"""The time that a run may take on a device that is lent."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sparta_jax.progress import after


@dataclasses.dataclass
class Budget:
    """A task is begun where one as long as the longest so far would still end in time.

    Attributes:
      until: when the last one should have ended, by `clock`.
      longest: seconds of the longest so far.
    """

    until: float
    clock: Callable[[], float] = time.monotonic
    longest: float = 0.0

    def allows(self) -> bool:
        return self.clock() + self.longest <= self.until

    @contextmanager
    def spent(self) -> Iterator[None]:
        start = self.clock()
        yield
        self.longest = max(self.longest, self.clock() - start)

    def part(self, share: float) -> Budget:
        """For a phase that may take this share of what is left."""
        now = self.clock()
        return Budget(now + share * (self.until - now), self.clock)


@contextmanager
def ended_after(seconds: float, end: Callable[[int], object] = os._exit) -> Iterator[None]:
    """Ends the process, where a task hangs, with status 3; what was written to files stays."""

    def stop():
        print("out of time in the middle of a case: ended; the results hold all cases before it", flush=True)
        end(3)

    with after(max(0.0, seconds), stop):
        yield
