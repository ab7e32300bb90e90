"""What products take on a kind of GPU, as measured by `make bench-gpu`: shipped, or from the cache directory."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from importlib import resources
from typing import Any

from . import store

KIND = "gpu"
FORMAT = 1
PEAK, BANDWIDTH = 9.89e14, 4.8e12
"""Of an H200, bfloat16 tensor cores and memory, from its data sheet: what every estimate is written in."""

FEW_ROWS = 256
"""Up to so many rows a product waits for its weight; what was measured there holds for no others."""


@dataclasses.dataclass(frozen=True, eq=False)
class Gpu:
    """What one kind of GPU was measured to take.

    Attributes:
      device: the kind, as JAX spells it.
      facts: what it was measured with: versions, and the bandwidth from L2 to shared memory in bytes per second.
      factors: measured over estimated time, by kernel, dtype (`"tf32"`: float32 rounded so), `"few"` or `"many"` rows, and the
        shorter side of the blocks that the kernel reads (0 for the dense products).
      break_even: by product (`"forward"`, `"dx"`, `"dw"`), dtype and side of the live blocks `(br, bc)` the density from which
        on no kernel was faster than dense, for many rows.
    """

    device: str
    facts: Mapping[str, Any]
    factors: Mapping[str, Mapping[str, Mapping[str, Mapping[int, float]]]]
    break_even: Mapping[str, Mapping[str, Mapping[tuple[int, int], float]]]

    def factor(self, kernel: str, dtype: str, m: int, side: int = 0) -> float | None:
        """Of the largest measured side that is not above `side`, else of the smallest; None where nothing was measured."""
        sides = self.factors.get(kernel, {}).get(dtype, {}).get("few" if m <= FEW_ROWS else "many")
        if not sides:
            return None
        return sides[max((s for s in sides if s <= side), default=min(sides))]

    def limits(self, product: str, dtype: str, m: int) -> Mapping[tuple[int, int], float]:
        """The break-even densities by block that hold for a product of `m` rows; none where none do."""
        return {} if m <= FEW_ROWS else self.break_even.get(product, {}).get(dtype, {})


def gpu(kind: str) -> Gpu | None:
    """The table of this kind of GPU: that in the cache directory where there is one, else the shipped one, else None."""
    return _gpu(kind, *map(os.environ.get, store.VARIABLES)) if kind else None


def forget() -> None:
    """Has the next call look for tables again."""
    _gpu.cache_clear()


@functools.lru_cache(maxsize=16)
def _gpu(kind: str, *variables: str | None) -> Gpu | None:
    """By the values of the variables that say where the cache directory lies."""
    key = {"device": kind}
    if (tree := store.read(KIND, key)) is not None:
        try:
            return from_json(tree)
        except ValueError as error:
            store.ignored(store.directory() / store.name_of(KIND, key), str(error))
    path = resources.files("sparta_jax.machine").joinpath("defaults", store.name_of(KIND, key))
    return from_json(json.loads(path.read_text())) if path.is_file() else None


def to_json(table: Gpu) -> dict[str, Any]:
    """Readable: sides as keys, three significant digits."""
    short = lambda value: float(f"{value:.3g}")
    factors = _deep(table.factors, 3, lambda sides: {str(side): short(v) for side, v in sorted(sides.items())})
    even = _deep(table.break_even, 2, lambda blocks: {f"{br}x{bc}": short(v) for (br, bc), v in sorted(blocks.items())})
    return {"format": FORMAT, "device": table.device, "facts": dict(table.facts), "factors": factors, "break_even": even}


def from_json(tree: Any) -> Gpu:
    """The table that `to_json` wrote.

    Raises:
      ValueError: if that is not what it is.
    """
    try:
        if tree["format"] != FORMAT:
            raise ValueError(f"has format {tree['format']}, this version reads {FORMAT}")
        factors = _deep(tree["factors"], 3, lambda sides: {int(side): _positive(v) for side, v in sides.items()})
        even = _deep(tree["break_even"], 2, lambda blocks: {_block(name): float(v) for name, v in blocks.items()})
        return Gpu(tree["device"], tree["facts"], factors, even)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is no table of a GPU ({type(error).__name__}: {error})") from error


def _block(name: str) -> tuple[int, int]:
    br, bc = name.split("x")
    return int(br), int(bc)


def _positive(value: Any) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"holds {value!r} where a factor is expected")
    return float(value)


def _deep(tree: Mapping, depth: int, function) -> dict:
    return {k: function(v) if depth == 1 else _deep(v, depth - 1, function) for k, v in tree.items()}
