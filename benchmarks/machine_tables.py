"""`python -m benchmarks.machine_tables`: measures the tables of CPU curves that ship, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from .machine import ROOT, pin

FOLDER = ROOT / "sparta_jax" / "machine" / "defaults"
SETS = ("avx512", "avx2", "baseline", "none")
ENVIRONMENTS = {isa: {"SPARTA_JAX_ISA": isa} for isa in SETS[:-1]} | {"none": {"SPARTA_JAX_DISABLE_NATIVE": "1"}}


def main(argv: Sequence[str] | None = None) -> None:
    """Of one thread, without the library's version: the tables of the native kernels also hold what XLA's own forms take."""
    parser = argparse.ArgumentParser("python -m benchmarks.machine_tables", description=__doc__)
    parser.add_argument("--passes", type=int, default=8, help="over all probes; the least times count")
    parser.add_argument("--only", choices=SETS, help="one set, to standard output")
    args = parser.parse_args(argv)
    if args.only is not None:
        _measure(args.passes)
        return
    tables = {isa: json.loads(_process(isa, args.passes)) for isa in reversed(SETS)}
    plain = {name: curves for name, curves in tables["none"]["picoseconds"].items() if name.startswith("xla")}
    from sparta_jax.machine.store import pretty

    for isa, table in tables.items():
        table["picoseconds"] = {**plain, **table["picoseconds"]}
        (FOLDER / f"{isa}.json").write_text(pretty(table))
        print(f"{isa}: {table['cpu']}, {table['peak'] / 1e9:.0f} GFLOP/s")


def _process(isa: str, passes: int) -> str:
    command = [sys.executable, "-m", "benchmarks.machine_tables", "--passes", str(passes), "--only", isa]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENTS[isa], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _measure(passes: int) -> None:
    pin(1)
    # Not before `pin`: this imports jax, whose thread pool is made once.
    from sparta_jax.machine.record import to_json
    from sparta_jax.machine.store import pretty
    from sparta_jax.specialize.calibration import measured

    table = to_json(measured(passes))
    print(pretty({name: value for name, value in table.items() if name != "sparta_jax"}), end="")


if __name__ == "__main__":
    main()
