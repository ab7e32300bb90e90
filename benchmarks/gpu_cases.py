"""What is measured on a GPU: products `x[m, k] @ w[k, n]` with random live blocks, and those of their backward passes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from sparta_jax.tesa import TeSA

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
SQUARE_BLOCKS = ((128, 128), (64, 64), (32, 32))
BAR_BLOCKS = ((128, 128), (64, 128), (64, 64))
LAYERS = {
    "llama-attention": (4096, 4096),
    "llama-up": (4096, 14336),
    "llama-down": (14336, 4096),
    "bert-up": (768, 3072),
    "bert-down": (3072, 768),
    "gpt2xl-up": (1600, 6400),
    "gpt2xl-down": (6400, 1600),
}
DECODE_ROWS = (1, 16, 64)
PARTS = {"forward": ("forward",), "dx": ("dx",), "dw": ("dw",), "step": ("forward", "dx", "dw")}
"""Of what is measured, the products: `y = x @ w`, `dx = g @ w.T`, `dw = x.T @ g` at live blocks."""


@dataclasses.dataclass(frozen=True)
class Case:
    """Products with one weight.

    Attributes:
      family: `"square4096"`, `"llama-up"`, ...
      m, k, n: sizes of `x[m, k] @ w[k, n]`.
      block: `(br, bc)` of the live blocks.
      density: share of live blocks.
      dtype: `"bfloat16"`, `"float16"`, or `"float32"` (which XLA multiplies in TF32).
      what: a key of `PARTS`; `"step"` is a layer's training step, all three products.
    """

    family: str
    m: int
    k: int
    n: int
    block: tuple[int, int]
    density: float
    dtype: str = "bfloat16"
    what: str = "forward"

    @property
    def name(self) -> str:
        br, bc = self.block
        return f"{self.family}-m{self.m}-b{br}x{bc}-d{self.density:g}-{self.dtype}-{self.what}"

    @property
    def useful_flops(self) -> float:
        """Of the live blocks alone."""
        return 2.0 * self.m * self.k * self.n * self.density * len(PARTS[self.what])

    @property
    def useful_bytes(self) -> float:
        """Operands and results, each once in every product, and of the weight the live blocks alone."""
        weight = self.k * self.n * self.density
        itemsize = 4 if self.dtype == "float32" else 2
        return (self.m * (self.k + self.n) + weight) * itemsize * len(PARTS[self.what])

    def tesa(self) -> TeSA:
        """The same in every run; a share of exactly `density`, rounded to blocks."""
        grid = tuple(-(-size // side) for size, side in zip((self.k, self.n), self.block, strict=True))
        live = np.zeros(grid[0] * grid[1], bool)
        rng = np.random.default_rng([self.k, self.n, *self.block])
        live[rng.permutation(live.size)[: round(self.density * live.size)]] = True
        return TeSA.blocks(live.reshape(grid), self.block, (self.k, self.n))

    def shrunk(self, size: int = 256) -> Case:
        """The same products with sides of at most `size`, and half the rows, which an interpreter gets through; half of the
        blocks live, for there are few."""
        small = {"m": min(self.m, size // 2), "k": min(self.k, size), "n": min(self.n, size)}
        return dataclasses.replace(self, family="shrunk", **small, density=0.5)


def square(size: int, *rest, **facts) -> Case:
    return Case(f"square{size}", size, size, size, *rest, **facts)


def grid() -> list[Case]:
    """All cases, those that decide most first: a run that is cut short has them."""
    few = list(itertools.product(SQUARE_BLOCKS, (0.1, 0.3)))
    cases = [square(4096, b, d) for b in BAR_BLOCKS for d in (0.1, 0.25)]
    cases += [square(4096, b, 0.1, what=what) for what in ("dx", "dw") for b in BAR_BLOCKS]
    cases += [square(8192, b, d) for b in BAR_BLOCKS for d in (0.1, 0.25)]
    cases += [square(4096, *c) for c in itertools.product(SQUARE_BLOCKS, DENSITIES)]
    cases += [square(4096, *c, what="step") for c in few]
    cases += [Case(f, m, *LAYERS[f], (64, 64), 0.1) for f in ("llama-attention", "llama-up") for m in DECODE_ROWS]
    cases += [square(8192, b, 0.1, what=what) for what in ("dx", "dw") for b in BAR_BLOCKS]
    cases += [square(4096, *c, dtype="float32") for c in few]
    cases += [square(4096, *c, what=what) for what in ("dx", "dw") for c in few]
    cases += [Case(f, 4096, k, n, b, d) for f, (k, n) in LAYERS.items() for b, d in (((128, 128), 0.1), ((64, 64), 0.3))]
    cases += [square(8192, *c) for c in few]
    cases += [square(size, b, 0.1) for size in (1024, 2048, 16384) for b in SQUARE_BLOCKS]
    cases += [Case("llama-up", m, *LAYERS["llama-up"], (128, 128), 0.2) for m in DECODE_ROWS]
    return list(dict.fromkeys(cases))


def checks() -> list[Case]:
    """Small and ragged cases on which every kernel is compared with the dense product before anything is timed."""
    shapes = {"square512": (512, 512, 512), "ragged": (300, 500, 700), "decode": (3, 512, 1024)}
    kinds = (((64, 64), 0.3, "bfloat16"), ((32, 32), 0.1, "float16"), ((128, 128), 0.5, "float32"))
    forward = [Case(family, *sizes, *kind) for family, sizes in shapes.items() for kind in kinds]
    rectangular = dataclasses.replace(forward[0], block=(64, 128))
    return [*forward, rectangular] + [dataclasses.replace(c, what="step") for c in forward]
