"""Where the boxes of a graph stand, and the ways of the lines between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

PASSAGE = 0.22  # of a box's width: what a line takes that passes a row
LIGHT = 0.01  # weight of a box that reads nothing: it stands beside the others
SWEEPS = 12

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Boxes in rows, each below all that it reads; a line passes the rows between in gaps of its own.

    Attributes:
      places: column and row of every box.
      ways: `(from, to)` to the points between, a line's gaps in the rows that it passes.
    """

    places: tuple[Point, ...]
    ways: Mapping[tuple[int, int], tuple[Point, ...]]

    @property
    def size(self) -> Point:
        """Columns and rows, of boxes and of gaps."""
        points = [*self.places, *(point for way in self.ways.values() for point in way)]
        return max((x for x, _ in points), default=0.0) + 1, max((y for _, y in points), default=0.0) + 1


def layout(sources: Sequence[tuple[int, ...]]) -> Layout:
    """The layout of boxes that read the boxes `sources[i]`, all of them earlier ones."""
    levels = _levels(sources)
    gaps = list(_gaps(sources, levels))  # of a box's lines, in the rows behind it
    at = {gap: len(sources) + i for i, gap in enumerate(gaps)}
    rows: list[list[int]] = [[] for _ in range(max(levels, default=-1) + 1)]
    for i, level in enumerate([*levels, *(level for _, level in gaps)]):
        rows[level].append(i)
    via = lambda source, level: at[source, level] if level > levels[source] else source
    links = [(via(s, levels[i] - 1), i) for i, read in enumerate(sources) for s in read]
    links += [(via(source, level - 1), at[source, level]) for source, level in gaps]
    columns = _columns(rows, links, sources)
    ways = {
        (s, i): tuple((columns[at[s, level]], float(level)) for level in range(levels[s] + 1, levels[i]))
        for i, read in enumerate(sources)
        for s in read
    }
    return Layout(tuple((columns[i], float(level)) for i, level in enumerate(levels)), ways)


def _levels(sources: Sequence[tuple[int, ...]]) -> list[int]:
    """The row of each box: below all that it reads; what reads nothing stands right above its first user."""
    levels: list[int] = []
    for read in sources:
        levels.append(1 + max((levels[i] for i in read), default=-1))
    first = {}
    for i, read in enumerate(sources):
        for source in read:
            first[source] = min(first.get(source, levels[i]), levels[i])
    above = lambda i: first[i] - 1 if not sources[i] and i in first else levels[i]
    return [above(i) for i in range(len(levels))]


def _gaps(sources: Sequence[tuple[int, ...]], levels: Sequence[int]) -> Iterator[tuple[int, int]]:
    """`(box, row)` of the rows that a box's lines pass; lines of one box run together."""
    last = {}
    for i, read in enumerate(sources):
        for source in read:
            last[source] = max(last.get(source, 0), levels[i])
    for source, level in sorted(last.items()):
        yield from ((source, between) for between in range(levels[source] + 1, level))


def _columns(rows: list[list[int]], links: Sequence[tuple[int, int]], sources: Sequence[tuple[int, ...]]) -> dict[int, float]:
    """Columns near the mean of those that each is linked with, none closer than its width; what reads nothing to the left."""
    beside: dict[int, list[int]] = {i: [] for row in rows for i in row}
    for a, b in links:
        beside[a].append(b)
        beside[b].append(a)
    width = lambda i: 1.0 if i < len(sources) else PASSAGE
    weight = {i: LIGHT if i < len(sources) and not sources[i] else 1.0 for i in beside}
    mean = lambda i: sum(weight[n] * at[n] for n in beside[i]) / sum(weight[n] for n in beside[i]) if beside[i] else at[i]
    at = {i: float(n) for row in rows for n, i in enumerate(row)}
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = {i: mean(i) for i in row}
            row.sort(key=lambda i: wanted[i] - 2 * (weight[i] == LIGHT))
            for left, i in zip([None, *row], row, strict=False):
                at[i] = wanted[i] if left is None else max(wanted[i], at[left] + (width(left) + width(i)) / 2)
            shift = sum(weight[i] * (wanted[i] - at[i]) for i in row) / sum(weight[i] for i in row)
            at.update({i: at[i] + shift for i in row})
    start = min((at[i] - width(i) / 2 for i in at), default=0.0) + 0.5
    return {i: x - start for i, x in at.items()}
