"""Sparse training from scratch on scikit-learn's digits: records, their JSON, and a section of `docs/performance.md`."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from .machine import ROOT, Machine

FILE = ROOT / "benchmarks" / "results" / "digits" / "digits.json"
METHODS = {
    "dense": "all weights",
    "static": "random masks, fixed",
    "SET": "the smallest die, others are born at random",
    "RigL": "the smallest die, others are born where the dense gradient is largest",
}
QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}  # Student's t, 0.975


@dataclasses.dataclass(frozen=True)
class Digits:
    """One call of the command.

    Attributes:
      widths: of the layers, inputs and classes among them.
      density: share of live weights, divided by ERK.
      steps, batch, rate: of Adam.
      every, end, fraction: of the changes of masks.
      test: images that accuracy is measured on.
      seconds: of the whole command.
      accuracy: per method, one entry per seed.
    """

    machine: Machine
    command: str
    widths: tuple[int, ...]
    density: float
    steps: int
    batch: int
    rate: float
    every: int
    end: int
    fraction: float
    test: int
    seconds: float
    accuracy: dict[str, tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class Paired:
    """The differences of two methods, seed by seed.

    Attributes:
      mean: of the differences.
      half: half the width of its 95 % interval, by Student's t.
      wins: seeds in which the first was better; losses: in which it was worse.
    """

    mean: float
    half: float
    wins: int
    losses: int


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """How much better `first` is than `second`."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    half = QUANTILES[len(differences)] * statistics.stdev(differences) / math.sqrt(len(differences))
    return Paired(statistics.mean(differences), half, sum(d > 0 for d in differences), sum(d < 0 for d in differences))


def dump(run: Digits, path: Path) -> None:
    """Writes a run as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(run), indent=1) + "\n")


def load(path: Path = FILE) -> Digits:
    """The run in a file that `dump` wrote."""
    tree = json.loads(path.read_text())
    accuracy = {name: tuple(values) for name, values in tree["accuracy"].items()}
    return Digits(**{**tree, "machine": Machine(**tree["machine"]), "widths": tuple(tree["widths"]), "accuracy": accuracy})


def section(path: Path = FILE) -> str:
    """The accuracies with device and command; empty where there are none."""
    if not path.exists():
        return ""
    run = load(path)
    gain = paired(run.accuracy["RigL"], run.accuracy["static"])
    seeds = len(run.accuracy["RigL"])
    facts = {
        "Device": run.machine,
        "Model": f"a perceptron of widths {', '.join(map(str, run.widths))}; {1 - run.density:.0%} of the weights are dead, "
        "layers by ERK, biases live",
        "Training": f"Adam at {run.rate:g}, {run.steps} steps of {run.batch} images; masks change every {run.every} steps "
        f"up to {run.end}, at first {run.fraction:.0%} of the live weights",
        "Method": f"{seeds} seeds, each with its own split ({run.test} test images), weights and masks, which all methods "
        "share; 95 % intervals by Student's t over the seeds' differences",
        "Choice": "width, rate and period were chosen on six other seeds; there, with widths 64, 256, 128, 10, RigL and static "
        "masks did not differ (-0.30 ± 0.89 points)",
        "Result": f"RigL against static random masks: {_points(gain.mean)} ± {100 * gain.half:.2f} points, better in "
        f"{gain.wins} of {seeds} seeds and worse in {gain.losses}",
        "Command": f"`{run.command}` ({run.seconds:.0f} s)",
        "Data": f"`{path.relative_to(ROOT)}`",
    }
    lines = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    return "\n\n".join(["## Sparse training from scratch on scikit-learn's digits", lines, table(run), ""])


def table(run: Digits) -> str:
    """One row per method."""
    rows = [["method", "masks", "live weights", "accuracy, mean", "lowest", "highest", "against static"]]
    rows.append(["---"] * len(rows[0]))
    for name, what in METHODS.items():
        values = run.accuracy[name]
        against = paired(values, run.accuracy["static"])
        shown = "" if name == "static" else f"{_points(against.mean)} ± {100 * against.half:.2f}"
        live = "100%" if name == "dense" else f"{run.density:.0%}"
        rows.append([name, what, live, *(f"{100 * f(values):.2f}%" for f in (statistics.mean, min, max)), shown])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"
