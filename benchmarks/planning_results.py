"""What planning took: records, their JSON, their bars, and a section of `docs/performance.md`."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from .machine import ROOT, Machine

FILE = ROOT / "benchmarks" / "results" / "planning" / "cpu-threads-2.json"
GB = 1e9
COMPILED = ("encoder, sparse, params", "encoder, sparse, packed")
DECODER = (
    "Llama 3 8B's shapes (32 layers, width 4096, 32 heads, 8 of keys and values, hidden 14336, vocabulary 128256), sequence "
    "512, plain JAX, abstract params; 128x128 blocks of all projections live at random, 10 to 50 % of each weight"
)
ENCODER = (
    "all-MiniLM-L6-v2's shapes, batch 1, sequence 128; 32x32 blocks of the layers' kernels live at density 0.1; or half of all "
    "heads and hidden units, their biases with them"
)
# What each case is, for the reader of the page.
CASES = {
    "decoder, layers written out": "propagate",
    "decoder, layers scanned": "propagate; the scan is written out, each layer has its own masks",
    "decoder, layers scanned, unroll=False": "propagate; the scan stays, its layers share the union of their masks",
    "encoder": "propagate",
    "encoder, dead heads and hidden units": "propagate, then compact",
    "encoder, dense": "trace, lower, compile",
    "encoder, sparse, params": "trace, propagate, compact, match, choose, lower, compile",
    "encoder, sparse, packed": "the same, of packed params",
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One process' measurement: wall and CPU seconds by step, and its peak memory."""

    seconds: dict[str, float]
    cpu: dict[str, float]
    peak_bytes: int

    @property
    def total(self) -> float:
        """Wall seconds of all steps; packing is done once and stands apart."""
        return sum(s for step, s in self.seconds.items() if step != "pack")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A case's samples."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        """The median wall seconds."""
        return statistics.median(s.total for s in self.samples)

    @property
    def peak_bytes(self) -> int:
        return max(s.peak_bytes for s in self.samples)

    def step(self, name: str, field: str = "seconds") -> float:
        """The median seconds of one step."""
        return statistics.median(getattr(s, field)[name] for s in self.samples)


@dataclasses.dataclass(frozen=True)
class Planning:
    """One call of the command.

    Attributes:
      load: the machine's mean number of running processes in the minute before.
      niceness: of the measured processes; below 0 they come before others.
    """

    machine: Machine
    command: str
    load: float
    niceness: int
    outcomes: tuple[Outcome, ...]

    def __getitem__(self, name: str) -> Outcome:
        return next(outcome for outcome in self.outcomes if outcome.name == name)


@dataclasses.dataclass(frozen=True)
class Bar:
    """What a case may take at most."""

    case: str
    what: str
    value: float
    limit: float
    unit: str

    @property
    def is_met(self) -> bool:
        return self.value < self.limit

    def __str__(self) -> str:
        return f"{self.value:.3g} {self.unit} of {self.limit:.3g} {self.unit}{'' if self.is_met else ' (missed)'}"


def bars(run: Planning) -> list[Bar]:
    """Every bar beside what was measured."""
    found = []
    for case in ("decoder, layers written out", "decoder, layers scanned"):
        found.append(Bar(case, "time", run[case].seconds, 60.0, "s"))
        found.append(Bar(case, "memory", run[case].peak_bytes / GB, 4.0, "GB"))
    found.append(Bar("encoder", "time", run["encoder"].seconds, 2.0, "s"))
    limit = 1.5 * run["encoder, dense"].seconds + 5.0
    return found + [Bar(case, "time", run[case].seconds, limit, "s") for case in COMPILED]


def dump(run: Planning, path: Path) -> None:
    """Writes a run as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(run), indent=1) + "\n")


def load(path: Path = FILE) -> Planning:
    """The run in a file that `dump` wrote."""
    tree = json.loads(path.read_text())
    outcomes = tuple(Outcome(o["name"], tuple(Sample(**s) for s in o["samples"])) for o in tree["outcomes"])
    return Planning(Machine(**tree["machine"]), tree["command"], tree["load"], tree["niceness"], outcomes)


def section(path: Path = FILE) -> str:
    """The measurements with device and command; empty where there are none."""
    if not path.exists():
        return ""
    run = load(path)
    facts = {
        "Device": run.machine,
        "Decoder": DECODER,
        "Encoder": ENCODER,
        "Method": f"a fresh process each, medians of {len(run.outcomes[0].samples)}; imports and the backend's start do not "
        "count; packing, which is done once, stands apart; CPU seconds are of all threads",
        "Load": f"{run.load:.1f} processes ran on the {run.machine.cores} cores in the minute before; niceness {run.niceness}",
        "Command": f"`{run.command}`",
        "Data": f"`{path.relative_to(ROOT)}`",
    }
    return "\n\n".join(
        ["## Planning time", "\n".join(f"- {name}: {fact}" for name, fact in facts.items()), "\n".join(lines(run)), ""]
    )


def lines(run: Planning) -> list[str]:
    """The table, a line each: what was measured and what it may be at most."""
    limits = {(bar.case, bar.what): bar for bar in bars(run)}
    head = ["case", "what is timed", "wall s", "CPU s", "steps", "peak memory", "bar: time", "bar: memory"]
    limit = lambda outcome, what: str(limits.get((outcome.name, what), ""))
    body = [_row(outcome, [limit(outcome, "time"), limit(outcome, "memory")]) for outcome in run.outcomes]
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body]]


def _row(outcome: Outcome, limits: Sequence[str]) -> list[str]:
    steps = list(outcome.samples[0].seconds)
    counted = [step for step in steps if step != "pack"]
    cpu = sum(outcome.step(step, "cpu") for step in counted)
    parts = ", ".join(f"{step} {outcome.step(step):.2f}" for step in steps) if len(steps) > 1 else ""
    memory = f"{outcome.peak_bytes / GB:.2f} GB"
    return [outcome.name, CASES[outcome.name], f"{outcome.seconds:.2f}", f"{cpu:.2f}", parts, memory, *limits]
