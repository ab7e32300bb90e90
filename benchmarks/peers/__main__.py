"""`python -m benchmarks.peers`: every case of the table beside the other libraries, on one thread and on two."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..machine import ROOT, describe, pin
from .bars import Bar, select

RESULTS = ROOT / "benchmarks" / "results" / "peers" / "cpu.jsonl"
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if one of our own results is wrong or a case failed."""
    options = parse(argv)
    if options.one is not None:
        return run(options, options.one)
    status, began = 0, time.monotonic()
    for i, threads in enumerate(options.threads):
        left = options.minutes - (time.monotonic() - began) / 60
        share = left / (len(options.threads) - i)
        status |= subprocess.run(_command(options, threads, share), cwd=ROOT, env=_environment(threads)).returncode
    return status


def _command(options: argparse.Namespace, threads: int, minutes: float) -> list[str]:
    """The same run for one thread count, in the peers' environment where there is one."""
    python = options.home / "main" / "bin" / "python" if options.home else None
    command = [str(python) if python and python.exists() else sys.executable, "-m", "benchmarks.peers", "--one", str(threads)]
    for name in ("peers", "home", "json"):
        if (value := getattr(options, name)) is not None:
            command += [f"--{name}", str(value.resolve())]
    return [
        *command,
        "--minutes",
        f"{minutes:.2f}",
        "--seconds",
        str(options.seconds),
        *(f"--cases={c}" for c in options.cases),
    ]


def _environment(threads: int) -> dict[str, str]:
    """Every library's threads, and idle workers that do not spin while another one is timed."""
    env = {"JAX_PLATFORMS": "cpu", "KMP_BLOCKTIME": "1", "GOMP_SPINCOUNT": "10000"} | dict(os.environ)
    env |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    if threads == 1:
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    return env


def run(options: argparse.Namespace, threads: int) -> int:
    """All cases with so many threads, each written as soon as it is measured."""
    pin(threads)
    # Not before `pin`: these import numpy and jax, whose thread pools are made once.
    from .contest import AbsentError, Libraries
    from .record import keep
    from .show import line

    libraries = Libraries.find(threads, options.peers, options.home)
    machine = vars(describe()) | {"versions": libraries.versions()}
    print(f"{machine['device']} ({machine['simd']}), threads: {threads}; {machine['versions']}")
    status, deadline, chosen = 0, time.monotonic() + 60 * options.minutes, select(options.cases)
    for i, bar in enumerate(chosen):
        if time.monotonic() > deadline:
            print(f"out of time: {len(chosen) - i} cases left out")
            break
        began = time.monotonic()
        try:
            outcome = measure(bar, libraries, machine, options.seconds)
        except AbsentError as why:
            print(f"[{i + 1}/{len(chosen)}] {bar.name}: skipped, {why}", flush=True)
            continue
        except Exception as error:  # the other cases may do
            print(f"[{i + 1}/{len(chosen)}] {bar.name}: FAILED, {type(error).__name__}: {error}", flush=True)
            status = 1
            continue
        status |= "exactness" in outcome.missed
        took = time.monotonic() - began
        print(f"[{i + 1}/{len(chosen)}] {line(outcome)} [{took:.0f} s]", flush=True)
        if options.json is not None:
            keep(options.json, outcome)
    libraries.close()
    return status


def measure(bar: Bar, libraries, machine, seconds: float):
    """Builds one case and times all that take part."""
    from . import products, programs
    from .race import busy_cores, cpu_seconds, race
    from .record import Outcome

    makers = {
        "product": products.product,
        "vector": products.vector,
        "wavegru": programs.wavegru,
        "encoder": programs.encoder,
        "training": programs.training,
    }
    contest = makers[bar.kind](libraries, *bar.spec)
    try:
        own = [os.getpid(), *contest.processes]
        before = cpu_seconds(own)
        measured, failed = race(contest.runners, contest.exact, threads=libraries.threads, seconds=seconds)
        busy = busy_cores(before, own)
    finally:
        contest.close()
    wrong = tuple(name for name, m in measured.items() if m.error is None or m.error > contest.tolerance)
    return Outcome(bar, libraries.threads, machine, measured, contest.absent | failed, wrong, busy)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=__doc__)
    path = lambda name: Path(os.environ[name]) if os.environ.get(name) else None
    parser.add_argument(
        "--peers", type=Path, default=path("SPARTA_JAX_PEERS"), help="directory of the peers benchmark (peers.py)"
    )
    parser.add_argument("--home", type=Path, default=path("PEERS_HOME"), help="directory of its environments")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts, one run each (default: 1 2)")
    parser.add_argument("--cases", action="append", default=[], metavar="REGEX", help="cases in whose name it is found")
    parser.add_argument("--minutes", type=float, default=14.0, help="for all thread counts; cases that come later are left out")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing per case, five rounds at least")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"keep what was measured (make: {RESULTS.relative_to(ROOT)})")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
