"""The benchmark on a GPU: checks, then cases; the file is written after each, and a second run goes on from it."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from sparta_jax.problem import Device

from . import gpu_bandwidth, gpu_bars, gpu_jax_sparse, gpu_torch
from .gpu_budget import Budget
from .gpu_cases import Case, checks
from .gpu_contenders import LIBRARY, TOLERANCE, Way, calls, chosen, dense, error, operands, repeated, ways
from .gpu_results import Entry, Run, dump, load
from .machine import Machine
from .timing import Timing, interleave

CONFIGS, CHECKED = 2, 4  # timed and checked per kernel and layout: the best by the kernel's own model
BATCH_SECONDS, ROUNDS = 2e-3, 7
CHECKS_SHARE = 0.3  # of the time
SLOW_SECONDS = 0.05  # of one call: from there on a contender is timed by itself, three times
HOPELESS_SECONDS = 1.0  # from there on the first call counts

Call = Callable[[], object]
Tried = tuple[dict[str, Call], dict[str, Timing], dict[str, str]]


def measure(cases: Sequence[Case], device: Device, budget: Budget, path: Path, machine: Machine, command: str) -> int:
    """Returns the exit status: 1 if a result was wrong."""
    run = resumed(path, machine) or Run(machine, command, device.cores or 132)
    print(run.machine, f"; {len(run.entries)} cases are in {path.name} already" if run.entries else "", flush=True)
    for case in _while(budget.part(CHECKS_SHARE), [c for c in checks() if c.name not in run.checked], "checks"):
        found, refused = ways(case, device, CHECKED)
        run.wrong += _wrong(case, found)
        run.checked.append(case.name)
        dump(run, path)
        print(f"checked {case.name}: {len(found)} contenders, refused: {refused or 'none'}", flush=True)
    if run.l2_bytes_per_s is None:
        try:
            run.l2_bytes_per_s = gpu_bandwidth.measure(run.multiprocessors)
        except Exception as reason:
            print(f"the bandwidth from L2 was not measured: {type(reason).__name__}: {reason}"[:300])
        dump(run, path)
    done = {entry.case for entry in run.entries}
    for case in _while(budget, [c for c in cases if c not in done], "cases"):
        run.entries.append(entry(case, device))
        dump(run, path)
        print(f"[{len(run.entries)}/{len(cases)}] {run.entries[-1]}", flush=True)
    print(*run.wrong, f"{len(run.entries)} cases timed, {len(run.wrong)} wrong results; {path}", sep="\n")
    print(gpu_bars.table(run.entries))
    return 1 if run.wrong else 0


def resumed(path: Path, machine: Machine) -> Run | None:
    """The run that the file holds, where it was begun on the same machine, with the same versions and sources."""
    if not path.exists():
        return None
    run = load(path)
    if run.machine != machine:
        print(f"{path.name} is of {run.machine}: begun anew")
        return None
    return run


def _while(budget: Budget, cases: Sequence[Case], what: str) -> Iterable[Case]:
    """The cases that the budget allows; says how many it does not."""
    for i, case in enumerate(cases):
        if not budget.allows():
            print(f"out of time: {len(cases) - i} {what} were not begun", flush=True)
            return
        with budget.spent():
            yield case


# -- checks


def _wrong(case: Case, found: dict[str, Way]) -> list[str]:
    """What is wrong with these contenders' results, a line each."""
    arguments = _arguments(case, found)
    lines = []
    for name, compiled in _compiled({name: jax.jit(way.function) for name, way in found.items()}, arguments).items():
        try:
            wrong = error(case, found[name], compiled.result()(*arguments[name]))
            phrase = f"relative error {wrong:.1e}" if not wrong <= TOLERANCE[case.dtype] else ""
        except Exception as reason:
            phrase = _told(reason)
        if phrase:
            lines.append(f"{case.name} {name} {found[name].config}: {phrase}")
    return lines


def _arguments(case: Case, found: dict[str, Way]) -> dict[str, tuple]:
    """Every contender's operands; those of one layout are the same arrays."""
    by_layout = {layout: operands(case, layout) for layout in {way.layout for way in found.values()}}
    return {name: by_layout[way.layout] for name, way in found.items()}


def _compiled(functions: Mapping[str, Any], arguments: Mapping[str, tuple]) -> dict[str, concurrent.futures.Future]:
    """All functions, compiled at one time on all cores."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return {name: pool.submit(lambda f=f, a=arguments[name]: f.lower(*a).compile()) for name, f in functions.items()}


def _told(reason: Exception) -> str:
    return f"{type(reason).__name__}: {reason}"[:300]


# -- times


def entry(case: Case, device: Device) -> Entry:
    """Times every contender of one case in one interleaved run; one that raises is recorded with its error."""
    found, refused = ways(case, device, CONFIGS)
    library, (sparse, why) = chosen(case, device), gpu_jax_sparse.ways(case)
    found = {"dense": dense(case), **found, **({LIBRARY: library} if library else {})}
    arguments = _arguments(case, found)
    for name in sparse:
        try:
            arguments[name] = gpu_jax_sparse.arrays(case, name)
        except Exception as reason:
            why[name] = _told(reason)
    found |= {name: way for name, way in sparse.items() if name in arguments}
    batch = max(1, min(50, round(BATCH_SECONDS * 500e12 * case.density / case.useful_flops)))
    quick, slow, failed = _tried({name: repeated(case, way) for name, way in found.items()}, arguments, batch)
    theirs, absent = gpu_torch.ways(case, batch)
    timings = slow | _interleaved(quick | theirs, batch)
    seconds = {name: t.median / (calls(case) if name in found else 1) for name, t in timings.items()}
    spread = {name: t.spread for name, t in timings.items()}
    configs = {name: way.config for name, way in found.items()}
    return Entry(case, seconds, spread, configs, refused | why | failed | absent, library.config if library else "dense")


def _tried(functions: Mapping[str, Any], arguments: Mapping[str, tuple], batch: int) -> Tried:
    """Each function called once: `batch` calls of those that run, the times of those that are slow, the errors of others."""
    quick, slow, failed = {}, {}, {}
    for name, compiled in _compiled(functions, arguments).items():
        try:
            call = _waiting(compiled.result(), arguments[name], 1)
            call()
            first = _seconds(call)
            if first > SLOW_SECONDS:
                slow[name] = Timing((first,) if first > HOPELESS_SECONDS else (first, _seconds(call), _seconds(call)))
            else:
                quick[name] = _waiting(compiled.result(), arguments[name], batch)
        except Exception as reason:
            failed[name] = _told(reason)
    return quick, slow, failed


def _interleaved(batches: Mapping[str, Call], batch: int) -> dict[str, Timing]:
    """Of one call of each."""
    timings = interleave(batches, rounds=ROUNDS, sample_seconds=0.0) if batches else {}
    return {name: Timing(tuple(s / batch for s in t.samples)) for name, t in timings.items()}


def _waiting(function: Any, arguments: tuple, count: int) -> Call:
    def run():
        for _ in range(count):
            last = function(*arguments)
        jax.block_until_ready(last)

    return run


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
