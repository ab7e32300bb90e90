"""The programs of a call: its own, and those inside its equations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .propagate import Facts
from .rewrite import Rewritten
from .sites import Unmatched
from .stage import Origins
from .unroll import Loop


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """A program with what was found in it.

    Attributes:
      rewritten: the program and its sites.
      facts: of its variables.
      origins: what of it depends on the params alone.
      unmatched: its products with a sparse weight that stay dense.
      loops: what became of its loops over sparse stacked weights.
      times: how often it is run, as far as that is known.
    """

    rewritten: Rewritten
    facts: Facts
    origins: Origins
    unmatched: tuple[Unmatched, ...]
    loops: tuple[Loop, ...]
    times: int = 1

    def all(self) -> Iterator[Place]:
        """The place itself and those inside its equations."""
        yield self
        for bodies in self.rewritten.inner.values():
            for body in bodies:
                origins, times = body.origins(self.origins), self.times * body.times
                yield from Place(body.rewritten, body.facts, origins, body.unmatched, body.loops, times).all()
