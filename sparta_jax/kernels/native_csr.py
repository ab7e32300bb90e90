"""Calls of the native library for weights stored by their live elements; `CSR` says how these are listed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .native import ACTIVATIONS, DOUBLE, SINGLE, Table, forced_isa, sums_dtype

DTYPES = SINGLE + DOUBLE
PANEL_ROWS = 64  # the most rows of x that are packed together for one thread
SUM_ROWS = 128  # what the rows of x and g are filled up to, at most, for sampled products
ALIGNMENT = 64


def spmm(
    x: jax.Array,
    values: jax.Array,
    indptr: Table,
    indices: Table,
    n: int,
    *,
    threads: int,
    transposed: bool = False,
    bias: jax.Array | None = None,
    activation: str | None = None,
    residual: jax.Array | None = None,
) -> jax.Array:
    """`activation(x @ W + bias) + residual`, or with `transposed` the product with the transpose of `W`.

    Args:
      x: `[m, k]`, with `transposed` `[m, columns of W]`; all arrays are of its dtype, one of `DTYPES`.
      values: `[nnz]`, the live elements, listed by column.
      indptr: `i32[columns of W + 1]`, which entries a column owns.
      indices: `i32[nnz]`, the row of each entry.
      n: the size of the result's last axis.
      threads: how many may work at once; each has scratch memory for one panel of rows.
      bias: `[n]`.
      activation: one of `ACTIVATIONS`.
      residual: `[m, n]`.

    Returns:
      `[m, n]`.

    Raises:
      jax.errors.JaxRuntimeError: when it runs, if the tables do not fit the values or point outside.
    """
    m, k = x.shape
    rows = min(PANEL_ROWS, -(-m // 16) * 16)
    each = rows * (k + (n if transposed else 0)) * sums_dtype(np.dtype(x.dtype)).itemsize + ALIGNMENT
    results = (
        jax.ShapeDtypeStruct((m, n), x.dtype),
        jax.ShapeDtypeStruct((max(threads, 1) * each,), jnp.uint8),  # scratch memory
    )
    none = jnp.zeros((0,), x.dtype)
    return jax.ffi.ffi_call("sparta_csr_spmm", results)(
        x,
        values,
        indptr,
        indices,
        none if bias is None else bias,
        none if residual is None else residual,
        transposed=transposed,
        activation=np.int32(ACTIVATIONS.index(activation)),
        isa=forced_isa(),
    )[0]


def sddmm(x: jax.Array, g: jax.Array, indptr: Table, indices: Table) -> jax.Array:
    """`[nnz]`, the elements of `x.T @ g` that the tables list, from `x [m, k]` and `g [m, n]` of one dtype."""
    (m, k), n = x.shape, g.shape[1]
    wide = sums_dtype(np.dtype(x.dtype)).itemsize
    count = -(-m // SUM_ROWS) * SUM_ROWS * (k + n) + (indices.shape[0] if x.dtype.itemsize < wide else 0)
    results = (
        jax.ShapeDtypeStruct((indices.shape[0],), x.dtype),
        jax.ShapeDtypeStruct((count * wide + ALIGNMENT,), jnp.uint8),  # scratch memory
    )
    return jax.ffi.ffi_call("sparta_csr_sddmm", results)(x, g, indptr, indices, isa=forced_isa())[0]


def pack(dense: jax.Array, indptr: Table, indices: Table) -> jax.Array:
    """The values `[nnz]` of `dense [k, n]`, as `CSR.pack` gathers them."""
    values = jax.ShapeDtypeStruct((indices.shape[0],), dense.dtype)
    return jax.ffi.ffi_call("sparta_csr_copy", values)(dense, indptr, indices, packing=True)


def unpack(values: jax.Array, indptr: Table, indices: Table, shape: tuple[int, ...]) -> jax.Array:
    """The dense matrix `[k, n]` of `values [nnz]`, as `CSR.to_dense` makes it."""
    dense = jax.ShapeDtypeStruct(shape, values.dtype)
    return jax.ffi.ffi_call("sparta_csr_copy", dense)(values, indptr, indices, packing=False)
