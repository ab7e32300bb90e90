"""A table adapted to this machine: a few products measured for each curve, the rest of the curve in proportion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..kernels import kernels
from ..machine import Curve, Machine
from ..problem import CSR_LAYOUT, DENSE, SDDMM, Kernel, Layout, SpMM
from .probes import (
    DENSITIES,
    SIDE,
    Parts,
    Probe,
    kernels_of,
    native_epilogues,
    packing_parts,
    pattern,
    problem_of,
    unpacking_parts,
    whole,
    xla_epilogues,
)

PICO = 1e-12
ROWS, BACK_ROWS, SAMPLED_ROWS = (1, 8, 64, 256), (1, 128), (16, 256)
FALLBACK_ROWS = (1, 16)  # of XLA's own forms, which take long
DENSE_ROWS = {384: (1, 2, 4, 8, 16, 32, 128), 1024: (1, 2, 4, 8, 16, 32, 64, 256), 2048: (1, 16), 4096: (1, 16)}
DENSE_BACK_ROWS = {384: (1, 16), 1024: (1, 16, 64), 4096: (1,)}
DENSE_SAMPLED_ROWS = {384: (16, 256), 1024: (1, 16, 256)}
CLOSELY = ("32x32", "1x1")  # measured at every number of rows in the table
PACKED = ("32x32", "4x4", "16x1", "1x1")
EPILOGUES = ("sum", "gelu_tanh", "gelu_erf")
MOST = 32.0  # times faster or slower than the table, beyond which a measurement is not believed

Tabled = Mapping[str, Curve]
Curves = dict[str, dict[str, Parts]]


def adapted_curves(base: Machine, probe: Probe, implementation: str) -> Curves:
    """The curves of `base` for dense products and the sparse kernels of one implementation, as this machine takes them."""
    curves = _dense(base, probe)
    for kernel in kernels_of(implementation):
        curves |= _sparse(base, probe, kernel)
    curves["epilogue_xla"] = _in_proportion(base.shapes("epilogue_xla"), xla_epilogues(probe, EPILOGUES))
    if implementation == "native":
        measured = native_epilogues(kernels[SpMM]["native_bsr_spmm"], probe, EPILOGUES)
        curves["epilogue_native"] = _in_proportion(base.shapes("epilogue_native"), measured)
    return curves


def _dense(base: Machine, probe: Probe) -> Curves:
    spmm, sddmm = kernels[SpMM]["dense_spmm"], kernels[SDDMM]["dense_sddmm"]
    blocks = {"32x32": unpacking_parts(spmm, Layout("bsr", (32, 32)), probe)}
    return {
        "dense_spmm": _by_side(base, "dense_spmm", DENSE_ROWS, lambda m, w: probe(probe.spmm(m, w, DENSE), spmm)),
        "dense_spmm_transposed": _by_side(
            base, "dense_spmm_transposed", DENSE_BACK_ROWS, lambda m, w: probe(probe.spmm(m, w, DENSE, transposed=True), spmm)
        ),
        "dense_sddmm": _by_side(base, "dense_sddmm", DENSE_SAMPLED_ROWS, lambda m, w: probe(probe.sddmm(m, w, DENSE), sddmm)),
        "dense_unpacking": _in_proportion(base.shapes("dense_unpacking"), blocks),
    }


def _by_side(base: Machine, name: str, rows: Mapping[int, Sequence[int]], time: Callable) -> dict[str, Parts]:
    scaled = {}
    for shape, parts in base.shapes(name).items():
        side = int(shape.partition("x")[0])
        near = min(rows, key=lambda s: abs(math.log(s / side)))
        tabled = base.shapes(name)[f"{near}x{near}"]["live"]
        ratios = {m: time(m, whole(near)) / (PICO * near**2 * tabled.at(m)) for m in rows[near]}
        scaled[shape] = _scaled(parts, ratios)
    return scaled


def _sparse(base: Machine, probe: Probe, kernel: Kernel) -> Curves:
    """Of a kernel, and of its transposed product where it has one."""
    shapes = base.shapes(kernel.name)
    rows = FALLBACK_ROWS if kernel.implementation == "xla" else ROWS if kernel.problem is SpMM else SAMPLED_ROWS
    curves = {kernel.name: {n: _adapted(shapes[n], layout, probe, kernel, rows) for n, layout in _layouts(shapes)}}
    packing = {
        name: parts
        for name, layout in _layouts(shapes)
        if name in PACKED and "packing" in shapes[name] and (parts := packing_parts(kernel, layout, probe))
    }
    for name, parts in _in_proportion(
        {n: {"packing": p["packing"]} for n, p in shapes.items() if "packing" in p}, packing
    ).items():
        curves[kernel.name][name] |= parts
    if backward := base.shapes(f"{kernel.name}_transposed"):
        rows = FALLBACK_ROWS if kernel.implementation == "xla" else BACK_ROWS
        curves[f"{kernel.name}_transposed"] = {
            n: _adapted(backward[n], layout, probe, kernel, rows, transposed=True) for n, layout in _layouts(backward)
        }
    return curves


def _adapted(parts: Tabled, layout: Layout, probe: Probe, kernel: Kernel, rows: Sequence[int], **more) -> Parts:
    """The curves of one class of shapes, by how long products of some numbers of rows take."""
    block = layout.block or (1, 1)
    tesa = pattern(block, DENSITIES[1])
    live = tesa.nnzb(block) * block[0] * block[1]
    tabled = lambda m: PICO * (live * parts["live"].at(m) + 2 * SIDE * parts["around"].at(m))
    time = lambda m: max(probe(problem_of(kernel, probe)(m, tesa, layout, **more), kernel) - probe.foreign, 1e-8)
    if kernel.implementation == "native" and f"{block[0]}x{block[1]}" in CLOSELY:
        rows = parts["live"].rows
    return _scaled({name: parts[name] for name in ("live", "around")}, {m: time(m) / tabled(m) for m in rows})


def _layouts(shapes: Iterable[str]) -> list[tuple[str, Layout]]:
    sides = {name: tuple(map(int, name.split("x"))) for name in shapes}
    return [(name, CSR_LAYOUT if block == (1, 1) else Layout("bsr", block)) for name, block in sides.items()]  # pyright: ignore[reportArgumentType]


def _scaled(parts: Tabled, ratios: Mapping[int, float]) -> Parts:
    """Curves times the ratios at these numbers of rows, between them by logarithms."""
    rows = sorted(ratios)
    logs = [math.log(min(max(ratios[m], 1 / MOST), MOST)) for m in rows]
    ratio = lambda m: math.exp(np.interp(math.log(m), [math.log(r) for r in rows], logs))
    return {
        name: Curve.of({m: v * ratio(m) for m, v in zip(curve.rows, curve.values, strict=True)})
        for name, curve in parts.items()
    }


def _in_proportion(tabled: Mapping[str, Tabled], measured: Mapping[str, Parts]) -> dict[str, Parts]:
    """What was measured, and the others scaled by how these compare with the table, in the mean."""
    first = lambda parts: max(next(iter(parts.values())).at(1), 1e-3)
    logs = [math.log(first(parts) / first(tabled[name])) for name, parts in measured.items() if name in tabled]
    ratio = math.exp(min(max(float(np.mean(logs)), -math.log(MOST)), math.log(MOST))) if logs else 1.0
    return {name: measured.get(name) or _scaled(parts, {1: ratio}) for name, parts in tabled.items()}
