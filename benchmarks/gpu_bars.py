"""What the GPU kernels must reach on an H200, beside what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .gpu_cases import BAR_BLOCKS, square
from .gpu_contenders import LIBRARY
from .gpu_results import OURS, Entry

SIZES = (4096, 8192)
TIMES_DENSE = {
    ((128, 128), 0.1): 6.0,
    ((64, 128), 0.1): 6.0,
    ((128, 128), 0.25): 2.8,
    ((64, 128), 0.25): 2.8,
    ((64, 64), 0.1): 4.0,
}
TIMES_TORCH = 1.5
OF_FORWARD = 0.85
NOISE = 0.97  # a ratio to dense below this is slower than dense


@dataclasses.dataclass(frozen=True)
class Bar:
    """
    Attributes:
      name: what is wanted, and where.
      wanted: at least this much.
      measured: None where the cases it asks for were not measured.
    """

    name: str
    wanted: float
    measured: float | None

    @property
    def met(self) -> str:
        return "not measured" if self.measured is None else "yes" if self.measured >= self.wanted else "no"


def bars(entries: list[Entry]) -> list[Bar]:
    """All of them, in bfloat16."""
    found = {entry.case: entry for entry in entries}
    return [*_times_dense(found), *_of_forward(found), _never_slower(entries), _times_torch(entries)]


def _times_dense(found: dict) -> Iterator[Bar]:
    for size in SIZES:
        for (block, density), wanted in TIMES_DENSE.items():
            entry = found.get(square(size, block, density))
            yield Bar(
                f"times dense, {size}^3, {_sides(block)}, density {density}", wanted, entry and entry.ratio(entry.best(*OURS))
            )


def _of_forward(found: dict) -> Iterator[Bar]:
    """The rate of useful work as a share of the forward product's."""
    for size in SIZES:
        for what in ("dx", "dw"):
            for block in BAR_BLOCKS:
                ours, forward = (_best(found.get(square(size, block, 0.1, what=w))) for w in (what, "forward"))
                share = forward / ours if ours and forward else None
                yield Bar(f"{what} per useful FLOP as forward, {size}^3, {_sides(block)}, density 0.1", OF_FORWARD, share)


def _never_slower(entries: list[Entry]) -> Bar:
    """The worst ratio to dense of what the library chose, where that was not dense."""
    ratios = [r for e in entries if (r := e.ratio(LIBRARY)) is not None]
    chosen = [e for e in entries if e.chosen]
    measured = min(ratios) if ratios else 1.0 if chosen else None
    return Bar(f"what the library chose, times dense, the worst of {len(chosen)} cases", NOISE, measured)


def _times_torch(entries: list[Entry]) -> Bar:
    ratios = [r for e in entries if (r := e.ratio(e.best(*OURS), e.best("torch bsr"))) is not None]
    name = f"times torch's BSR, the worst of {len(ratios)} cases"
    return Bar(name, TIMES_TORCH, min(ratios) if ratios else None)


def _best(entry: Entry | None) -> float | None:
    name = entry and entry.best(*OURS)
    return entry.seconds[name] if entry and name else None


def _sides(block: tuple[int, int]) -> str:
    return "x".join(map(str, block))


def table(entries: list[Entry]) -> str:
    """As Markdown."""
    value = lambda bar: "-" if bar.measured is None else f"{bar.measured:.2f}"
    rows = [[bar.name, f"{bar.wanted:g}", value(bar), bar.met] for bar in bars(entries)]
    lines = [["bar (bfloat16 but for the last two, at least)", "wanted", "measured", "met"], ["---"] * 4, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
