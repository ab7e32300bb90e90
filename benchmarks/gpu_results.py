"""What a run of `benchmarks.gpu` found, as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from .gpu_cases import Case
from .machine import ROOT, Machine

DIRECTORY = ROOT / "benchmarks" / "results" / "gpu"
OURS = ("mosaic", "triton")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One case: median seconds of one call of its products, their spread (interquartile range over median) and what computed
    it, by contender; of those that could not serve it the reason; and what the library chose, `"dense"` where it stays so."""

    case: Case
    seconds: dict[str, float]
    spread: dict[str, float]
    configs: dict[str, str]
    refused: dict[str, str]
    chosen: str = ""

    def best(self, *prefixes: str) -> str | None:
        """The fastest contender whose name begins so."""
        names = [name for name in self.seconds if name.startswith(prefixes)]
        return min(names, key=self.seconds.__getitem__) if names else None

    def ratio(self, name: str | None, baseline: str | None = "dense") -> float | None:
        """How many times faster than the baseline."""
        return self.seconds[baseline] / self.seconds[name] if name in self.seconds and baseline in self.seconds else None

    def __str__(self) -> str:
        name, ratio = self.best(*OURS), self.ratio(self.best(*OURS))
        if name is None or ratio is None:
            return f"{self.case.name}: not measured: {self.refused}"
        rate, moved = self.case.useful_flops / self.seconds[name], self.case.useful_bytes / self.seconds[name]
        dense = f"dense {self.seconds['dense'] * 1e6:.1f} us"
        return f"{self.case.name}: {dense}, {name} {ratio:.2f}x, {rate / 1e12:.0f} TFLOP/s, {moved / 1e9:.0f} GB/s"


@dataclasses.dataclass
class Run:
    """One run, or several one behind the other on the same machine.

    Attributes:
      multiprocessors: of the device.
      l2_bytes_per_s: from L2 to shared memory, all multiprocessors together; None where it was not measured.
      checked: the cases on which every kernel was compared with dense.
      wrong: kernels whose result was wrong or that failed.
      entries: what was timed.
    """

    machine: Machine
    command: str
    multiprocessors: int
    l2_bytes_per_s: float | None = None
    checked: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)
    entries: list[Entry] = dataclasses.field(default_factory=list)


def path_of(kind: str) -> Path:
    return DIRECTORY / f"{kind.replace(' ', '-').replace('/', '-')}.json"


def dump(run: Run, path: Path) -> None:
    """Writes a run, one case a line, with the break-even densities that follow from it; a reader finds all of it or what was
    there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name != "entries"}
    head["machine"] = dataclasses.asdict(run.machine)
    head["break_even"] = [[*key, value] for key, value in break_even(run.entries).items()]
    lines = ",\n".join(json.dumps(dataclasses.asdict(entry)) for entry in run.entries)
    scratch = path.with_suffix(".writing")
    scratch.write_text(f'{json.dumps(head)[:-1]}, "entries": [\n{lines}\n]}}\n')
    os.replace(scratch, path)


def load(path: Path) -> Run:
    tree = json.loads(path.read_text())
    tree.pop("break_even")
    tree["machine"] = Machine(**tree["machine"])
    tree["entries"] = [Entry(**{**entry, "case": _case(entry["case"])}) for entry in tree["entries"]]
    return Run(**tree)


def _case(tree: dict) -> Case:
    return Case(**{**tree, "block": tuple(tree["block"])})


def break_even(entries: list[Entry]) -> dict[tuple[str, str, str], float]:
    """By product, dtype and block (`"64x128"`) the density up to which our best kernel is faster than dense, on the largest
    square that was measured at two densities or more: the time is taken as linear in the density between two measurements."""
    groups: dict[tuple[str, str, str], dict[int, list[tuple[float, float]]]] = {}
    for e in entries:
        ratio, c = e.ratio(e.best(*OURS)), e.case
        if ratio is not None and c.what != "step" and c.family.startswith("square"):
            key = (c.what, c.dtype, "x".join(map(str, c.block)))
            groups.setdefault(key, {}).setdefault(c.m, []).append((c.density, 1 / ratio))
    largest = {key: max((m for m, points in sizes.items() if len(points) > 1), default=0) for key, sizes in groups.items()}
    return {key: _crossing(sorted(sizes[largest[key]])) for key, sizes in sorted(groups.items()) if largest[key]}


def _crossing(points: list[tuple[float, float]]) -> float:
    """Where the time relative to dense reaches 1; beyond the last point, along the last line, and never above 1."""
    for (d0, t0), (d1, t1) in zip(points, points[1:], strict=False):
        if t1 >= 1 or (d1, t1) == points[-1]:
            return min(1.0, max(0.0, d0 + (1 - t0) * (d1 - d0) / (t1 - t0))) if t1 > t0 else 1.0
    return points[-1][0]
