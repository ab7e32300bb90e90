"""Compressed sparse storage of single elements, listed by output column."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ..tesa import TeSA
from .bsr import Pattern

ELEMENT = (1, 1)


def elements_of(tesa: TeSA) -> Pattern:
    """Where the live elements of a `[K, N]` weight stand: the tables of `CSR`, as those of blocks of one element."""
    return Pattern.of(tesa, ELEMENT)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CSR:
    """A weight `[K, N]` stored as its live elements, those of a column of `W` (a row of the `(out, in)` matrix) together.

    So `y[:, j] = sum_e x[:, indices[e]] * values[e]` for `e` in `indptr[j]:indptr[j + 1]`. Read as the `(out, in)` matrix `W.T`
    this is CSR, read as `W` it is CSC: a kernel finishes one output after the other.

    Attributes:
      values: `[nnz]`.
      indptr: `i32[N + 1]`; column `j` owns the entries `indptr[j]:indptr[j + 1]`.
      indices: `i32[nnz]`, the row of `W` of each entry, increasing within a column.
      shape: `(K, N)` of the dense weight.
    """

    values: jax.Array
    indptr: jax.Array
    indices: jax.Array
    shape: tuple[int, ...] = dataclasses.field(metadata=dict(static=True))

    @property
    def nnz(self) -> int:
        return self.values.shape[-1]

    @classmethod
    def pack(cls, dense: jax.Array, tesa: TeSA) -> CSR:
        """Gathers the live elements of `dense [K, N]`. Traceable; the pattern is static."""
        pattern = elements_of(tesa)
        values = dense[pattern.indices, pattern.columns]
        return cls(values, jnp.asarray(pattern.indptr), jnp.asarray(pattern.indices), tuple(tesa.shape))

    @classmethod
    def of_coo(cls, values: jax.Array, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> CSR:
        """Of elements listed in any order, each once; rows and columns are host arrays. Traceable in `values`."""
        order = np.lexsort((rows, columns))
        counts = np.bincount(columns, minlength=shape[1])
        indptr = np.append(0, np.cumsum(counts)).astype(np.int32)
        return cls(values[order], jnp.asarray(indptr), jnp.asarray(rows[order], jnp.int32), shape)

    def to_dense(self) -> jax.Array:
        """`[K, N]`, zero where no element is stored."""
        dense = jnp.zeros(self.shape, self.values.dtype)
        return dense.at[self.indices, self.columns()].set(self.values, mode="drop", unique_indices=True)

    def columns(self) -> jax.Array:
        """`i32[nnz]`, the column of each element."""
        entries = jnp.arange(self.nnz, dtype=jnp.int32)
        return jnp.searchsorted(self.indptr, entries, side="right").astype(jnp.int32) - 1
