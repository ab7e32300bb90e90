"""`python -m sparta_jax doctor`, `report FILE` and `calibrate`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .calibrate import calibrated
from .doctor import checkup
from .saved import contents
from .table import show


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command and returns 0; what goes wrong is one line on the standard error, and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m sparta_jax", description="Sparsity in JAX.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("doctor", help="devices, native kernels, versions, caches, and what is missing")
    report = commands.add_parser("report", help="what a file written by save_packed holds")
    report.add_argument("file", metavar="FILE")
    commands.add_parser("calibrate", help="measure on this machine what kernels take; a few seconds, idle")
    given = parser.parse_args(args)
    try:
        tables = {"doctor": checkup, "report": lambda: contents(given.file), "calibrate": calibrated}[given.command]()
    except (OSError, ValueError, TypeError, ImportError) as error:
        parser.exit(2, f"{type(error).__name__}: {' '.join(str(error).split())}\n")
    for table in tables:
        show(table)
    return 0
