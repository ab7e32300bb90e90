"""The bodies of calls, swept like any other program."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ...grid import Grid, combine
from ..facts import CONST, LIVE, Fact, Need
from ..jaxprs import Program, flatten
from ..propagate import Facts, forward_sweep, propagate
from ..scores import Freedom

T = TypeVar("T")
CALLS = frozenset({"checkpoint", "remat", "remat2", "custom_jvp_call", "custom_vjp_call", "scan", "while", "cond"})
PATIENCE = 12  # sweeps, before what still changes in a loop is taken as wholly changed


@functools.lru_cache(maxsize=512)
def body_of(jaxpr, depth: int = 0) -> Program:
    """The program of a body, the same object for the same body."""
    return at_depth(flatten(jaxpr), depth)


def at_depth(program: Program, depth: int) -> Program:
    """The program with its calls marked as lying `depth` derivatives below the user's own program."""
    if depth == 0:
        return program
    mark = lambda e: dataclasses.replace(e, params={**e.params, "depth": depth}) if e.name in CALLS else e
    return dataclasses.replace(program, equations=tuple(map(mark, program.equations)))


def values(program: Program, inputs: Sequence[Fact], freedom: Freedom | None = None) -> list[Fact]:
    """The facts of a program's results."""
    facts = forward_facts(program, inputs, freedom)
    return [facts.value(v) for v in program.outputs]


def needs(program: Program, inputs: Sequence[Fact], outputs: Sequence[Need], freedom: Freedom | None = None) -> list[Need]:
    """What a program needs of its inputs."""
    facts = propagate(program, inputs, outputs, freedom)
    return [facts.need(v) for v in program.inputs]


def forward_facts(program: Program, inputs: Sequence[Fact], freedom: Freedom | None = None) -> Facts:
    """The value facts of a program; it has no needs yet."""
    return Facts(forward_sweep(program, inputs, freedom), {}, (), freedom)


def settled(start: Sequence[Grid], step: Callable[[list[Grid]], tuple[Sequence[Grid], T]], most: int | None = None):
    """The least grids above `start` that `step` does not raise (or that `most` steps reach), and what else `step` gives there.

    What rises for more than `PATIENCE` steps becomes uniform.

    Args:
      step: `step(grids) -> (next_grids, anything)`.
    """
    state = list(start)
    for count in itertools.count():
        grids, result = step(state)
        raised = [combine(np.maximum, a, b) for a, b in zip(state, grids, strict=True)]
        changed = [a != b for a, b in zip(state, raised, strict=True)]
        if count == most or not any(changed):
            return state, result
        state = [_flat(b) if c and count >= PATIENCE else b for b, c in zip(raised, changed, strict=True)]
    raise AssertionError


def varying(fact: Fact) -> Fact:
    """The fact of what depends on the data unless it is zero."""
    return Fact(fact.value.map(lambda cells: np.where(cells == CONST, LIVE, cells)))


def _flat(grid: Grid) -> Grid:
    return Grid.uniform(grid.shape, grid.cells.max())
