"""Modelled time on CPUs, read off the machine's measured curves."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping

import numpy as np

from ..machine import Curve, Machine, current
from ..problem import DENSE, SDDMM, Cost, SpMM
from ..tesa import TeSA
from . import native

PICO = 1e-12
STARTS_SECONDS = 1e-5  # of the operations in which XLA's own forms run, all together
CACHED = 1 << 20  # elements of the weights that curves were measured with
VECTOR = 16  # blocks of whole such sides run along the weight's columns, others along the rows of x


def machine_of(problem: SpMM | SDDMM) -> Machine:
    """The table for the CPU that a problem is for."""
    return current(native.isa(), problem.device.cores)


@functools.lru_cache(maxsize=4096)
def live_in(tesa: TeSA, block: tuple[int, int]) -> int:
    """The elements of its live blocks."""
    return tesa.nnz if block == (1, 1) else tesa.nnzb(block) * block[0] * block[1]


def dense_cost(problem: SpMM | SDDMM, kernel: str) -> Cost:
    """XLA's dense product, from curves at a few sizes of the weight, its epilogue a pass of its own."""
    machine = machine_of(problem)
    size = problem.k * problem.n
    picoseconds = _between_sizes(machine, _variant(problem, kernel), problem.m, size)
    seconds = PICO * size * picoseconds * _width(machine, problem, kernel) if problem.m else 0.0
    around = epilogue_seconds(problem, machine, "epilogue_xla") + unpacking_seconds(problem, machine)
    return _cost(machine, 2.0 * problem.m * size, seconds, around)


def sparse_cost(problem: SpMM | SDDMM, kernel: str, block: tuple[int, int] = (1, 1)) -> Cost:
    """A kernel that reads live blocks, or live elements: time for each of these, and time around that for x and y; where the
    weight comes dense, or must leave so, also what packing takes.

    Beside the curves, which are of weights in cache, a larger one is read from memory once."""
    machine, live = machine_of(problem), live_in(problem.pattern, block)
    variant = _variant(problem, kernel)
    parts = _parts(machine, variant if machine.shapes(variant) else kernel, block)
    stored = live * _weight_dtype(problem).itemsize
    picoseconds = live * parts["live"].at(problem.m) + stored * memory_excess(machine, stored)
    around = (problem.k + problem.n) * parts["around"].at(problem.m) if problem.m else 0.0
    width = _width(machine, problem, kernel)
    fused = kernel.startswith("native") and not (isinstance(problem, SpMM) and problem.epilogue.scale)
    after = (
        machine.call
        + PICO * around * width
        + epilogue_seconds(problem, machine, "epilogue_native" if fused else "epilogue_xla")
    )
    if problem.layout == DENSE:
        after += packing_seconds(problem, machine, kernel, block)
    cost = _cost(machine, 2.0 * problem.m * live, PICO * picoseconds * width, after)
    return dataclasses.replace(cost, packing=masking_bytes(problem))


def several(cost: Cost) -> Cost:
    """The cost of a kernel of several operations, each of which is started by itself."""
    return dataclasses.replace(cost, seconds=cost.seconds + STARTS_SECONDS)


def packing_seconds(problem: SpMM | SDDMM, machine: Machine, kernel: str, block: tuple[int, int]) -> float:
    """What gathering the live blocks of a dense weight takes, or scattering them into one, in a call of its own."""
    (br, bc), live = block, live_in(problem.pattern, block)
    itemsize = _weight_dtype(problem).itemsize
    touched = live / (br * bc) * br * max(64, bc * itemsize)  # whole cache lines of the dense weight
    excess = memory_excess(machine, problem.k * problem.n * itemsize)
    each = _parts(machine, kernel, block, "packing")["packing"].at(1)
    return machine.call + PICO * (live * each + touched * excess)


def masking_bytes(problem: SpMM | SDDMM) -> float:
    """What is read and written to mask a weight that comes dense; XLA masks few rows' weights while it multiplies."""
    if isinstance(problem, SDDMM) or problem.layout != DENSE:
        return 0.0
    return 2.0 * problem.k * problem.n * problem.w_dtype.itemsize


def unpacking_seconds(problem: SpMM | SDDMM, machine: Machine) -> float:
    """What XLA's own operations take to bring a packed weight into one array, or the like of it into its layout."""
    if problem.layout == DENSE:
        return 0.0
    block = problem.layout.block or (1, 1)
    return PICO * live_in(problem.pattern, block) * _parts(machine, "dense_unpacking", block)["live"].at(1)


def epilogue_seconds(problem: SpMM | SDDMM, machine: Machine, where: str) -> float:
    """What bias, activation and residual add to a product, `where` they are computed: in the kernel, or by XLA behind it."""
    if isinstance(problem, SDDMM) or not problem.epilogue:
        return 0.0
    shapes = machine.shapes(where)
    curve = shapes.get(problem.epilogue.activation or "sum", shapes["sum"])["element"]
    return PICO * problem.m * problem.n * curve.at(1)


def memory_excess(machine: Machine, size: float) -> float:
    """Picoseconds per byte by which reading so many bytes, used again only in the next call, is slower than from the cache."""
    at = lambda elements: _between_sizes(machine, "dense_spmm", 1, elements)
    return max(0.0, at(max(size / 4, CACHED)) - at(CACHED)) / 4


def _cost(machine: Machine, flops: float, seconds: float, around: float) -> Cost:
    """A cost whose flops take `seconds`, as a share of the peak; bytes are part of what was measured."""
    share = flops / (seconds * machine.peak) if seconds else 1.0
    return Cost(flops, 0.0, share, around)


def _variant(problem: SpMM | SDDMM, kernel: str) -> str:
    return f"{kernel}_transposed" if isinstance(problem, SpMM) and problem.transposed else kernel


def _weight_dtype(problem: SpMM | SDDMM) -> np.dtype:
    return problem.w_dtype if isinstance(problem, SpMM) else problem.out_dtype


def _width(machine: Machine, problem: SpMM | SDDMM, kernel: str) -> float:
    """How many times longer the problem's dtypes take than float32."""
    dtype = max(problem.x_dtype, _weight_dtype(problem), key=lambda d: d.itemsize)
    factors = machine.shapes("dtypes").get(kernel, {})
    if str(dtype) in factors:
        return factors[str(dtype)].at(1)
    return max(dtype.itemsize / 4, 1.0)


def _parts(machine: Machine, kernel: str, block: tuple[int, int], wanted: str = "live") -> Mapping[str, Curve]:
    """What was measured of the class of shapes that is nearest, of those with the wanted part."""
    shapes = machine.shapes(kernel)
    return shapes[_nearest(tuple(name for name, parts in shapes.items() if wanted in parts), block)]


@functools.lru_cache(maxsize=4096)
def _nearest(shapes: tuple[str, ...], block: tuple[int, int]) -> str:
    """The measured block most like this one: of its kind, then of its sides, by ratio."""
    whole = lambda b: all(side % VECTOR == 0 for side in b)
    far = lambda b: sum(abs(math.log2(x / y)) for x, y in zip(b, block, strict=True))
    return min(shapes, key=lambda s: (whole(_sides(s)) != whole(block), far(_sides(s))))


def _sides(shape: str) -> tuple[int, ...]:
    return tuple(int(side) for side in shape.split("x"))


@functools.lru_cache(maxsize=64)
def _areas(shapes: tuple[str, ...]) -> dict[str, int]:
    return dict(sorted(((s, math.prod(_sides(s))) for s in shapes), key=lambda pair: pair[1]))


def _between_sizes(machine: Machine, kernel: str, m: int, size: float) -> float:
    """Picoseconds per element of a weight of `size` elements: between the measured sizes by the logarithm."""
    shapes = machine.shapes(kernel)
    areas = _areas(tuple(shapes))
    at = lambda shape: shapes[shape]["live"].at(m)
    names = list(areas)
    if size <= areas[names[0]]:
        return at(names[0])
    for below, above in itertools.pairwise(names):
        if size <= areas[above]:
            share = math.log(size / areas[below]) / math.log(areas[above] / areas[below])
            return at(below) + share * (at(above) - at(below))
    return at(names[-1])
