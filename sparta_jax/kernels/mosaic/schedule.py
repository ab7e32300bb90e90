"""Which thread block makes which output tile: static, balanced lists."""

from __future__ import annotations

import dataclasses
import functools
import heapq

import numpy as np

from ..gpu.steps import Steps

TILE_DEPTH = 128
"""What a tile costs beside its steps (its epilogue, the start of its pipeline), in contracted elements; an estimate."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tiles:
    """The output tiles of every thread block, in its order.

    Thread block `c` makes the tiles `(row[t], col[t])` for `t` in `ptr[c]:ptr[c + 1]`.

    Attributes:
      ptr: `i32[ctas + 1]`.
      row, col: `i32[tiles]`.
      makespan: what the busiest thread block has to do, in contracted elements.
    """

    ptr: np.ndarray
    row: np.ndarray
    col: np.ndarray
    makespan: float

    @property
    def ctas(self) -> int:
        return len(self.ptr) - 1


@functools.lru_cache(maxsize=256)
def tiles(steps: Steps, depth: int, rows: int, ctas: int) -> Tiles:
    """All tiles of `rows` tile rows, balanced over at most `ctas` thread blocks; a step contracts `depth` elements.

    A thread block makes tiles of one column after another, so that the column's blocks stay in the L2 cache.
    """
    col, row = np.divmod(np.arange(rows * steps.columns), rows)
    weights = np.diff(steps.ptr)[col] * depth + TILE_DEPTH
    ctas = min(ctas, len(weights))
    owner, makespan = balance(weights, ctas)
    order = np.argsort(owner, kind="stable")
    ptr = np.append(0, np.cumsum(np.bincount(owner, minlength=ctas)))
    return Tiles(ptr.astype(np.int32), row[order].astype(np.int32), col[order].astype(np.int32), makespan)


def balance(weights: np.ndarray, bins: int) -> tuple[np.ndarray, float]:
    """The bin of each weight, and the sum of the fullest bin.

    Longest processing time first (Graham, 1969, "Bounds on multiprocessing timing anomalies"): the heaviest that is left goes
    to the bin that is emptiest. At most 4/3 of the best possible.
    """
    owner = np.empty(len(weights), np.int64)
    loads = [(0.0, b) for b in range(bins)]
    for job in np.argsort(-weights, kind="stable"):
        load, emptiest = loads[0]
        owner[job] = emptiest
        heapq.heapreplace(loads, (load + float(weights[job]), emptiest))
    return owner, max(load for load, _ in loads)
