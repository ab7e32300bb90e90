"""Calls of the native library for weights stored by their live elements; `CSR` says how these are listed."""

from __future__ import annotations

from typing import NamedTuple

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
      threads: how many may work at once, at least one; each has scratch memory for one panel of rows.
      bias: `[n]`.
      activation: one of `ACTIVATIONS`.
      residual: `[m, n]`.

    Returns:
      `[m, n]`.

    Raises:
      jax.errors.JaxRuntimeError: when it runs, if the tables do not fit the values or point outside.
    """
    (m, k), none = x.shape, jnp.zeros((0,), x.dtype)
    results = (
        jax.ShapeDtypeStruct((m, n), x.dtype),
        _panels(m, k + (n if transposed else 0), np.dtype(x.dtype), threads),
    )
    return jax.ffi.ffi_call("sparta_csr_spmm", results)(
        x,
        values,
        indptr,
        indices,
        none if bias is None else bias,
        none if residual is None else residual,
        transposed=transposed,
        activation=np.int32(ACTIVATIONS.index(activation)),
        threads=np.int32(threads),
        isa=forced_isa(),
    )[0]


class Layer(NamedTuple):
    """One of several products by elements that are one call.

    Attributes:
      values: `[nnz]`, the live elements of the weight, listed by column.
      indptr: `i32[columns + 1]`.
      indices: `i32[nnz]`, rows.
      bias: `[columns]`, or None.
      activation: one of `ACTIVATIONS`.
    """

    values: jax.Array
    indptr: Table
    indices: Table
    bias: jax.Array | None = None
    activation: str | None = None


def mlp(
    x: jax.Array, up: Layer, gate: Layer | None, down: Layer, n: int, *, threads: int, residual: jax.Array | None = None
) -> jax.Array:
    """`down(up(x) * gate(x)) + residual`, or without a gate `down(up(x)) + residual`, each layer `activation(x @ W + bias)`.

    Args:
      x: `[m, k]`; all arrays are of its dtype, one of `DTYPES`.
      up, gate, down: the layers; `up` and `gate` have as many columns as `down` has rows.
      n: the columns of `down`.
      threads: how many may work at once, at least one; each has scratch memory for a panel of rows of all that lies between.
      residual: `[m, n]`.

    Returns:
      `[m, n]`. What lies between is not rounded to x's dtype.

    Raises:
      jax.errors.JaxRuntimeError: when it runs, if tables do not fit their values or one another, or point outside.
    """
    (m, k), none = x.shape, jnp.zeros((0,), x.dtype)
    no_table = np.zeros((0,), np.int32)
    layers = [up, Layer(none, no_table, no_table) if gate is None else gate, down]
    operands = [a for layer in layers for a in (*layer[:3], none if layer.bias is None else layer.bias)]
    hidden = up.indptr.shape[0] - 1
    results = jax.ShapeDtypeStruct((m, n), x.dtype), _panels(m, k + hidden, np.dtype(x.dtype), threads)
    activations = zip(("up", "gate", "down"), layers, strict=True)
    return jax.ffi.ffi_call("sparta_csr_mlp", results)(
        x,
        *operands,
        none if residual is None else residual,
        threads=np.int32(threads),
        isa=forced_isa(),
        **{f"{name}_activation": np.int32(ACTIVATIONS.index(layer.activation)) for name, layer in activations},
    )[0]


def _panels(m: int, numbers: int, dtype: np.dtype, threads: int) -> jax.ShapeDtypeStruct:
    """Scratch memory: a panel of as many numbers a row for each thread."""
    rows = min(PANEL_ROWS, -(-m // 16) * 16)
    return jax.ShapeDtypeStruct((max(threads, 1) * (rows * numbers * sums_dtype(dtype).itemsize + ALIGNMENT),), jnp.uint8)


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
