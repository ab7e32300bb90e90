"""A word to the user who waits."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

PATIENCE = 2.0  # seconds


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """Says on standard error what is being done once it has taken two seconds, and at its end how long it took."""
    start = time.perf_counter()
    try:
        with after(PATIENCE, lambda: print(f"sparta_jax: {what} ...", file=sys.stderr, flush=True)):
            yield
    finally:
        if (took := time.perf_counter() - start) > PATIENCE:
            print(f"sparta_jax: {what}: {took:.1f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def after(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Calls `act` in a thread of its own once the block has taken so long."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
