"""A table of a GPU that nobody measured."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sparta_jax.machine import gpu as tables
from sparta_jax.specialize import choose


@contextlib.contextmanager
def table_by(write: Callable[[], object], directory: Path) -> Iterator[tables.Gpu | None]:
    """The H200's table, which `write` leaves in `directory`, the cache directory meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARTA_JAX_CACHE_DIR", str(directory))
        forget()
        write()
        forget()
        yield tables.gpu("NVIDIA H200")
    forget()


def forget() -> None:
    """Has tables looked for again, and kernels chosen again."""
    tables.forget()
    choose.forget()
