"""What was measured, a line of JSON per case and thread count, kept from run to run."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .bars import Bar
from .contest import DENSE, OURS, SPARSE, XLA
from .race import Measured

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One case.

    Attributes:
      bar: what it must reach.
      threads: of every library.
      machine: the CPU, its instruction sets, versions, the commit.
      measured: the runners by name.
      absent: the others, and why.
      wrong: the runners whose results were wrong.
      busy: cores that other programs used meanwhile.
    """

    bar: Bar
    threads: int
    machine: Mapping[str, Any]
    measured: Mapping[str, Measured]
    absent: Mapping[str, str]
    wrong: tuple[str, ...]
    busy: float | None

    @property
    def over_xla(self) -> float:
        """How many times as fast as XLA."""
        return self.measured[XLA].median / self.measured[OURS].median

    @property
    def best_dense(self) -> str:
        return min((name for name in DENSE if name in self.measured), key=lambda name: self.measured[name].median)

    @property
    def over_best(self) -> float:
        """How many times as fast as the fastest dense library."""
        return self.measured[self.best_dense].median / self.measured[OURS].median

    @property
    def share_of_deepsparse(self) -> float | None:
        """Our time over DeepSparse's, None where that did not take part."""
        times = [self.measured[name].median for name in SPARSE if name in self.measured]
        return self.measured[OURS].median / min(times) if times else None

    @property
    def missed(self) -> tuple[str, ...]:
        """What it must reach and does not."""
        share = self.share_of_deepsparse
        faults = {
            "XLA": self.over_xla < self.bar.xla,
            "best dense": self.over_best < self.bar.best,
            "DeepSparse": share is not None and share > self.bar.deepsparse,
            "exactness": OURS in self.wrong,
        }
        return tuple(name for name, missed in faults.items() if missed)


def load(path: Path) -> list[Outcome]:
    """The outcomes in a file; those that another version of this program wrote are left out."""
    if not path.is_file():
        return []
    return [_outcome(tree) for tree in map(json.loads, path.read_text().splitlines()) if tree["version"] == VERSION]


def _outcome(tree: dict[str, Any]) -> Outcome:
    bar = Bar(**{**tree["bar"], "spec": tuple(tree["bar"]["spec"])})
    measured = {name: Measured(**facts) for name, facts in tree["measured"].items()}
    return Outcome(bar, tree["threads"], tree["machine"], measured, tree["absent"], tuple(tree["wrong"]), tree["busy"])


def keep(path: Path, outcome: Outcome) -> None:
    """Writes the file anew with this outcome in the place of an earlier one of the same case; whole or not at all."""
    kept = {(o.bar.name, o.threads): o for o in load(path)} | {(outcome.bar.name, outcome.threads): outcome}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text("".join(_line(o) + "\n" for o in kept.values()))
    os.replace(scratch, path)


def _line(outcome: Outcome) -> str:
    return json.dumps({"version": VERSION, **_rounded(dataclasses.asdict(outcome))})


def _rounded(tree: Any) -> Any:
    """Floats to four significant digits: more are noise."""
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_rounded(value) for value in tree]
    return float(f"{tree:.4g}") if isinstance(tree, float) else tree
