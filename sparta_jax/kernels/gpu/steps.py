"""Which live blocks every output column contracts: static lists."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np

from ...formats.bsr import Pattern
from ...tesa import TeSA


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """The live blocks behind every output column of a product with a stored weight or its transpose.

    Output column `j` contracts the entries `ptr[j]:ptr[j + 1]`.

    Attributes:
      ptr: `i32[columns + 1]`.
      at: `i32[nnzb]`, the contracted block of each entry.
      entry: `i32[nnzb]`, where the weight's own list (see `Pattern`) has its block.
    """

    ptr: np.ndarray
    at: np.ndarray
    entry: np.ndarray

    @property
    def count(self) -> int:
        return len(self.at)

    @property
    def columns(self) -> int:
        return len(self.ptr) - 1

    def cut(self, contracted: int, out: int) -> Steps:
        """The same steps on smaller blocks: each is cut into `contracted` parts along that side, and `out` along the other.

        Part `p` of entry `e` is entry `e * contracted + p`, for each of the `out` columns that column `j` becomes.
        """
        if contracted == out == 1:
            return self
        lists = [np.arange(first, last) for first, last in itertools.pairwise(self.ptr) for _ in range(out)]
        order = np.concatenate(lists) if lists else np.arange(0)
        ptr = np.append(0, np.cumsum([contracted * len(entries) for entries in lists])).astype(np.int32)
        at, entry = (((a[order] * contracted)[:, None] + np.arange(contracted)).ravel() for a in (self.at, self.entry))
        return Steps(ptr, at.astype(np.int32), entry.astype(np.int32))


@functools.lru_cache(maxsize=256)
def steps(tesa: TeSA, block: tuple[int, int], transposed: bool, cut: tuple[int, int] = (1, 1)) -> Steps:
    """The steps of a product with the weight `tesa` in stored blocks of `block`, cut as `Steps.cut` does."""
    pattern = Pattern.of(tesa, block)
    if not transposed:
        return Steps(pattern.indptr, pattern.indices, np.arange(pattern.nnzb, dtype=np.int32)).cut(*cut)
    turned, entry = pattern.transposed(-(-tesa.shape[0] // block[0]))
    return Steps(turned.indptr, turned.indices, entry).cut(*cut)


def of_layout(tesa: TeSA, block: tuple[int, int] | None, transposed: bool, step: tuple[int, int]) -> Steps:
    """The steps of `step` (depth, columns) on a weight stored in blocks of `block`, which they divide, or dense."""
    if block is None:
        return steps(tesa, sides(step, transposed), transposed)
    contracted, out = sides(block, transposed)
    return steps(tesa, block, transposed, (contracted // step[0], out // step[1]))


def sides(block: tuple[int, int], transposed: bool) -> tuple[int, int]:
    """The contracted side of a stored block, and the other; also the way back."""
    return (block[1], block[0]) if transposed else block
