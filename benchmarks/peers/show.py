"""The outcomes in words: a line per case while they are measured, and the section of `docs/performance.md`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..machine import ROOT
from .contest import DENSE, OURS, SPARSE, XLA
from .record import Outcome, load

RESULTS = ROOT / "benchmarks" / "results" / "peers"
CROWDED = 0.1  # cores that other programs used, above which a number with all cores means little


def line(outcome: Outcome) -> str:
    """One case: our time, the ratios, what it misses, the fastest others."""
    ours, share = outcome.measured[OURS], outcome.share_of_deepsparse
    parts = [
        f"{outcome.bar.name}: {ours.median:.4g} ms (spread {ours.spread:.0%})",
        f"{outcome.over_xla:.2f}x XLA" + (f" (bar {outcome.bar.xla:g})" if outcome.bar.xla else ""),
        f"{outcome.over_best:.2f}x {outcome.best_dense}" + (f" (bar {outcome.bar.best:g})" if outcome.bar.best else ""),
        "DeepSparse absent" if share is None else f"{share:.2f} of DeepSparse's time (bar {outcome.bar.deepsparse:g})",
        "MISSES " + ", ".join(outcome.missed) if outcome.missed else "met",
    ]
    parts += [f"{name} WRONG" for name in outcome.wrong]
    return "; ".join(parts)


def section(directory: Path = RESULTS) -> str:
    """The tables of all files; empty where nothing was measured."""
    outcomes = [outcome for path in sorted(directory.glob("*.jsonl")) for outcome in load(path)]
    if not outcomes:
        return ""
    missed = sum(bool(outcome.missed) for outcome in outcomes)
    lines = [
        "## Beside other libraries",
        "",
        f"Made by `make bench-peers`; {len(outcomes)} cases, {missed} of which miss a bar. All contenders of a case take turns "
        "in one run, with as many threads and cores each; DeepSparse has a process of its own. Times are medians in ms, "
        "packing is not timed. XLA has the masked weight; the best dense is the fastest of XLA, oneDNN (prepacked) and "
        "ONNX Runtime. A bar is what the project promises; what misses it is bold.",
    ]
    for (device, threads), group in _groups(outcomes).items():
        lines += ["", f"### {device}, threads: {threads}", "", _facts(group), "", table(group)]
    return "\n".join([*lines, ""])


def _groups(outcomes: Sequence[Outcome]) -> dict[tuple[str, int], list[Outcome]]:
    groups: dict[tuple[str, int], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.machine["device"], outcome.threads), []).append(outcome)
    return groups


def _facts(group: Sequence[Outcome]) -> str:
    """Versions, commits, and how quiet the machine was."""
    machine = group[-1].machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    commits = ", ".join(sorted({outcome.machine["commit"] for outcome in group}))
    busy = [outcome.busy for outcome in group if outcome.busy is not None]
    crowded = sum(b + group[0].threads > machine["cores"] + CROWDED for b in busy)
    return f"{machine['simd']}; {versions}; commit {commits}. Cases timed while other programs held the cores: {crowded}."


def table(group: Sequence[Outcome]) -> str:
    """One row per case, in the order of the table of bars."""
    head = [
        "case",
        "sparta_jax",
        "XLA",
        "x XLA (bar)",
        "best dense",
        "x best (bar)",
        "of DeepSparse (bar)",
        "others",
    ]
    rows: dict[str, list[Outcome]] = {}
    for outcome in group:
        rows.setdefault(outcome.bar.row, []).append(outcome)
    body = []
    for row, cases in rows.items():
        body.append([f"*{row}*", *[""] * (len(head) - 1)])
        body += [_cells(outcome) for outcome in sorted(cases, key=lambda outcome: _order(outcome.bar.name))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *body])


def _cells(outcome: Outcome) -> list[str]:
    missed, bar, share = outcome.missed, outcome.bar, outcome.share_of_deepsparse
    bold = lambda text, name: f"**{text}**" if name in missed else text
    against = lambda value, need: f"{value:.2f} ({need:g})" if need else f"{value:.2f}"
    best = outcome.measured[outcome.best_dense].median
    return [
        outcome.bar.name + (" **WRONG**" if "exactness" in missed else ""),
        f"{outcome.measured[OURS].median:.3g}",
        f"{outcome.measured[XLA].median:.3g}",
        bold(against(outcome.over_xla, bar.xla), "XLA"),
        f"{best:.3g} ({outcome.best_dense.removesuffix(' dense')})",
        bold(against(outcome.over_best, bar.best), "best dense"),
        "" if share is None else bold(f"{share:.2f} ({bar.deepsparse:g})", "DeepSparse"),
        _others(outcome),
    ]


def _others(outcome: Outcome) -> str:
    """The three fastest of the rest."""
    rest = {name: m.median for name, m in outcome.measured.items() if name not in (*DENSE, *SPARSE, OURS)}
    return ", ".join(f"{name} {rest[name]:.3g}" for name in sorted(rest, key=rest.__getitem__)[:3])


def _order(name: str) -> tuple:
    """Numbers in a name count as numbers."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
