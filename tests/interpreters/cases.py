"""Small programs that together hit every primitive with a rule: `name: (fn, operands)`."""

from __future__ import annotations

from interpreters import elementwise_cases as elementwise_cases
from interpreters import linalg_cases as linalg_cases
from interpreters import loop_cases as loop_cases
from interpreters import movement_cases as movement_cases
from interpreters import program_cases as program_cases
from interpreters import window_cases as window_cases
from interpreters.case import CASES as CASES

LOOPS = (
    "scan over layers",
    "scan, growing",
    "scan in remat",
    "remat in a scan",
    "lstm",
    "fori_loop",
    "cond",
    "switch",
    "scan in a scan",
)
DERIVED = [n for n in CASES if n.startswith(("jax.nn.", "remat", "custom_")) or n in ("mlp", "attention", *LOOPS)]
