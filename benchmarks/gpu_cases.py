"""What is measured on a GPU: products `x[m, k] @ w[k, n]` with random live blocks, and their backward passes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from sparta_jax.tesa import TeSA

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
BLOCKS = (128, 64, 32)
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


@dataclasses.dataclass(frozen=True)
class Case:
    """One product.

    Attributes:
      family: `"square4096"`, `"llama-up"`, ...
      m, k, n: sizes of `x[m, k] @ w[k, n]`.
      block: side of the live blocks.
      density: share of live blocks.
      dtype: `"bfloat16"`, `"float16"`, or `"float32"` (which XLA multiplies in TF32).
      what: `"forward"`, or `"backward"`: both gradients.
    """

    family: str
    m: int
    k: int
    n: int
    block: int
    density: float
    dtype: str = "bfloat16"
    what: str = "forward"

    @property
    def name(self) -> str:
        return f"{self.family}-m{self.m}-b{self.block}-d{self.density:g}-{self.dtype}-{self.what}"

    @property
    def useful_flops(self) -> float:
        """Of the live blocks alone."""
        return 2.0 * self.m * self.k * self.n * self.density * (2 if self.what == "backward" else 1)

    def tesa(self) -> TeSA:
        """The same in every run; a share of exactly `density`, rounded to blocks."""
        grid = (-(-self.k // self.block), -(-self.n // self.block))
        live = np.zeros(grid[0] * grid[1], bool)
        rng = np.random.default_rng([self.k, self.n, self.block])
        live[rng.permutation(live.size)[: round(self.density * live.size)]] = True
        return TeSA.blocks(live.reshape(grid), (self.block, self.block), (self.k, self.n))

    def shrunk(self, size: int = 256) -> Case:
        """The same case with sides of at most `size`, which an interpreter gets through."""
        return dataclasses.replace(
            self, m=min(self.m, size // 2), k=min(self.k, size), n=min(self.n, size), block=min(self.block, size // 4)
        )


def square(size: int, *rest, **facts) -> Case:
    return Case(f"square{size}", size, size, size, *rest, **facts)


def grid() -> list[Case]:
    """All cases, those that decide most first: a run that is cut short has them."""
    cross = list(itertools.product(BLOCKS, DENSITIES))
    few = list(itertools.product(BLOCKS, (0.1, 0.3)))
    cases = [square(4096, *c) for c in cross]
    cases += [square(4096, *c, what="backward") for c in few]
    cases += [Case(f, m, *LAYERS[f], 64, 0.1) for f in ("llama-attention", "llama-up") for m in DECODE_ROWS]
    cases += [square(8192, *c) for c in few]
    cases += [square(4096, *c, dtype="float32") for c in few]
    cases += [Case(f, 4096, k, n, b, d) for f, (k, n) in LAYERS.items() for b, d in ((128, 0.1), (64, 0.3))]
    cases += [square(size, b, 0.1) for size in (1024, 2048, 16384) for b in BLOCKS]
    cases += [Case("llama-up", m, *LAYERS["llama-up"], 128, 0.2) for m in DECODE_ROWS]
    return cases


def checks() -> list[Case]:
    """Small and ragged cases on which every kernel is compared with the dense product before anything is timed."""
    shapes = {"square512": (512, 512, 512), "ragged": (300, 500, 700), "decode": (3, 512, 1024)}
    forward = [
        Case(family, *sizes, block, density, dtype)
        for family, sizes in shapes.items()
        for block, density, dtype in ((64, 0.3, "bfloat16"), (32, 0.1, "float16"), (128, 0.5, "float32"))
    ]
    return forward + [dataclasses.replace(c, what="backward") for c in forward if c.dtype == "bfloat16"]
