"""JAX's own sparse arrays as contenders: BCOO and BCSR of single elements, multiplied from the left as `(w.T @ x.T).T`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.sparse import BCOO, BCSR

from .gpu_cases import Case
from .gpu_contenders import DENSE, operands

FORMATS = {"jax bcoo": BCOO, "jax bcsr": BCSR}
MOST_BYTES = 16 << 30  # of what one row of x for every live element may take, where it is written down


def ways(case: Case) -> tuple[dict[str, Callable[..., Any]], dict[str, str]]:
    """Jitted functions of what `arrays` gives, by name, and why others do not serve."""
    if case.what != "forward":
        return {}, {}
    gathered = case.tesa().nnz * case.m * jnp.dtype(case.dtype).itemsize
    if gathered > MOST_BYTES:
        return {}, dict.fromkeys(FORMATS, f"may write {gathered / 2**30:.0f} GiB of gathered rows")
    return dict.fromkeys(FORMATS, jax.jit(lambda x, w: (w @ x.T).T)), {}


def arrays(case: Case, name: str) -> tuple[Any, Any]:
    """`x`, and the weight's transpose in the contender's format."""
    x, w = operands(case, DENSE)
    return x, FORMATS[name].fromdense(w.T, nse=case.tesa().nnz)
