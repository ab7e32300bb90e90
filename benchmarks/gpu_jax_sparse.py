"""JAX's own sparse arrays as contenders: BCOO and BCSR of single elements, multiplied from the left as `(w.T @ x.T).T`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.experimental.sparse import BCOO, BCSR

from .gpu_cases import Case
from .gpu_contenders import DENSE, Way, operands

FORMATS = {"jax bcoo": BCOO, "jax bcsr": BCSR}
MOST_BYTES = 16 << 30  # of what one row of x for every live element may take, where it is written down


def ways(case: Case) -> tuple[dict[str, Way], dict[str, str]]:
    """Contenders by name, of what `arrays` gives, and why others do not serve."""
    if case.what != "forward":
        return {}, {}
    gathered = case.tesa().nnz * case.m * jnp.dtype(case.dtype).itemsize
    if gathered > MOST_BYTES:
        return {}, dict.fromkeys(FORMATS, f"may write {gathered / 2**30:.0f} GiB of gathered rows")
    return {name: Way(lambda x, w: ((w @ x.T).T,), DENSE, f"{name} of single elements") for name in FORMATS}, {}


def arrays(case: Case, name: str) -> tuple[Any, Any]:
    """`x`, and the weight's transpose in the contender's format."""
    x, w = operands(case, DENSE)
    return x, FORMATS[name].fromdense(w.T, nse=case.tesa().nnz)
