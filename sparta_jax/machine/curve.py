"""A measured quantity over the number of rows."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Curve:
    """Never falling: linear between its knots, level before the first, proportional to the rows behind the last.

    Attributes:
      rows: the knots, ascending.
      values: at the knots, in picoseconds per element.
    """

    rows: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, measured: Mapping[int, float]) -> Curve:
        """Through these points; where they fall, which time over rows does not, the largest so far stands."""
        rows = sorted(measured)
        return cls(tuple(rows), tuple(itertools.accumulate((max(measured[r], 0.0) for r in rows), max)))

    def at(self, m: int) -> float:
        rows, values = self.rows, self.values
        if m >= rows[-1]:
            return values[-1] * m / rows[-1]
        if m <= rows[0]:
            return values[0]
        i = bisect.bisect_right(rows, m)
        share = (m - rows[i - 1]) / (rows[i] - rows[i - 1])
        return values[i - 1] + share * (values[i] - values[i - 1])
