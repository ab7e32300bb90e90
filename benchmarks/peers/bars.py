"""The table of what the CPU kernels must reach, row by row, and the cases that stand for each row."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence


@dataclasses.dataclass(frozen=True)
class Bar:
    """What one case must reach.

    Attributes:
      name: what `--cases` is matched with.
      row: the row of the table that it belongs to.
      kind: who builds it: `"product"`, `"vector"`, `"wavegru"`, `"encoder"` or `"training"`.
      spec: the builder's arguments.
      xla: at least so many times as fast as XLA's dense program with masked weights.
      best: likewise as the fastest dense library of the case, 0 where none is asked for.
      deepsparse: at most this share of DeepSparse's time.
    """

    name: str
    row: str
    kind: str
    spec: tuple
    xla: float
    best: float = 0.0
    deepsparse: float = 1.0


BLOCKS = "90 % in 32x32 and 64x64 blocks, M = 32 ... 512"
TALL = "90 % in 32x32 and 64x64 blocks, M = 1024, 2048"
HALF = "70 % in 64x64 blocks"
SMALL = "90 % in 16x16 blocks; in 4x4 blocks"
ELEMENTS = "90 % unstructured, random; magnitude masks of DLMC"
VECTOR = "M = 1, 90 % in blocks, weights out of cache"
GRU = "Lyra's WaveGRU, one step"
ENCODER = "MiniLM encoder, sequence 128"
TRAINING = "training step of a 4096 MLP, 90 % in blocks, batch 256"

REAL = ("transformer_mag90_enc1_ffn1", "transformer_mag90_enc1_ffn2", "transformer_mag90_enc1_q")


def bars() -> list[Bar]:
    """Every case, the rows taking turns: a run that is cut short has something of each."""
    rows: dict[str, list[Bar]] = {}
    for bar in _all():
        rows.setdefault(bar.row, []).append(bar)
    turns = itertools.zip_longest(*(_spread(cases) for cases in rows.values()))
    return [bar for turn in turns for bar in turn if bar is not None]


def select(patterns: Sequence[str]) -> list[Bar]:
    """The cases whose name one of the regular expressions is found in; all without any.

    Raises:
      ValueError: if there is none.
    """
    chosen = [bar for bar in bars() if not patterns or any(re.search(p, bar.name) for p in patterns)]
    if not chosen:
        raise ValueError(f"no case matches {' or '.join(patterns)}; they are {', '.join(bar.name for bar in bars())}")
    return chosen


def _spread(cases: list[Bar]) -> list[Bar]:
    """Every third, then the others: neighbours in the list say much the same."""
    return [case for first in range(3) for case in cases[first::3]]


def _all() -> Iterator[Bar]:
    for size, block, m in itertools.product((2048, 4096), (32, 64), (32, 128, 512)):
        yield _product(BLOCKS, m, size, "block", 0.1, block, xla=9, best=8)
    for size, block, m in itertools.product((2048, 4096), (32, 64), (1024, 2048)):
        yield _product(TALL, m, size, "block", 0.1, block, xla=7)
    for m, xla in ((1, 4), (64, 4), (512, 3), (2048, 3)):
        yield _product(HALF, m, 2048, "block", 0.3, 64, xla=xla)
    for block, xla in ((16, 6), (4, 5)):
        for m in (64, 512):
            yield _product(SMALL, m, 2048, "block", 0.1, block, xla=xla)
    for m in (64, 512):
        yield _product(ELEMENTS, m, 2048, "unstructured", 0.1, 1, xla=4)
    for name, m in itertools.product(REAL, (64, 512)):
        yield Bar(f"dlmc-{name}-m{m}", ELEMENTS, "product", (name, m), xla=3)
    for block in (32, 64):
        yield Bar(f"vector4096-b{block}-d0.1-m1", VECTOR, "vector", (4096, block, 0.1), xla=10)
    yield Bar("wavegru-step", GRU, "wavegru", (), xla=8)
    patterns = (("b32-d0.1", 32, 0.1, 4.0), ("b32-d0.2", 32, 0.2, 2.8), ("elements-d0.1", 1, 0.1, 2.8))
    for batch, (pattern, block, density, xla) in itertools.product((1, 16), patterns):
        need = xla if batch == 1 else 0.0
        yield Bar(f"minilm-{pattern}-batch{batch}", ENCODER, "encoder", (batch, block, density), xla=need, deepsparse=1.1)
    yield Bar("training-4096-b32-d0.1-m256", TRAINING, "training", (4096, 32, 0.1, 256), xla=6)


def _product(row: str, m: int, size: int, pattern: str, density: float, block: int, **need: float) -> Bar:
    kind = f"b{block}" if pattern == "block" else "elements"
    name = f"square{size}-{kind}-d{density:g}-m{m}"
    return Bar(name, row, "product", (m, size, size, pattern, density, block), **need)
