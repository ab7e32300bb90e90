"""The frozen records of an explanation, which print themselves: the steps behind a fact, and what is worth a warning."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable

import numpy as np

from .grid import Grid, combine

SHOWN = 6  # ranges of positions in a phrase
STEPS = 40  # steps of an explanation


@dataclasses.dataclass(frozen=True)
class Step:
    """One fact on the way, and the rule behind it.

    Attributes:
      name: of the variable.
      fact: which of its elements are what: "columns 3, 5 are zero".
      reason: a phrase.
      causes: the names of the variables that the reason names; most of them have steps of their own.
      scope: the module path, `""` where the program names none.
      line: the user's source line, `""` for an input.
    """

    name: str
    fact: str
    reason: str
    causes: tuple[str, ...] = ()
    scope: str = ""
    line: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.fact} <- {self.reason}" + (f"  ({self.line})" if self.line else "")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why the elements of one variable are dead or live.

    Attributes:
      name: of the variable.
      summary: its facts, in one line.
      unneeded: why elements are not needed, from the variable towards the outputs.
      zeros: why elements, or the partners that make them unneeded, are zero: towards the inputs.
      losses: why live elements are not zero: the nearest places at which zeros were lost.
    """

    name: str
    summary: str
    unneeded: tuple[Step, ...]
    zeros: tuple[Step, ...]
    losses: tuple[Step, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        return (*self.unneeded, *self.zeros, *self.losses)

    def __str__(self) -> str:
        steps = [f"  {step}" for step in self.steps]
        if len(steps) > STEPS:
            steps[STEPS:] = [f"  ... and {len(steps) - STEPS} more steps"]
        return "\n".join([self.summary, *(steps or ["  nothing is known of it"])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        esc = html.escape
        told = lambda s: f"<code>{esc(s.name)}</code>: {esc(s.fact)} &larr; {esc(s.reason)}"
        items = "".join(f'<li title="{esc(s.line)}">{told(s)}</li>' for s in self.steps)
        return f"<details open><summary>{esc(self.summary)}</summary><ol>{items}</ol></details>"


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something in a propagation that is worth a warning.

    Attributes:
      kind: "collapse": something counts for nothing; "lost": zeros were lost that need not be.
      names: where it begins: the first variables at which nothing is left, or the result whose zeros were lost.
      reason: a phrase.
      mend: what to do about it.
      affected: the outputs and params that count for nothing because of it.
      scope, line: of the program; `""` for an input.
    """

    kind: str
    names: tuple[str, ...]
    reason: str
    mend: str
    affected: tuple[str, ...] = ()
    scope: str = ""
    line: str = ""

    def __str__(self) -> str:
        where = f"  ({self.line})" if self.line else ""
        more = [name for name in self.affected if name not in self.names]
        dead = f"; so {listed(more)} count{'s' * (len(more) == 1)} for nothing" if more else ""
        return f"{self.kind}: {self.reason}{dead}; {self.mend}{where}"


def listed(items: Iterable[str], most: int = SHOWN, sep: str = ", ") -> str:
    """`a, b, c`, at most so many of them."""
    items = list(items)
    return sep.join(items[:most]) + (f", ... ({len(items)} in all)" if len(items) > most else "")


def said_of(elements: Grid, what: str) -> str:
    """`columns 3, 5 are <what>`, of a boolean grid."""
    phrase, plural = phrase_of(elements)
    return f"{phrase} {'are' if plural else 'is'} {what}"


def phrase_of(elements: Grid) -> tuple[str, bool]:
    """`columns 3, 5`: whole slices where a boolean grid consists of such, a share elsewhere; and whether it is plural."""
    if elements.cells.all():
        return ("all elements", True) if elements.ndim else ("it", False)
    others = lambda axis: [d for d in range(elements.ndim) if d != axis]
    slices = [(axis, elements.reduce(others(axis), np.logical_and)) for axis in range(elements.ndim)]
    slices = [(axis, along) for axis, along in slices if along.cells.any()]
    rest = elements
    for axis, along in slices:
        rest = combine(lambda r, a: r & ~a, rest, along.broadcast(elements.shape, [axis]))
    if not slices or rest.cells.any():
        return f"{elements.nnz / elements.size:.1%} of the elements", True
    phrases = [_slices(np.flatnonzero(along.elements()), axis, elements.ndim) for axis, along in slices]
    return " and ".join(phrases), len(phrases) > 1 or slices[0][1].nnz > 1


def _slices(positions: np.ndarray, axis: int, ndim: int) -> str:
    noun = "element" if ndim == 1 else "column" if axis == ndim - 1 else "row" if ndim == 2 else "slice"
    plural = "s" if len(positions) > 1 else ""
    behind = f" of axis {axis}" if noun == "slice" else ""
    return f"{noun}{plural} {_ranges(positions)}{behind}"


def _ranges(positions: np.ndarray) -> str:
    """`3, 5, 7-9`."""
    runs = np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)
    shown = [str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs[:SHOWN]]
    return ", ".join(shown) + (f", ... ({len(positions)} in all)" if len(runs) > SHOWN else "")
