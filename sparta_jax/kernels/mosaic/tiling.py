"""How one thread block cuts its work, and what of a Hopper streaming multiprocessor that takes."""

from __future__ import annotations

import dataclasses
import math

from ..gpu.costs import from_l2, narrow, shallow

SHARED_MEMORY = 232_448
"""Bytes of shared memory that one thread block may use on H100 and H200."""

CONSUMERS = 2
"""Warpgroups that multiply; one more fetches."""

ACCUMULATORS = 128
"""float32 registers that a thread may spend on its accumulators; more would spill."""

BARRIER_BYTES = 8
WARPGROUP_THREADS = 128
SWIZZLED_BYTES = 128
MAX_STAGES = 6
SWAPPED_CHUNK = 64
"""Rows of a swapped tile that a consumer writes at once."""


@dataclasses.dataclass(frozen=True)
class Tiling:
    """One thread block makes a tile `[rows, cols]` of the result, contracting `depth` in every step of its pipeline.

    Attributes:
      rows: a multiple of 64, the M of a `wgmma` instruction; swapped, one of 8, its N.
      cols: of the tile; swapped, a multiple of 64.
      depth: contracted per step.
      stages: steps whose operands are in shared memory at once.
      splits: into how many parts, summed afterwards, the contraction is cut.
      swapped: whether the transpose of the tile is computed, `w.T @ x.T`: for few rows, and for narrow blocks.
    """

    rows: int
    cols: int
    depth: int
    stages: int
    splits: int = 1
    swapped: bool = False

    def __str__(self) -> str:
        marks = f" splits={self.splits}" * (self.splits > 1) + " swapped" * self.swapped
        return f"{self.rows}x{self.cols}x{self.depth} stages={self.stages}{marks}"

    @property
    def part(self) -> tuple[int, int]:
        """The part of the tile that one consumer makes: half of the rows, or of the columns where the rows are too few;
        swapped, half of the columns, or of the rows."""
        if self.swapped and self.cols >= 64 * CONSUMERS:
            return self.rows, self.cols // CONSUMERS
        if self.swapped or self.rows >= 64 * CONSUMERS:
            return self.rows // CONSUMERS, self.cols
        return self.rows, self.cols // CONSUMERS

    def origin(self, consumer):
        """The row and column of a consumer's part (`consumer` may be traced)."""
        rows, cols = self.part
        return (consumer * rows, 0) if cols == self.cols else (0, consumer * cols)

    @property
    def accumulator(self) -> tuple[int, int]:
        """The shape of a consumer's sum: its part, or the transpose of that."""
        rows, cols = self.part
        return (cols, rows) if self.swapped else (rows, cols)

    def chunk(self, out_itemsize: int) -> tuple[int, int]:
        """The rows and columns of its part that a consumer writes at once: one swizzled row of shared memory for each row."""
        rows, cols = self.part
        return (min(rows, SWAPPED_CHUNK), cols) if self.swapped else (rows, min(cols, SWIZZLED_BYTES // out_itemsize))

    def shared_bytes(self, itemsize: int, out_itemsize: int) -> int:
        """What the kernel allocates: operands, two output buffers per consumer, a pair of barriers per stage."""
        operands = self.stages * self.depth * (self.rows + self.cols) * itemsize
        output = CONSUMERS * 2 * math.prod(self.chunk(out_itemsize)) * out_itemsize
        return operands + output + self.stages * 2 * BARRIER_BYTES

    def fits(self, itemsize: int, out_itemsize: int) -> bool:
        """Whether shared memory and registers suffice."""
        rows, cols = self.part
        return self.shared_bytes(itemsize, out_itemsize) <= SHARED_MEMORY and rows * cols <= ACCUMULATORS * WARPGROUP_THREADS


def deepest(
    rows: int, cols: int, depth: int, itemsize: int, out_itemsize: int, splits: int = 1, swapped: bool = False
) -> Tiling | None:
    """The tiling with as many stages as fit; None where not even two do."""
    for stages in range(MAX_STAGES, 1, -1):
        tiling = Tiling(rows, cols, depth, stages, splits, swapped)
        if tiling.fits(itemsize, out_itemsize):
            return tiling
    return None


# An estimate, not a measurement of these kernels: 790 TFLOP/s was measured for a dense bfloat16 product on an H200, whose data
# sheet says 989.
DENSE_SHARE = 0.8


def step_efficiency(tiling: Tiling, itemsize: int) -> float:
    """The share of the peak that the steps reach by themselves: tensor cores or the way from L2, whichever is slower."""
    tensor_cores = DENSE_SHARE * narrow(tiling.accumulator[1]) * min(1.0, 2 / itemsize)
    return min(tensor_cores, from_l2(tiling.rows, tiling.cols, itemsize)) * shallow(tiling.depth)
