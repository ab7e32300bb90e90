"""A copy of the sources, to be built and tested without touching the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md")


def copy_sources(to: Path, *more: str) -> Path:
    """The package with what its build reads, and these other directories; without anything built."""
    to.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(ROOT / name, to)
    for name in ("sparta_jax", *more):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return to


def run(*command: object, cwd: Path, timeout: float = 120, **env: str) -> subprocess.CompletedProcess:
    """What the command printed, both streams in `stdout`. An environment variable that is `""` is not set."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CXX", "CXXFLAGS", "LDFLAGS", "PYTHONPATH")} | env
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={name: value for name, value in kept.items() if value != ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


def build_in_place(sources: Path, timeout: float = 120, **env: str) -> subprocess.CompletedProcess:
    """Builds the native library into the package."""
    pytest.importorskip("setuptools", minversion="77")
    return run(sys.executable, "setup.py", "build_ext", "--inplace", cwd=sources, timeout=timeout, **env)
