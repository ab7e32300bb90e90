"""`python -m benchmarks.gpu`: checks every GPU kernel, then times the grid; results are written after each case.

It needs the repository, jax with CUDA, and torch with Triton for torch's contenders; no network. `--dry` needs no GPU: every
contender of the grid is lowered for an H200, and small cases are run by the interpreters.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch allocates in the same process

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu

from sparta_jax.problem import Device
from sparta_jax.products import default_device

from . import gpu_bandwidth, gpu_torch
from .gpu_cases import Case, checks, grid
from .gpu_contenders import TOLERANCE, Way, calls, dense, error, operands, repeated, ways
from .gpu_results import Entry, Run, dump, path_of
from .machine import describe
from .timing import interleave

H200 = Device("cuda", "NVIDIA H200", 132)
CONFIGS, CHECKED = 2, 4  # timed and checked per kernel and layout: the best by the kernel's own model
BATCH_SECONDS, ROUNDS = 2e-3, 7


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a result is wrong or does not lower."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="without a GPU: lowering and interpreters")
    parser.add_argument("--minutes", type=float, default=8.5, help="no case is begun later than this (default: 8.5)")
    parser.add_argument("--cases", type=int, help="only the first so many of the grid")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: benchmarks/results/gpu/<device kind>.json")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
    if args.dry:
        return dry(grid()[: args.cases])
    device = default_device("cuda")
    if device.platform != "cuda" or not device.kind:
        raise SystemExit("no GPU here; --dry needs none")
    return measure(grid()[: args.cases], device, time.monotonic() + 60 * args.minutes, args.json or path_of(device.kind))


# -- without a GPU


def dry(cases: Sequence[Case]) -> int:
    failures = 0
    for case in cases:
        found, refused = ways(case, H200, CONFIGS)
        for name, way in found.items():
            failures += _reported(case, name, way, functools.partial(_lower, case, way))
        print(f"{case.name}: {len(found)} contenders lower, refused: {refused or 'none'}", flush=True)
    for case in {c.shrunk() for c in cases[:1]} | {checks()[-1].shrunk(128)}:
        for name, way in ways(case, Device("cuda", "NVIDIA H200", 3), 1)[0].items():
            if name.startswith("triton") or hasattr(plgpu, "force_gpu_interpret_mode"):
                failures += _reported(case, name, way, functools.partial(_interpret, case, name, way))
    print(f"{len(cases)} cases, {failures} failures; nothing ran on a device")
    return 1 if failures else 0


def _reported(case: Case, name: str, way: Way, attempt: Any) -> int:
    try:
        attempt()
    except Exception as reason:
        print(f"FAILED {case.name} {name} {way.config}: {type(reason).__name__}: {reason}")
        return 1
    return 0


def _lower(case: Case, way: Way) -> None:
    structs = jax.eval_shape(lambda: operands(case, way.layout))
    with _abstract(H200):
        text = jax.jit(way.function).trace(*structs).lower(lowering_platforms=("cuda",)).as_text()
    assert "mosaic_gpu" in text or "xla.gpu.triton" in text


def _interpret(case: Case, name: str, way: Way) -> None:
    with _triton_interpreter() if name.startswith("triton") else plgpu.force_gpu_interpret_mode(plgpu.InterpretGPUParams()):
        got = jax.jit(way.function)(*operands(case, way.layout))
    wrong = error(case, way, got)
    assert wrong <= TOLERANCE[case.dtype], f"relative error {wrong:.1e}"


@contextlib.contextmanager
def _triton_interpreter() -> Iterator[None]:
    call = pl.pallas_call
    pl.pallas_call = functools.partial(call, interpret=True)
    try:
        yield
    finally:
        pl.pallas_call = call


def _abstract(device: Device) -> Any:
    """A context in which programs are lowered for this device, which need not be here."""
    sharding = jax.sharding
    try:
        named = sharding.AbstractDevice(device_kind=device.kind, num_cores=device.cores, platform="cuda")
    except TypeError:  # jax 0.10
        named = sharding.AbstractDevice(device_kind=device.kind, num_cores=device.cores)
    return sharding.use_abstract_mesh(sharding.AbstractMesh((), (), (), abstract_device=named))


# -- on a GPU


def measure(timed: Sequence[Case], device: Device, until: float, path: Path) -> int:
    run = Run(describe(), " ".join(["python -m benchmarks.gpu", *sys.argv[1:]]), None, [], [])
    print(run.machine, flush=True)
    for case in checks():
        found, refused = ways(case, device, CHECKED)
        run.wrong += _wrong(case, found)
        print(f"checked {case.name}: {len(found)} contenders, refused: {refused or 'none'}", flush=True)
    try:
        run.l2_bytes_per_s = gpu_bandwidth.measure(device.cores or 132)
    except Exception as reason:
        print(f"the bandwidth from L2 was not measured: {type(reason).__name__}: {reason}")
    dump(run, path)
    for i, case in enumerate(timed):
        if time.monotonic() > until:
            print(f"out of time: {len(timed) - i} cases were not begun")
            break
        run.entries.append(entry(case, device))
        dump(run, path)
        print(f"[{i + 1}/{len(timed)}] {run.entries[-1]}", flush=True)
    print(*run.wrong, f"{len(run.entries)} cases timed, {len(run.wrong)} wrong results; {path}", sep="\n")
    return 1 if run.wrong else 0


def _wrong(case: Case, found: dict[str, Way]) -> list[str]:
    """What is wrong with these contenders' results, a line each."""
    arguments = _arguments(case, found)
    lines = []
    for name, compiled in _compiled({name: jax.jit(way.function) for name, way in found.items()}, arguments).items():
        try:
            wrong = error(case, found[name], compiled.result()(*arguments[name]))
            phrase = f"relative error {wrong:.1e}" if not wrong <= TOLERANCE[case.dtype] else ""
        except Exception as reason:
            phrase = f"{type(reason).__name__}: {reason}"[:300]
        if phrase:
            lines.append(f"{case.name} {name} {found[name].config}: {phrase}")
    return lines


def _arguments(case: Case, found: dict[str, Way]) -> dict[str, tuple]:
    """Every contender's operands; those of one layout are the same arrays."""
    by_layout = {layout: operands(case, layout) for layout in {way.layout for way in found.values()}}
    return {name: by_layout[way.layout] for name, way in found.items()}


def _compiled(functions: dict[str, Any], arguments: dict[str, tuple]) -> dict[str, concurrent.futures.Future]:
    """All functions, compiled at one time on all cores."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return {name: pool.submit(lambda f=f, a=arguments[name]: f.lower(*a).compile()) for name, f in functions.items()}


def entry(case: Case, device: Device) -> Entry:
    """Times every contender of one case in one interleaved run."""
    found, refused = ways(case, device, CONFIGS)
    found = {"dense": dense(case), **found}
    batch = max(1, min(50, round(BATCH_SECONDS * 500e12 * case.density / case.useful_flops)))
    arguments = _arguments(case, found)
    ours = {}
    for name, compiled in _compiled({name: repeated(case, way) for name, way in found.items()}, arguments).items():
        try:
            call = _batch(compiled.result(), arguments[name], batch)
            call()
            ours[name] = call
        except Exception as reason:
            refused[name] = f"{type(reason).__name__}: {reason}"[:300]
    theirs, why = gpu_torch.ways(case, batch)
    timings = interleave(ours | theirs, rounds=ROUNDS, sample_seconds=0.0)
    made = {name: batch * calls(case, way) for name, way in found.items()}
    seconds = {name: timing.median / made.get(name, batch) for name, timing in timings.items()}
    spread = {name: timing.spread for name, timing in timings.items()}
    return Entry(case, seconds, spread, {name: way.config for name, way in found.items()}, refused | why)


def _batch(function: Any, arguments: tuple, count: int) -> Any:
    def run():
        for _ in range(count):
            last = function(*arguments)
        jax.block_until_ready(last)

    return run


if __name__ == "__main__":
    sys.exit(main())
