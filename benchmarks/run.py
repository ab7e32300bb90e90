"""`python -m benchmarks.run`: times the sparse products against XLA's dense one and prints the ratios."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .cases import QUICK, STANDARD, Case, select
from .machine import Machine, describe, pin
from .results import SLOWER, Measured, Outcome, Run, baseline, dump
from .timing import interleave

MAX_ERROR = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a result is wrong. A choice slower than dense is flagged, not a failure."""
    args = _arguments(argv)
    pin(args.threads)
    machine = describe()
    print(machine)
    outcomes, wrong = [], 0
    chosen = select(tuple(args.cases) or (QUICK if args.quick else STANDARD))
    for i, case in enumerate(chosen):
        outcome = measure(case, machine, rounds=args.rounds or (3 if args.quick else 15))
        outcomes.append(outcome)
        wrong += any(measured.error > MAX_ERROR for measured in outcome.measured.values())
        print(f"[{i + 1}/{len(chosen)}] {line(outcome)}", flush=True)
    slower = [(o.case.name, name, o.ratio(name)) for o in outcomes for name in o.slower_than_dense]
    for name, contender, times in slower:
        print(f"slower than {SLOWER} of its baseline: {name} {contender} {times:.2f}x {baseline(contender)}")
    print(f"{len(outcomes)} cases, {wrong} wrong, {len(slower)} choices slower than {SLOWER} of their baseline")
    if args.json is not None:
        command = shlex.join(["python", "-m", "benchmarks.run", *(sys.argv[1:] if argv is None else argv)])
        dump(Run(machine, command, tuple(outcomes)), args.json)
    return 1 if wrong else 0


def measure(case: Case, machine: Machine, rounds: int) -> Outcome:
    """Times every contender of one case in one interleaved run and compares each with the product in float64."""
    # Not before `pin`: this imports jax, whose thread pool is made once.
    from .contenders import contenders, relative_error

    ways, refused = contenders(case, machine.platform)
    timings = interleave({name: way.call for name, way in ways.items()}, rounds=rounds)
    x, w = case.operands()
    exact = x.astype(float) @ w.astype(float)
    measured = {
        name: Measured(way.kernel, way.layout, timings[name], relative_error(way.call(), exact)) for name, way in ways.items()
    }
    return Outcome(case, measured, refused)


def line(outcome: Outcome) -> str:
    """One line of text: the dense time, then each contender's ratio to its baseline, its kernel, and what is wrong with it."""
    dense = outcome.measured["dense"]
    parts = [f"{outcome.case.name}: dense {dense.timing.median * 1e3:.3g} ms (spread {dense.timing.spread:.0%})"]
    for name, measured in outcome.measured.items():
        if name in ("dense", "masked"):
            continue
        marks = " SLOWER" * (name in outcome.slower_than_dense) + f" WRONG {measured.error:.1e}" * (measured.error > MAX_ERROR)
        parts.append(f"{name} {outcome.ratio(name):.2f}x {baseline(name)} ({measured.kernel}){marks}")
    return ", ".join([*parts, *(f"{name} refused" for name in outcome.refused)])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few cases and rounds, to see that it runs")
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    parser.add_argument(
        "--cases", action="append", default=[], metavar="REGEX", help="cases by whole name, out of the full cross"
    )
    parser.add_argument("--rounds", type=int, help="samples per contender (default: 15, with --quick 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
