"""What a run of `benchmarks.gpu` found, as tables for `docs/performance.md`."""

from __future__ import annotations

from pathlib import Path

from . import gpu_bars
from .gpu_contenders import LIBRARY
from .gpu_results import DIRECTORY, OURS, Entry, Run, break_even, load
from .machine import ROOT

COLUMNS = ("mosaic", "triton", LIBRARY, "torch dense", "torch bsr", "jax bcoo", "jax bcsr")


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
        "Cases": f"{len(run.checked)} checked, {len(run.entries)} timed; wrong or failed: {len(run.wrong)}",
    }
    head = ["case", "dense, us", *COLUMNS, "useful TFLOP/s", "GB/s"]
    rows = [_row(entry) for entry in run.entries if "dense" in entry.seconds]
    even = [f"- {what} {block} {dtype}: {value:.2f}" for (what, dtype, block), value in break_even(run.entries).items()]
    parts = [
        f"## {run.machine.device}",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        "### Bars",
        gpu_bars.table(run.entries),
        "### Ratio to dense",
        "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]),
    ]
    if even:
        parts += ["### Density up to which sparse is faster", "\n".join(even)]
    return "\n\n".join([*parts, ""])


def _row(entry: Entry) -> list[str]:
    cell = lambda name: "" if (ratio := entry.ratio(entry.best(name))) is None else f"{ratio:.2f}x"
    cells = {name: cell(name) for name in COLUMNS}
    cells[LIBRARY] = "(dense)" if entry.chosen == "dense" else cells[LIBRARY]
    best = entry.best(*OURS)
    per_second = lambda amount: f"{amount / entry.seconds[best]:.0f}" if best else ""
    rates = per_second(entry.case.useful_flops / 1e12), per_second(entry.case.useful_bytes / 1e9)
    return [entry.case.name, f"{entry.seconds['dense'] * 1e6:.1f}", *cells.values(), *rates]
