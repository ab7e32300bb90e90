"""Whether this JAX has what the kernels are written in."""

from __future__ import annotations

import functools
import importlib.util

import jax


@functools.cache
def why_missing(backend: str) -> str | None:
    """A phrase where `jax.experimental.pallas` has no such backend (Triton's end is announced). To be asked last: this imports
    Pallas, which takes a third of a second."""
    if importlib.util.find_spec(f"jax.experimental.pallas.{backend}") is not None:
        return None
    return f"needs Pallas' {backend}, which jax {jax.__version__} has not"
