"""From the results of a run to the cost model's table of its kind of GPU."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sparta_jax.kernels import kernels
from sparta_jax.machine import gpu as tables
from sparta_jax.machine.store import name_of, pretty
from sparta_jax.problem import DENSE, SDDMM, Device, Layout
from sparta_jax.specialize import roofline

from .gpu_contenders import problem
from .gpu_results import OURS, Entry, Run, break_even, load
from .machine import ROOT

DEFAULTS = ROOT / "sparta_jax" / "machine" / "defaults"
DTYPES = {"bfloat16": "bfloat16", "float32": "tf32"}  # of the cases, and of the arithmetic that the table names
SPREAD = 0.2  # a time that spreads more than this is not taken


def main(paths: Sequence[Path], folder: Path = DEFAULTS) -> int:
    for path in paths:
        run = load(path)
        if run.wrong:
            raise SystemExit(f"{path}: results were wrong, and no table is made of them: {run.wrong[0]}")
        made = table(run)
        target = folder / name_of(tables.KIND, {"device": made.device})
        target.write_text(pretty(tables.to_json(made)))
        print(f"{target}: {sum(1 for _ in _ratios(run))} times of {len(run.entries)} cases")
    return 0


def table(run: Run) -> tables.Gpu:
    """Factors are medians over cases and configs; break-even densities those of the squares."""
    grouped: dict[tuple[str, str, str, int], list[float]] = {}
    for key, ratio in _ratios(run):
        grouped.setdefault(key, []).append(ratio)
    factors: dict[str, Any] = {}
    for (kernel, dtype, rows, side), ratios in sorted(grouped.items()):
        factors.setdefault(kernel, {}).setdefault(dtype, {}).setdefault(rows, {})[side] = statistics.median(ratios)
    even: dict[str, Any] = {}
    for (what, dtype, block), density in break_even(run.entries).items():
        if dtype in DTYPES:
            br, bc = block.split("x")
            even.setdefault(what, {}).setdefault(DTYPES[dtype], {})[int(br), int(bc)] = density
    facts = {"jax": run.machine.jax, "commit": run.machine.commit, "l2_bytes_per_s": run.l2_bytes_per_s}
    return tables.Gpu(run.machine.device, facts, factors, even)


def _ratios(run: Run) -> Iterator[tuple[tuple[str, str, str, int], float]]:
    """Measured over estimated time, by kernel, dtype, rows and side, of every product that was timed by itself."""
    device = Device("cuda", run.machine.device, run.multiprocessors)
    for entry in run.entries:
        if entry.case.what == "step" or entry.case.dtype not in DTYPES:
            continue
        for name, seconds in entry.seconds.items():
            found = _estimate(entry, name, device) if entry.spread.get(name, 0.0) <= SPREAD else None
            if found is not None:
                kernel, side, estimate = found
                rows = "few" if entry.case.m <= tables.FEW_ROWS else "many"
                yield (kernel, DTYPES[entry.case.dtype], rows, side), seconds / estimate


def _estimate(entry: Entry, name: str, device: Device) -> tuple[str, int, float] | None:
    """The kernel behind a contender, the shorter side of the blocks that it reads, and its time by estimate; None where it is
    no kernel of ours, or has no such config any more."""
    implementation = name.split()[0]
    if implementation not in (*OURS, "dense"):
        return None
    case = entry.case
    p = problem(case, case.what, device, Layout("bsr", case.block) if " packed" in name else DENSE)
    kernel = next(k for k in kernels[type(p)].values() if k.implementation == implementation)
    config = next((c for c in kernel.configs(p) if implementation == "dense" or str(c) == entry.configs[name]), None)
    if config is None:
        return None
    # Of a device whose kind is not known there is no table.
    unknown = dataclasses.replace(p, device=dataclasses.replace(device, kind=""))
    return kernel.name, _side(config, p), roofline(device).seconds(kernel.cost(unknown, config))


def _side(config: Any, p: Any) -> int:
    if not hasattr(config, "cols"):
        return 0
    return min(config.rows, config.cols) if isinstance(p, SDDMM) else min(config.depth, config.cols)
