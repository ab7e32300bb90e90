"""Calibration: the tables of the model measured on this machine, once, and kept for the processes to come."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ..kernels import kernels, native
from ..machine import Curve, Machine, forget, key, shipped, write
from ..machine.record import to_json
from ..problem import CSR_LAYOUT, DENSE, SDDMM, Layout, SpMM
from ..products import default_device
from ..progress import announced
from . import choose
from .adaptation import adapted_curves
from .probes import (
    BACK_ROWS,
    DENSE_ROWS,
    ROWS,
    SAMPLED_ROWS,
    Parts,
    Probe,
    dense_parts,
    dtype_factors,
    kernels_of,
    layouts_of,
    native_epilogues,
    packing_parts,
    sparse_parts,
    unpacking_parts,
    xla_epilogues,
)

Curves = dict[str, dict[str, Parts]]
PASSES = 2  # over the probes of a calibration
TABLE_PASSES = 3  # over those of a whole table
DTYPES = tuple(np.dtype(name) for name in ("bfloat16", "float16"))


def calibrate() -> Path:
    """Measures on this machine's CPU what products take there, and writes it into the user's cache directory.

    Takes about seven seconds; the machine should be idle. A few products are measured for each kernel and class of blocks, and
    the tables that come with the library follow them. The file is readable JSON, named by CPU model, instruction set, number of
    threads and versions; processes that find it there plan by it, others by tables that come with the library. Programs that
    were compiled before keep their plans: calibrate first.

    Returns:
      The file's path: in `$SPARTA_JAX_CACHE_DIR`, else in `sparta_jax` under `$XDG_CACHE_HOME` or `~/.cache`.
    """
    with announced("calibrating the model of this CPU"):
        machine = adapted()
    path = write("machine", machine.key, to_json(machine))
    forget()
    choose.forget()
    return path


def adapted(passes: int = PASSES) -> Machine:
    """The shipped table of the instruction set in use, in proportion to what a few products take on this process' CPU with its
    threads."""
    probe = Probe(default_device("cpu"))
    base = shipped(native.isa()).shared_by(probe.device.cores)
    return _machine(probe, passes, lambda: {**adapted_curves(base, probe, _implementation()), "dtypes": _dtypes(probe)})


def measured(passes: int = TABLE_PASSES) -> Machine:
    """The table of this process' CPU with its threads and the instruction set in use, every knot of it measured."""
    probe = Probe(default_device("cpu"))
    return _machine(probe, passes, lambda: _whole_curves(probe, _implementation()))


def _machine(probe: Probe, passes: int, curves_now: Callable[[], Curves]) -> Machine:
    for _ in range(passes):
        probe.begin_pass()
        curves = curves_now()
    bandwidth = 4e12 / curves["dense_spmm"]["1024x1024"]["live"].at(1)
    own = key(native.isa(), probe.device.cores)
    return Machine(own, "calibrated", max(_rates(curves)), bandwidth, probe.foreign, curves)


def _implementation() -> str:
    return "native" if native.why_unavailable() is None else "xla"


def _whole_curves(probe: Probe, implementation: str) -> Curves:
    curves = {**_dense(probe), **_sparse(probe, implementation), "epilogue_xla": xla_epilogues(probe)}
    curves |= {"dtypes": _dtypes(probe), "dense_unpacking": _unpacking(probe)}
    if implementation == "native":
        curves["epilogue_native"] = native_epilogues(kernels[SpMM]["native_bsr_spmm"], probe)
    return curves


def _dense(probe: Probe) -> Curves:
    spmm, sddmm = kernels[SpMM]["dense_spmm"], kernels[SDDMM]["dense_sddmm"]
    back = {side: tuple(m for m in rows if m in (1, 2, 16, 64)) for side, rows in DENSE_ROWS.items() if side != 2048}
    shape = lambda side: f"{side}x{side}"
    return {
        "dense_spmm": {shape(s): dense_parts(spmm, probe, s, rows) for s, rows in DENSE_ROWS.items()},
        "dense_spmm_transposed": {shape(s): dense_parts(spmm, probe, s, rows, transposed=True) for s, rows in back.items()},
        "dense_sddmm": {shape(s): dense_parts(sddmm, probe, s, (1, 16, 64, 256)) for s in (384, 1024)},
    }


def _unpacking(probe: Probe) -> dict[str, Parts]:
    """XLA's own unpacking, in the layouts that differ most."""
    blocks = {"32x32": Layout("bsr", (32, 32)), "4x4": Layout("bsr", (4, 4)), "1x1": CSR_LAYOUT}
    return {shape: unpacking_parts(kernels[SpMM]["dense_spmm"], layout, probe) for shape, layout in blocks.items()}


def _sparse(probe: Probe, implementation: str) -> Curves:
    curves: Curves = {}
    for kernel in kernels_of(implementation):
        layouts = list(layouts_of(kernel, probe))
        rows = BACK_ROWS if implementation == "xla" else ROWS if kernel.problem is SpMM else SAMPLED_ROWS
        curves[kernel.name] = {
            shape: {**sparse_parts(kernel, layout, probe, rows), **packing_parts(kernel, layout, probe)}
            for shape, layout in layouts
        }
        if kernel.problem is SpMM:
            back = {shape: sparse_parts(kernel, layout, probe, BACK_ROWS, transposed=True) for shape, layout in layouts}
            curves[f"{kernel.name}_transposed"] = back
    return curves


def _dtypes(probe: Probe) -> dict[str, Parts]:
    measured_in = {"dense_spmm": DENSE, "native_bsr_spmm": Layout("bsr", (32, 32)), "native_csr_spmm": CSR_LAYOUT}
    table = kernels[SpMM]
    return {name: dtype_factors(table[name], layout, probe, DTYPES) for name, layout in measured_in.items() if name in table}


def _rates(curves: Mapping[str, Mapping[str, Parts]]) -> Iterable[float]:
    """Operations per second at every knot of the products' curves."""
    products = itertools.chain.from_iterable(shapes.values() for kernel, shapes in curves.items() if "mm" in kernel)
    live: list[Curve] = [parts["live"] for parts in products if "live" in parts]
    knots = ((m, v) for curve in live for m, v in zip(curve.rows, curve.values, strict=True))
    return (2e12 * m / v for m, v in knots if v > 0 and math.isfinite(v))
