"""`python tests/aot/record.py [REGEX]`: compiles every case, or those that match, into `figures.json`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "figures.json"


def main(pattern: str = "") -> None:
    recorded = json.loads(FIGURES.read_text())
    recorded = {name: figures for name, figures in recorded.items() if not re.search(pattern, name)}
    for target in sorted(path.stem for path in (HERE / "targets").iterdir()):
        command = [sys.executable, str(HERE / "compile.py"), "--target", target, "--cases", pattern]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                name, figures = json.loads(line)
                recorded[name] = figures
                print(name, flush=True)
                write(recorded)
        if process.returncode:
            raise SystemExit(f"{target}: compiling ended with status {process.returncode}")


def write(recorded: dict) -> None:
    """One case a line, by name."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(figures)}" for name, figures in sorted(recorded.items()))
    FIGURES.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
