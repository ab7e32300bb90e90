"""`python tests/aot/compile.py [--fast] [--cases REGEX] --target sm_90a`: the figures of every case, as JSON, one a line."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import toolchain  # noqa: E402 before JAX


def main() -> None:
    from cases import cases

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a few cases that stand for all")
    parser.add_argument("--target", required=True)
    parser.add_argument("--cases", default="", metavar="REGEX", help="those whose name it is found in")
    args = parser.parse_args()
    for case in cases():
        if case.target != args.target or (args.fast and not case.fast) or not re.search(args.cases, case.name):
            continue
        try:
            found = toolchain.figures(case.run, case.structs(), case.target, "sparta")
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        print(json.dumps([case.name, found]), flush=True)


if __name__ == "__main__":
    main()
