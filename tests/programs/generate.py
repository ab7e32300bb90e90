"""The generator: a random program from a source of randomness."""

from __future__ import annotations

import random

from .families import FAMILIES, write
from .program import Data, Program, Scope

LENGTHS = (2, 3, 4, 5, 6, 8, 10)


def generate(rng: random.Random) -> Program:
    """Draws a program: a few statements over one or two data arguments; what no other statement reads are the outputs."""
    s = Scope(rng)
    for shape in _inputs(s):
        s.data.append(Data(shape))
        s.let(f"x[{len(s.data) - 1}]", shape)
    given = set(s.values)
    write(s, len(given) + s.choose(LENGTHS), [f for f, weight in FAMILIES.items() for _ in range(weight)])
    unread = [v for v in s.values if not any(st.reads(v) for st in s.statements if v not in st.targets)]
    outputs = [v for v in unread if v not in given] or [list(s.values)[-1]]
    if s.params and s.chance(0.05):
        outputs.append("p[0]")
    return Program(
        tuple(s.params), tuple(s.data), tuple(s.statements), tuple(outputs[-3:]), s.reverse, s.reverse and s.chance(0.12)
    )


def _inputs(s: Scope) -> list[tuple[int, ...]]:
    d = s.size()
    shapes = [(2, 4, d)] if s.chance(0.7) else [(4, d)]
    return [*shapes, (*shapes[0][:-1], s.size())] if s.chance(0.3) else shapes
