"""What a run of the benchmark found, as frozen records and as JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from .cases import Case
from .machine import Machine
from .timing import Timing, ratio

VERSION = 1
# What each of our own choices must not be slower than: the program that it computes in its user's stead.
BASELINES = {"params": "masked", "packed": "dense"}
SLOWER = 0.97


@dataclasses.dataclass(frozen=True)
class Measured:
    """One contender's part in a case.

    Attributes:
      kernel, layout: what computed it.
      timing: seconds per call.
      error: relative, against the product in float64.
    """

    kernel: str
    layout: str
    timing: Timing
    error: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One case: its contenders by name, and of those that could not serve it the reason."""

    case: Case
    measured: dict[str, Measured]
    refused: dict[str, str]

    def ratio(self, name: str) -> float:
        """How many times faster than its baseline, in the same rounds."""
        return ratio(self.measured[baseline(name)].timing, self.measured[name].timing)

    @property
    def slower_than_dense(self) -> tuple[str, ...]:
        """The contenders of our own choice that reach less than `SLOWER` of their baseline's speed."""
        return tuple(name for name in BASELINES if self.ratio(name) < SLOWER)


def baseline(name: str) -> str:
    """The contender that another one is compared with."""
    return BASELINES.get(name, "dense")


@dataclasses.dataclass(frozen=True)
class Run:
    """One call of the runner."""

    machine: Machine
    command: str
    outcomes: tuple[Outcome, ...]


def dump(run: Run, path: Path) -> None:
    """Writes a run as JSON, one case a line."""
    head = {"version": VERSION, "machine": dataclasses.asdict(run.machine), "command": run.command}
    lines = ",\n".join(json.dumps(_rounded(dataclasses.asdict(outcome))) for outcome in run.outcomes)
    path.write_text(f'{json.dumps(head)[:-1]}, "outcomes": [\n{lines}\n]}}\n')


def _rounded(tree: Any) -> Any:
    """The tree with its floats to four significant digits: more are noise."""
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_rounded(value) for value in tree]
    return float(f"{tree:.4g}") if isinstance(tree, float) else tree


def load(path: Path) -> Run:
    """The run in a file that `dump` wrote.

    Raises:
      ValueError: if another version of it wrote the file.
    """
    tree = json.loads(path.read_text())
    if tree["version"] != VERSION:
        raise ValueError(f"{path}: version {tree['version']}, this program reads {VERSION}; measure again")
    outcomes = tuple(
        Outcome(
            Case(**outcome["case"]),
            {
                name: Measured(**{**measured, "timing": Timing(tuple(measured["timing"]["samples"]))})
                for name, measured in outcome["measured"].items()
            },
            outcome["refused"],
        )
        for outcome in tree["outcomes"]
    )
    return Run(Machine(**tree["machine"]), tree["command"], outcomes)
