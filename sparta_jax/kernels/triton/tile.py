"""What one program of a Triton kernel makes, and what of a multiprocessor that takes."""

from __future__ import annotations

import dataclasses

SHARED_MEMORY = 96 << 10
"""Bytes that a program may use on every GPU since Ampere; A100 and H100 have more."""

MAX_STAGES = 4


@dataclasses.dataclass(frozen=True)
class Tile:
    """One program makes a tile `[rows, cols]` of the result, contracting `depth` in every step of its loop.

    Attributes:
      rows, cols, depth: powers of two, at least 16.
      warps: of 32 threads each.
      stages: of Triton's software pipeline.
      splits: into how many parts, summed afterwards, the contraction is cut.
    """

    rows: int
    cols: int
    depth: int
    warps: int
    stages: int
    splits: int = 1

    def __str__(self) -> str:
        splits = f" splits={self.splits}" * (self.splits > 1)
        return f"{self.rows}x{self.cols}x{self.depth} warps={self.warps} stages={self.stages}{splits}"


def tile(rows: int, cols: int, depth: int, itemsize: int, splits: int = 1) -> Tile | None:
    """The tile with as many stages as fit; None where not even two do."""
    fitting = SHARED_MEMORY // ((rows + cols) * depth * itemsize)
    if fitting < 2:
        return None
    return Tile(rows, cols, depth, 8 if rows * cols > 64 * 128 else 4, min(fitting, MAX_STAGES), splits)
