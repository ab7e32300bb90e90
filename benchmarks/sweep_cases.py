"""What the sweep of choices goes over: masks of many kinds, from nearly empty to nearly full, and one row to thousands."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from .cases import real_masks

DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
ROWS = (1, 4, 16, 64, 256, 2048)
BLOCKS = ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (16, 1), (1, 16), (1, 1))
SHAPES = ((1024, 1024), (384, 1536))
REAL_ROWS = (1, 16, 128, 512)
POINT_SECONDS, PRODUCTS, FLOPS = 2.5, 150, 1e11  # as measured on one Zen 4 core
QUICK_DENSITIES, QUICK_ROWS, QUICK_BLOCKS = (0.05, 0.5), (1, 16, 256), ((32, 32), (4, 4), (1, 1))


@dataclasses.dataclass(frozen=True)
class Point:
    """One product `x[m, k] @ w[k, n]` with a masked weight.

    Attributes:
      mask: sides of the random mask's blocks (`"16x1"`; `"1x1"` are single elements), or the name of a real mask.
      density: share of live elements, of a random mask that of its blocks.
    """

    mask: str
    m: int
    k: int
    n: int
    density: float

    @property
    def name(self) -> str:
        return f"{self.mask}-{self.k}x{self.n}-d{self.density:.3g}-m{self.m}"

    @property
    def is_real(self) -> bool:
        return not self.mask[0].isdigit()

    def live(self) -> np.ndarray:
        """`bool[k, n]`, True where live; the same in every run."""
        if self.is_real:
            return real_masks()[self.mask]
        rows, columns = map(int, self.mask.split("x"))
        grid = (-(-self.k // rows), -(-self.n // columns))
        live = np.zeros(grid[0] * grid[1], bool)
        rng = np.random.default_rng([self.k, self.n, rows, columns, round(self.density * 1e6)])
        live[rng.permutation(live.size)[: max(1, round(self.density * live.size))]] = True
        return live.reshape(grid).repeat(rows, 0).repeat(columns, 1)[: self.k, : self.n]


def points(design: str = "covering") -> Iterator[Point]:
    """All of a design, those of one mask together.

    `"covering"`: every pair of mask and density, mask and rows, density and rows, in every shape, and each real mask at two
    numbers of rows; `"full"`: every combination; `"quick"`: those of a few.
    """
    if design == "quick":
        yield from _random(QUICK_BLOCKS, QUICK_DENSITIES, QUICK_ROWS, SHAPES[:1])
    elif design == "full":
        yield from _random(BLOCKS, DENSITIES, ROWS, SHAPES)
    else:
        yield from _covering()
    rows = {"quick": REAL_ROWS[:1], "full": REAL_ROWS}
    for i, (name, mask) in enumerate(real_masks().items()):
        for m in rows.get(design, (REAL_ROWS[i % 4], REAL_ROWS[(i + 2) % 4])):
            yield Point(name, m, *mask.shape, float(mask.mean()))


def seconds(point: Point, threads: int) -> float:
    """About what measuring a point takes: tuning and compiling, and some hundred products of its size."""
    return POINT_SECONDS + PRODUCTS * 2 * point.m * point.k * point.n / (FLOPS * threads)


def _random(blocks, densities, rows, shapes) -> Iterator[Point]:
    for (br, bc), (k, n), density, m in itertools.product(blocks, shapes, densities, rows):
        yield Point(f"{br}x{bc}", m, k, n, density)


def _covering() -> Iterator[Point]:
    """A Latin square of masks and densities for each shape: the rows run along its diagonals."""
    for ((i, (br, bc)), (s, (k, n))), (j, density) in itertools.product(
        itertools.product(enumerate(BLOCKS), enumerate(SHAPES)), enumerate(DENSITIES)
    ):
        yield Point(f"{br}x{bc}", ROWS[(i + j + len(ROWS) // 2 * s) % len(ROWS)], k, n, density)
