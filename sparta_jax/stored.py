"""Weights as they are stored: what each layout is made of."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .formats.bsr import BSR, Pattern
from .formats.csr import CSR, ELEMENT
from .problem import CSR_LAYOUT, DENSE, Layout
from .tesa import TeSA

Stored = jax.Array | BSR | CSR


def pack(dense: jax.Array, tesa: TeSA, layout: Layout) -> Stored:
    """`dense [K, N]`, zero where `tesa` is dead, in a layout. Traceable; the pattern is static."""
    if layout.format == "csr":
        return CSR.pack(dense, tesa)
    return dense if layout.block is None else BSR.pack(dense, tesa, layout.block)


def to_dense(weight: Stored) -> jax.Array:
    return weight.to_dense() if isinstance(weight, BSR | CSR) else weight


def layout_of(weight: Stored) -> Layout:
    if isinstance(weight, CSR):
        return CSR_LAYOUT
    return Layout("bsr", weight.block) if isinstance(weight, BSR) else DENSE


def arrays_of(weight: Stored) -> tuple[jax.Array, ...]:
    """The values, then the index tables."""
    if isinstance(weight, CSR):
        return weight.values, weight.indptr, weight.indices
    return (weight.blocks, weight.indptr, weight.indices) if isinstance(weight, BSR) else (weight,)


def of_arrays(arrays: Sequence[jax.Array], layout: Layout, shape: tuple[int, ...]) -> Stored:
    """The weight that `arrays_of` takes apart."""
    if layout == DENSE:
        return arrays[0]
    values, indptr, indices = arrays
    return (CSR if layout.format == "csr" else BSR)(values, indptr, indices, shape)


def values_shape(tesa: TeSA, layout: Layout) -> tuple[int, ...]:
    """The shape of the stored values."""
    if layout == DENSE:
        return tesa.shape
    return (tesa.nnz,) if layout.block is None else (tesa.nnzb(layout.block), *layout.block)


def values_at(dense: jax.Array, tesa: TeSA, layout: Layout) -> jax.Array:
    """The stored values of `dense [K, N]` alone; whole live blocks in a blocked layout."""
    return arrays_of(pack(dense, tesa, layout))[0]


@functools.lru_cache(maxsize=256)
def pattern_of(tesa: TeSA, layout: Layout) -> Pattern:
    """The index tables of a layout that has some, as host arrays."""
    return Pattern.of(tesa, layout.block or ELEMENT)


def tables_of(tesa: TeSA, layout: Layout) -> tuple[jax.Array, ...]:
    """The index tables of a layout, as arrays."""
    if layout == DENSE:
        return ()
    pattern = pattern_of(tesa, layout)
    return jnp.asarray(pattern.indptr), jnp.asarray(pattern.indices)


def stored_bytes(tesa: TeSA, layout: Layout, itemsize: int) -> int:
    """Bytes of a weight in a layout, index tables included."""
    size = itemsize
    for n in values_shape(tesa, layout):
        size *= n
    if layout == DENSE:
        return size
    columns = -(-tesa.shape[1] // (layout.block or ELEMENT)[1])
    return size + 4 * (columns + 1 + values_shape(tesa, layout)[0])


def table_fault(
    values: tuple[int, ...], indptr: np.ndarray, indices: np.ndarray, shape: tuple[int, ...], block: tuple[int, ...]
) -> str | None:
    """What is wrong with the index tables of a weight with values of this shape; `block` is empty for single elements."""
    br, bc = block or ELEMENT
    if len(shape) != 2 or indptr.dtype != np.int32 or indices.dtype != np.int32 or indices.ndim != 1:
        return "its index tables are no lists of 32-bit integers for a matrix"
    rows, columns = -(-shape[0] // br), -(-shape[1] // bc)
    if values != (len(indices), *block):
        return f"has {len(indices)} entries, and values of shape {values}"
    if indptr.shape != (columns + 1,) or indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        return f"its column table does not divide {len(indices)} entries among {columns} columns"
    if len(indices) and (indices.min() < 0 or indices.max() >= rows):
        return f"an index lies outside its {rows} rows"
    starts = np.zeros(len(indices) + 1, bool)
    starts[indptr] = True
    if (np.diff(indices) <= 0)[~starts[1:-1]].any():
        return "the rows of a column are not in order"
    return None
