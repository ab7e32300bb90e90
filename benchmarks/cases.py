"""What is measured: products `x[m, k] @ w[k, n]` with a masked weight, random and from real pruned networks."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SQUARES = {f"square{size}": (size, size) for size in (1024, 2048, 4096)}
MODELS = {
    "minilm-attention": (384, 384),
    "minilm-up": (384, 1536),
    "minilm-down": (1536, 384),
    "bert-attention": (768, 768),
    "bert-up": (768, 3072),
    "bert-down": (3072, 768),
}
SHAPES = SQUARES | MODELS
ROWS = (1, 16, 64, 128, 256, 512, 2048)
BLOCKS = (64, 32, 16, 8, 1)
DENSITIES = (0.5, 0.25, 0.1, 0.05)

# What is run where nobody asks for certain cases: one axis at a time through the full cross.
STANDARD = (
    r"square2048-(b\d+|elements)-d0\.1-m\d+",
    r"square2048-b32-d[\d.]+-m(1|64|512)",
    r"square(1024|4096)-b32-d0\.1-m(1|64|512)",
    r"minilm-\w+-b32-d(0\.5|0\.25|0\.1)-m(128|2048)",
    r"bert-\w+-b32-d0\.1-m(1|128|2048)",
    r"dlmc-transformer_(mag90|vd90|l0_90)_enc\d_(ffn1|q)-m(1|128)",
    r"dlmc-rn50_\w+90_g3b1_conv2-m(128|2048)",
)
QUICK = (r"minilm-attention-(b32|elements)-d0\.1-m(1|128)", r"square1024-b64-d0\.05-m64")


@dataclasses.dataclass(frozen=True)
class Case:
    """One product.

    Attributes:
      family: `"square2048"`, `"bert-up"`, `"dlmc-<mask>"`.
      m, k, n: sizes of `x[m, k] @ w[k, n]`.
      block: side of the random mask's square blocks, 1 for single elements; None where the mask is a real one.
      density: share of live blocks of the random mask; of a real one, its share of live elements.
    """

    family: str
    m: int
    k: int
    n: int
    block: int | None
    density: float

    @property
    def name(self) -> str:
        """What `--cases` is matched with, `square2048-b32-d0.1-m64`."""
        if self.block is None:
            return f"{self.family}-m{self.m}"
        return f"{self.family}-{self.pattern}-d{self.density:g}-m{self.m}"

    @property
    def pattern(self) -> str:
        if self.block is None:
            return "real"
        return "elements" if self.block == 1 else f"b{self.block}"

    def mask(self) -> np.ndarray:
        """`bool[k, n]`, True where live; the same in every run."""
        if self.block is None:
            return real_masks()[self.family.removeprefix("dlmc-")]
        return random_mask((self.k, self.n), self.block, self.density)

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """`x[m, k]` and `w[k, n]`, float32, normal; `w` is zero at dead elements, as a pruned weight is."""
        rng = np.random.default_rng([self.m, self.k, self.n])
        x = rng.standard_normal((self.m, self.k), np.float32)
        w = rng.standard_normal((self.k, self.n), np.float32) / np.float32(np.sqrt(self.k))
        return x, np.where(self.mask(), w, np.float32(0))


def random_mask(shape: tuple[int, int], block: int, density: float) -> np.ndarray:
    """`bool[shape]` with exactly `round(density * blocks)` live blocks, drawn from a seed made of the arguments."""
    rows, columns = (-(-size // block) for size in shape)
    rng = np.random.default_rng([*shape, block, round(density * 1e6)])
    live = np.zeros(rows * columns, bool)
    live[rng.permutation(live.size)[: round(density * live.size)]] = True
    return live.reshape(rows, columns).repeat(block, 0).repeat(block, 1)[: shape[0], : shape[1]]


@functools.cache
def real_masks() -> dict[str, np.ndarray]:
    """`bool[in, out]` masks of the Deep Learning Matrix Collection; none where `SPARTA_JAX_DATA` does not hold them."""
    path = Path(os.environ.get("SPARTA_JAX_DATA", "")) / "dlmc_masks.npz"
    if not path.is_file():
        return {}
    with np.load(path) as z:
        return {
            name: np.unpackbits(z[name], axis=1, count=columns).astype(bool).T
            for name, (_, columns) in zip(z["names"].tolist(), z["shapes"].tolist(), strict=True)
        }


def cases() -> Iterator[Case]:
    """The full cross of shapes, blocks, densities and rows, and every real mask."""
    for (family, (k, n)), block, density, m in itertools.product(SHAPES.items(), BLOCKS, DENSITIES, ROWS):
        yield Case(family, m, k, n, block, density)
    for (name, mask), m in itertools.product(real_masks().items(), ROWS):
        yield Case(f"dlmc-{name}", m, *mask.shape, None, float(mask.mean()))


def select(patterns: tuple[str, ...]) -> list[Case]:
    """The cases whose whole name one of the regular expressions matches, in the order of `cases`.

    Raises:
      ValueError: if there is none.
    """
    everything = list(cases())
    chosen = [case for case in everything if any(re.fullmatch(p, case.name) for p in patterns)]
    if not chosen:
        raise ValueError(f"no case matches {' or '.join(patterns)}; a name is, for instance, {everything[0].name}")
    return chosen
