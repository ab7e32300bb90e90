"""`python -m benchmarks.tables`: writes `docs/performance.md`, and the tables of README.md, from `benchmarks/results/`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import digits_results, distillation_results, encoder, front_page, gpu_page, planning_results
from .machine import ROOT
from .peers import show
from .results import SLOWER, Outcome, Run, load
from .sweep_results import sections as sweep_sections

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"

INTRODUCTION = f"""\
# Performance

This page is made by `make performance` from `benchmarks/results/*.json`; measure again with `make bench`.

Between the encoder and the planning time, each number is of one product `x[m, k] @ w[k, n]` in float32, where `w` is masked.
The baseline of packed weights is XLA's own dense product of a weight that was masked beforehand, jitted, in the same process.
Params that are not packed may hold anything where they are dead, so their baseline masks in every call:
`x @ where(mask, w, 0)`. Every round times all contenders one behind the other, starting with another one each time; a ratio is
the median over the rounds of both times in one round. 2.00x is twice as fast as the baseline. Results are checked against the
product in float64 (relative error at most 1e-5).

Rows name the weight and its mask: `b32` is random live blocks of 32x32, `elements` random single elements, `real` a mask of
a network that was pruned in training; the density is the share that is live. Columns are `m`. "(dense)" stands where the
library chose the dense product; a ratio below {SLOWER} is bold.
"""

Cell = Callable[[Outcome], str]


def main() -> None:
    runs = [(path, load(path)) for path in sorted(RESULTS.glob("*.json"))]
    PAGE.write_text(page(runs))
    front_page.write()
    print(f"{PAGE.relative_to(ROOT)}: {len(runs)} runs")


def page(runs: Iterable[tuple[Path, Run]]) -> str:
    """The whole page, as Markdown."""
    sections = [
        encoder.section(),
        distillation_results.section(),
        show.section(),
        *(section(path, run) for path, run in runs),
        *gpu_page.sections(),
        planning_results.section(),
        digits_results.section(),
    ]
    return "\n".join([INTRODUCTION, *filter(None, [*sections, sweep_sections()])])


def section(path: Path, run: Run) -> str:
    """One run: where, how, and its tables."""
    slower = sum(len(outcome.slower_than_dense) for outcome in run.outcomes)
    facts = {
        "Device": run.machine,
        "Baseline": "XLA dense, float32, the masked weight; for params that are not packed, masked in every call",
        "Command": f"`{run.command}`",
        "Data": f"`{path.relative_to(ROOT)}`",
        "Cases": f"{len(run.outcomes)}; choices slower than {SLOWER} of their baseline: {slower}",
    }
    return "\n\n".join(
        [
            f"## {run.machine.device}, threads: {run.machine.threads}",
            "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
            "### Packed once, ratio to dense",
            table(run.outcomes, lambda outcome: ratio_cell(outcome, "packed")),
            "### Params as they are (packing, where chosen, is part of every call), ratio to dense and masked in every call",
            table(run.outcomes, lambda outcome: ratio_cell(outcome, "params")),
            "### XLA dense, ms",
            table(run.outcomes, lambda outcome: f"{outcome.measured['dense'].timing.median * 1e3:.3g}"),
            "",
        ]
    )


def ratio_cell(outcome: Outcome, name: str) -> str:
    """`8.53x`, with what the reader must not miss."""
    ratio = f"{outcome.ratio(name):.2f}x"
    chosen = " (dense)" if outcome.measured[name].kernel.startswith("dense") else ""
    return (f"**{ratio}**" if name in outcome.slower_than_dense else ratio) + chosen


def table(outcomes: Sequence[Outcome], cell: Cell) -> str:
    """Weights and masks down, rows of `x` across; empty where a case was not measured."""
    rows = sorted({outcome.case.m for outcome in outcomes})
    lines: dict[tuple[str, ...], dict[int, str]] = {}
    for outcome in outcomes:
        case = outcome.case
        key = (case.family, f"{case.k}x{case.n}", case.pattern, f"{case.density:.3g}")
        lines.setdefault(key, {})[case.m] = cell(outcome)
    head = ["weight", "k x n", "mask", "density", *(f"m={m}" for m in rows)]
    body = [[*key, *(cells.get(m, "") for m in rows)] for key, cells in lines.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])


if __name__ == "__main__":
    main()
