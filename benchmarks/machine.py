"""The machine that a number was measured on, and how many of its cores a process may use."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Machine:
    """What stands beside every number.

    Attributes:
      device: the CPU's model, or the kind of accelerator that JAX computes on.
      platform: as JAX spells it (`"cpu"`, `"gpu"`).
      simd: the widest vector instructions (`"avx512"`, `"avx2"`, `""` elsewhere).
      cores: that the machine has.
      threads: that the process was given, and so XLA's pool.
      jax, python: versions.
      commit: of the checkout, with `+` behind it where files differ from it; `""` outside a checkout.
    """

    device: str
    platform: str
    simd: str
    cores: int
    threads: int
    jax: str
    python: str
    commit: str

    def __str__(self) -> str:
        cpu = " ".join(filter(None, [self.device, f"({self.simd})" if self.simd else ""]))
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{cpu}, {threads} of {self.cores} cores, jax {self.jax}, commit {self.commit or 'unknown'}"


def pin(threads: int | None) -> None:
    """Leaves this process that many of its cores; XLA's thread pool follows. `None`: all of them.

    Raises:
      SystemExit: if JAX was imported before (its pool is made once), the system cannot pin, or has fewer cores.
    """
    if threads is None:
        return
    if "jax" in sys.modules:
        raise SystemExit("the number of threads must be set before jax is imported")
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit(f"--threads needs Linux, this is {platform.system()}")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise SystemExit(f"--threads {threads}: this process may use {len(cores)} cores")
    os.sched_setaffinity(0, cores[:threads])


def describe() -> Machine:
    """The machine that this process runs on."""
    import jax

    device = jax.devices()[0]
    flags = _cpuinfo("flags").split()
    return Machine(
        device=_cpu_name() if device.platform == "cpu" else device.device_kind,
        platform=device.platform,
        simd="avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else "",
        cores=os.cpu_count() or 1,
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        jax=jax.__version__,
        python=platform.python_version(),
        commit=_commit(),
    )


def _cpu_name() -> str:
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name} family {family} model {model}" if family else name


def _cpuinfo(key: str) -> str:
    """The first value of a key in `/proc/cpuinfo`, `""` where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    fields = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for name, _, value in fields if name.strip() == key), "")


def _commit() -> str:
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        return commit + "+" * bool(_git("status", "--porcelain", "--untracked-files=no", "--", "sparta_jax", "benchmarks/*.py"))
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*args: str) -> str:
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
