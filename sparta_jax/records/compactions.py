"""What compaction left out."""

from __future__ import annotations

import dataclasses

from .rows import grouped

MOST = 12  # params that a report shows the live slices of


@dataclasses.dataclass(frozen=True)
class Compaction:
    """What compaction found to leave out.

    Attributes:
      taken: whether it was left out: not where moving the rest costs more than it saves.
      flops, whole_flops: of all products of the program, compacted and whole.
      narrowed: `(key path, shape, shape of what is live)` of the params of which whole slices are dead.
    """

    taken: bool
    flops: float
    whole_flops: float
    narrowed: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def lines(self) -> list[list[str]]:
        verb = "compacted" if self.taken else "not compacted, as moving what is left costs more than it saves"
        head = [f"{verb}: {self.flops / 1e9:.3g} GFLOP of {self.whole_flops / 1e9:.3g} in all products"]
        sized = lambda sizes: "x".join(map(str, sizes))
        rows = [[f"live slices: {name}", f"{sized(now)} of {sized(shape)}"] for name, shape, now in self.narrowed]
        rows = grouped(rows)
        more = len(rows) - MOST
        return [head, *rows[:MOST], *([[f"live slices: {more} more, in `report.compaction.narrowed`"]] if more > 0 else [])]
