"""Cases of a table, several at a time: compiled together they take a fraction of the time that they take one after another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import pytest


def batches(names: Iterable[str], size: int = 10) -> list:
    """Tuples of `size` names, each a value to parametrize by: its id tells the first and the last of them."""
    names = list(names)
    parts = [tuple(names[i : i + size]) for i in range(0, len(names), size)]
    return [pytest.param(part, id="...".join(dict.fromkeys((part[0], part[-1])))) for part in parts]


def together(fns: Mapping[str, Callable], optimized: bool = True) -> Callable:
    """One compiled program of all functions: from a list with the arguments of each to the list of their results.

    What need not be `optimized` for what is tested of it compiles in two thirds of the time."""

    def run(arguments):
        results = []
        for (name, fn), args in zip(fns.items(), arguments, strict=True):
            with of_case(name):
                results.append(fn(*args))
        return results

    return jax.jit(run, compiler_options=None if optimized else {"xla_backend_optimization_level": "0"})


@contextlib.contextmanager
def of_case(name: str) -> Iterator[None]:
    """A failure inside says of which case of its batch it is."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the case {name!r}")
        raise
