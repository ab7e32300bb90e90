"""What the sweep of choices found: records, their JSON, and a section of `docs/performance.md`."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path

from .machine import ROOT, Machine
from .results import SLOWER
from .sweep_cases import Point

FOLDER = ROOT / "benchmarks" / "results" / "sweep"
KINDS = ("packed, model", "params, model", "packed, tuned", "params, tuned")


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the library chose at a point.

    Attributes:
      kernel: its name and config, `"dense"` where the program is XLA's own.
      ratio: how many times faster than dense; of params that are not packed, than dense masked in every call.
      seconds: of one call.
    """

    kernel: str
    ratio: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A point, the choices there by kind, and what XLA's dense product takes."""

    point: Point
    choices: dict[str, Choice]
    dense_seconds: float


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One call of the command."""

    machine: Machine
    command: str
    outcomes: tuple[Outcome, ...]

    def slower(self) -> dict[str, int]:
        """By kind of choice, how many are slower than dense."""
        return {kind: sum(is_slower(o.choices[kind]) for o in self.outcomes) for kind in KINDS}


def is_slower(choice: Choice) -> bool:
    return choice.ratio < SLOWER


def dump(sweep: Sweep, path: Path) -> None:
    """Writes a sweep as JSON, a point a line."""
    head = {"machine": dataclasses.asdict(sweep.machine), "command": sweep.command}
    lines = ",\n".join(json.dumps(_flat(outcome)) for outcome in sweep.outcomes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{json.dumps(head)[:-1]}, "outcomes": [\n{lines}\n]}}\n')


def load(path: Path) -> Sweep:
    """The sweep in a file that `dump` wrote."""
    tree = json.loads(path.read_text())
    outcomes = tuple(
        Outcome(Point(**o["point"]), {kind: Choice(*choice) for kind, choice in o["choices"].items()}, o["dense_seconds"])
        for o in tree["outcomes"]
    )
    return Sweep(Machine(**tree["machine"]), tree["command"], outcomes)


def sections(folder: Path = FOLDER) -> str:
    """One section per file; empty where there are none."""
    return "\n".join(section(path) for path in sorted(folder.glob("*.json")))


def section(path: Path) -> str:
    """How often each kind of choice is slower than dense, and by mask and rows how fast it is."""
    sweep = load(path)
    counts = "; ".join(f"{kind}: {count}" for kind, count in sweep.slower().items())
    facts = {
        "Device": sweep.machine,
        "Method": "interleaved calls, medians of ratios; what looks slower is measured up to three times more",
        "Command": f"`{sweep.command}`",
        "Data": f"`{path.relative_to(ROOT)}`",
        "Points": f"{len(sweep.outcomes)}; choices slower than {SLOWER} of dense: {counts}",
    }
    cells = "Cells: median ratio over all densities, the least, and how many choices are sparse."
    title = f"## The choice, swept, threads: {sweep.machine.threads}"
    return "\n\n".join(
        [title, "\n".join(f"- {name}: {fact}" for name, fact in facts.items()), cells]
        + [f"### {kind}\n\n{table(sweep, kind)}" for kind in KINDS]
        + [""]
    )


def table(sweep: Sweep, kind: str) -> str:
    """Masks down, rows across."""
    rows = sorted({o.point.m for o in sweep.outcomes})
    groups: dict[str, dict[int, list[Choice]]] = {}
    for o in sweep.outcomes:
        mask = "real" if o.point.is_real else o.point.mask
        groups.setdefault(mask, {}).setdefault(o.point.m, []).append(o.choices[kind])
    head = ["mask", *(f"m={m}" for m in rows)]
    body = [[mask, *(_cell(by_rows.get(m, [])) for m in rows)] for mask, by_rows in groups.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def _cell(choices: list[Choice]) -> str:
    if not choices:
        return ""
    least = min(choice.ratio for choice in choices)
    sparse = sum(choice.kernel != "dense" for choice in choices)
    shown = f"**{least:.2f}**" if least < SLOWER else f"{least:.2f}"
    return f"{statistics.median(c.ratio for c in choices):.2f}x ({shown}; {sparse}/{len(choices)})"


def _flat(outcome: Outcome) -> dict:
    short = lambda value: float(f"{value:.4g}")
    choices = {kind: [c.kernel, short(c.ratio), short(c.seconds)] for kind, c in outcome.choices.items()}
    return {"point": dataclasses.asdict(outcome.point), "choices": choices, "dense_seconds": short(outcome.dense_seconds)}
