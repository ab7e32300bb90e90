"""What there is on this machine, and what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform

import jax

from ..kernels import kernels, native
from ..machine import cpu_name, current, directory
from ..problem import Device
from ..products import default_device
from .table import Table

PACKAGES = ("sparta-jax", "jax", "jaxlib", "numpy")
EXTRAS = ("flax", "optax", "safetensors", "orbax-checkpoint", "matplotlib", "rich")


def checkup() -> list[Table]:
    """Versions, devices, the native library, and the model's table."""
    return [_versions(), _devices(), _native()]


def _versions() -> Table:
    rows = [("python", platform.python_version())]
    rows += [(name, _version(name) or "not installed") for name in PACKAGES]
    rows += [(name, _version(name) or "not installed (an extra)") for name in EXTRAS]
    return Table("versions", ("package", "version"), tuple(rows))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Table:
    head, rows = ("device", "kind", "kernels"), []
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX's, of a platform that was asked for and is not here
        asked = f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
        return Table("devices", head, (), (f"none, with {asked}: {' '.join(str(error).split()) or type(error).__name__}",))
    for device in devices:
        name = "cuda" if device.platform == "gpu" else device.platform
        rows.append((str(device), device.device_kind, ", ".join(implementations(default_device(name)))))
    return Table("devices", head, tuple(rows))


def implementations(device: Device) -> list[str]:
    """The families of kernels that may serve on a device: `"native"` on a CPU where the library can be called."""
    on_cpu, on_gpu = device.platform == "cpu", device.platform in ("cuda", "rocm")
    serves = {"native": on_cpu and native.why_unavailable() is None, "mosaic": on_gpu, "triton": on_gpu}
    names = dict.fromkeys(k.implementation for table in kernels.values() for k in table.values())
    return [name for name in names if serves.get(name, True)]


def _native() -> Table:
    why = native.why_unavailable()
    cores = default_device("cpu").cores
    machine = current(native.isa(), cores)
    rows = [
        ("CPU", f"{cpu_name()}, {cores} threads"),
        ("native kernels", why or f"loaded, {native.isa()}"),
        ("library", str(native.LIBRARY) if native.LIBRARY.is_file() else "not built"),
        ("model of time", machine.source),
        ("cache", f"{directory()} ({len(list(directory().glob('*.json'))) if directory().is_dir() else 0} files)"),
    ]
    mends = []
    if not native.LIBRARY.is_file():
        mends.append(
            "native kernels are built by `pip install .` where there is a C++ compiler; XLA's operations serve meanwhile"
        )
    if machine.source != "calibrated":
        mends.append("`python -m sparta_jax calibrate` measures this machine, in a few seconds")
    return Table("CPU kernels", ("what", "state"), tuple(rows), tuple(mends))
