"""Block compressed sparse storage of a weight, listed by block column."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ..tesa import TeSA


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Where the live blocks of a `[K, N]` weight stand, as host tables.

    Blocks are listed by block column, and within one by block row: `y[:, j] = sum_e x[:, indices[e]] @ blocks[e]` for `e` in
    `indptr[j]:indptr[j + 1]`. The last block of an axis hangs over where `block` does not divide the shape; it is stored
    whole, with zeros behind the edge.

    Attributes:
      indptr: `i32[ceil(N / bc) + 1]`; block column `j` owns the entries `indptr[j]:indptr[j + 1]`.
      indices: `i32[nnzb]`, the block row of each entry.
      columns: `i32[nnzb]`, the block column of each entry.
    """

    indptr: np.ndarray
    indices: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, tesa: TeSA, block: tuple[int, int]) -> Pattern:
        """The pattern of the blocks that hold a live element."""
        mask = tesa.block_mask(block)
        columns, rows = np.nonzero(mask.T)
        indptr = np.append(0, np.cumsum(mask.sum(0)))
        return cls(indptr.astype(np.int32), rows.astype(np.int32), columns.astype(np.int32))

    @property
    def nnzb(self) -> int:
        return len(self.indices)

    def transposed(self, block_rows: int) -> tuple[Pattern, np.ndarray]:
        """The pattern of the transposed weight, and `i32[nnzb]`: which entry of this one each of its entries is."""
        order = np.lexsort((self.columns, self.indices)).astype(np.int32)
        indptr = np.append(0, np.cumsum(np.bincount(self.indices, minlength=block_rows)))
        return Pattern(indptr.astype(np.int32), self.columns[order], self.indices[order]), order


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BSR:
    """A weight `[K, N]` stored as its live blocks; see `Pattern` for the order of the blocks and for ragged edges.

    Attributes:
      blocks: `[nnzb, br, bc]`.
      indptr: `i32[ceil(N / bc) + 1]`.
      indices: `i32[nnzb]`, the block row of each block.
      shape: `(K, N)` of the dense weight.
    """

    blocks: jax.Array
    indptr: jax.Array
    indices: jax.Array
    shape: tuple[int, ...] = dataclasses.field(metadata=dict(static=True))

    @property
    def block(self) -> tuple[int, int]:
        br, bc = self.blocks.shape[-2:]
        return br, bc

    @property
    def nnzb(self) -> int:
        return self.blocks.shape[-3]

    @classmethod
    def pack(cls, dense: jax.Array, tesa: TeSA, block: tuple[int, int]) -> BSR:
        """Gathers the live blocks of `dense [K, N]`, which is zero where `tesa` is dead. Traceable; the pattern is static."""
        pattern = Pattern.of(tesa, block)
        (k, n), (br, bc) = tesa.shape, block
        padded = jnp.pad(dense, ((0, -k % br), (0, -n % bc)))
        tiles = padded.reshape(-(-k // br), br, -(-n // bc), bc)
        blocks = tiles[pattern.indices, :, pattern.columns, :]
        return cls(blocks, jnp.asarray(pattern.indptr), jnp.asarray(pattern.indices), (k, n))

    def to_dense(self) -> jax.Array:
        """`[K, N]`, zero where no block is stored."""
        (k, n), (br, bc) = self.shape, self.block
        tiles = jnp.zeros((-(-k // br), -(-n // bc), br, bc), self.blocks.dtype)
        tiles = tiles.at[self.indices, self.columns()].set(self.blocks, mode="drop")
        return tiles.swapaxes(1, 2).reshape(tiles.shape[0] * br, tiles.shape[1] * bc)[:k, :n]

    def columns(self) -> jax.Array:
        """`i32[nnzb]`, the block column of each block."""
        return jnp.searchsorted(self.indptr, jnp.arange(self.nnzb, dtype=jnp.int32), side="right").astype(jnp.int32) - 1
