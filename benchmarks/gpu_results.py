"""What a run of `benchmarks.gpu` found, as JSON and as tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from .gpu_cases import Case
from .machine import ROOT, Machine

DIRECTORY = ROOT / "benchmarks" / "results" / "gpu"
OURS = ("mosaic", "triton")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One case: median seconds of one product, their spread (interquartile range over median) and what computed it, by
    contender; of those that could not serve it the reason."""

    case: Case
    seconds: dict[str, float]
    spread: dict[str, float]
    configs: dict[str, str]
    refused: dict[str, str]

    def best(self, *prefixes: str) -> str | None:
        """The fastest contender whose name begins so."""
        names = [name for name in self.seconds if name.startswith(prefixes)]
        return min(names, key=self.seconds.__getitem__) if names else None

    def ratio(self, name: str | None, baseline: str = "dense") -> float | None:
        """How many times faster than the baseline."""
        return self.seconds[baseline] / self.seconds[name] if name and baseline in self.seconds else None

    def __str__(self) -> str:
        name = self.best(*OURS)
        if name is None or "dense" not in self.seconds:
            return f"{self.case.name}: not measured: {self.refused}"
        rate = self.case.useful_flops / self.seconds[name] / 1e12
        return (
            f"{self.case.name}: dense {self.seconds['dense'] * 1e6:.1f} us, {name} {self.ratio(name):.2f}x, {rate:.0f} TFLOP/s"
        )


@dataclasses.dataclass
class Run:
    """One call of the runner.

    Attributes:
      l2_bytes_per_s: from L2 to shared memory, all multiprocessors together; None where it was not measured.
      wrong: kernels whose result was wrong or that failed.
      entries: what was timed.
    """

    machine: Machine
    command: str
    l2_bytes_per_s: float | None
    wrong: list[str]
    entries: list[Entry]


def path_of(kind: str) -> Path:
    return DIRECTORY / f"{kind.replace(' ', '-').replace('/', '-')}.json"


def dump(run: Run, path: Path) -> None:
    """Writes a run, one case a line, with the break-even densities that follow from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {
        "machine": dataclasses.asdict(run.machine),
        "command": run.command,
        "l2_bytes_per_s": run.l2_bytes_per_s,
        "wrong": run.wrong,
        "break_even": [[block, dtype, value] for (block, dtype), value in break_even(run.entries).items()],
    }
    lines = ",\n".join(json.dumps(dataclasses.asdict(entry)) for entry in run.entries)
    path.write_text(f'{json.dumps(head)[:-1]}, "entries": [\n{lines}\n]}}\n')


def load(path: Path) -> Run:
    tree = json.loads(path.read_text())
    entries = [Entry(**{**entry, "case": Case(**entry["case"])}) for entry in tree["entries"]]
    return Run(Machine(**tree["machine"]), tree["command"], tree["l2_bytes_per_s"], tree["wrong"], entries)


def break_even(entries: list[Entry]) -> dict[tuple[int, str], float]:
    """By block and dtype the density up to which our best kernel is faster than dense, on the forward products of the largest
    square that was measured at two densities or more: the time is taken as linear in the density between two measurements."""
    found = {}
    for key in sorted({(e.case.block, e.case.dtype) for e in entries}):
        squares = [e for e in entries if (e.case.block, e.case.dtype) == key and _is_square(e) and e.ratio(e.best(*OURS))]
        for size in sorted({e.case.m for e in squares}, reverse=True):
            points = sorted((e.case.density, 1 / e.ratio(e.best(*OURS))) for e in squares if e.case.m == size)
            if len(points) >= 2:
                found[key] = _crossing(points)
                break
    return found


def _is_square(entry: Entry) -> bool:
    return entry.case.what == "forward" and entry.case.family.startswith("square")


def _crossing(points: list[tuple[float, float]]) -> float:
    """Where the time relative to dense reaches 1; beyond the last point, along the last line, and never above 1."""
    for (d0, t0), (d1, t1) in zip(points, points[1:], strict=False):
        if t1 >= 1 or (d1, t1) == points[-1]:
            return min(1.0, max(0.0, d0 + (1 - t0) * (d1 - d0) / (t1 - t0))) if t1 > t0 else 1.0
    return points[-1][0]


def sections() -> list[str]:
    """One section of the page per device; none where nothing was measured."""
    return [section(path, load(path)) for path in sorted(DIRECTORY.glob("*.json"))]


def section(path: Path, run: Run) -> str:
    bandwidth = f"{run.l2_bytes_per_s / 1e12:.2f} TB/s" if run.l2_bytes_per_s else "not measured"
    facts = {
        "Device": run.machine,
        "Baseline": "XLA dense (cuBLAS) of the masked weight, random data, the same dtype",
        "Command": f"`{run.command}`",
        "Data": f"`{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}`",
        "L2 to shared memory": bandwidth,
        "Wrong or failed": len(run.wrong),
    }
    head = ["case", "dense, us", "mosaic", "triton", "torch dense", "torch bsr", "useful TFLOP/s"]
    rows = [_row(entry) for entry in run.entries if "dense" in entry.seconds]
    even = [f"- {block}x{block} {dtype}: {value:.2f}" for (block, dtype), value in break_even(run.entries).items()]
    parts = [
        f"## {run.machine.device}",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        "### Ratio to dense",
        "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]),
    ]
    if even:
        parts += ["### Density up to which sparse is faster", "\n".join(even)]
    return "\n\n".join([*parts, ""])


def _row(entry: Entry) -> list[str]:
    cell = lambda name: "" if (ratio := entry.ratio(name)) is None else f"{ratio:.2f}x"
    best = entry.best(*OURS)
    rate = f"{entry.case.useful_flops / entry.seconds[best] / 1e12:.0f}" if best else ""
    others = [cell(entry.best(name)) for name in ("mosaic", "triton", "torch dense", "torch bsr")]
    return [entry.case.name, f"{entry.seconds['dense'] * 1e6:.1f}", *others, rate]
