"""`python -m benchmarks.gpu`: checks every GPU kernel, then times the grid; results are written after each case.

It needs the repository, jax with CUDA, and torch with Triton for torch's contenders; no network. A run that was cut goes on
where it ended. `--dry` needs no GPU: every contender of the grid is lowered for an H200, and every class of kernel is run by an
interpreter. `--table` makes of the results what the library reads: the cost model's table of this kind of GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from sparta_jax.products import default_device

from . import gpu_dry, gpu_run, gpu_table
from .gpu_budget import Budget, ended_after
from .gpu_cases import checks, grid
from .gpu_results import path_of
from .machine import describe

MARGIN = 0.4  # minutes behind the last case's end after which the process is ended


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a result is wrong or does not lower, 3 if the time ended in the middle of a case."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="without a GPU: lowering and interpreters")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="results to make the library's tables of")
    parser.add_argument("--minutes", type=float, default=8.5, help="no case is begun that would end later (default: 8.5)")
    parser.add_argument("--cases", type=int, help="only the first so many of the grid")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: benchmarks/results/gpu/<device kind>.json")
    args = parser.parse_args(argv)
    start = time.monotonic()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch allocates in the same process
    warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
    cases = grid()[: args.cases]
    if args.table:
        return gpu_table.main(args.table)
    if args.dry:
        return gpu_dry.dry([*cases, *checks()] if args.cases is None else cases)
    device = default_device("cuda")
    if device.platform != "cuda" or not device.kind:
        raise SystemExit("no GPU here; --dry needs none")
    left = start + 60 * (args.minutes + MARGIN) - time.monotonic()
    command = " ".join(["python -m benchmarks.gpu", *(sys.argv[1:] if argv is None else argv)])
    with ended_after(left):
        budget = Budget(start + 60 * args.minutes)
        return gpu_run.measure(cases, device, budget, args.json or path_of(device.kind), describe(), command)


if __name__ == "__main__":
    sys.exit(main())
