"""What is timed to calibrate a machine: a few sizes, blocks and numbers of rows of every CPU kernel."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import kernels
from ..machine import Curve
from ..problem import CSR_LAYOUT, DENSE, SDDMM, Device, Epilogue, Kernel, Layout, SpMM
from ..products import ACTIVATIONS
from ..tesa import TeSA
from .timing import call_of, least

F32 = np.dtype(np.float32)
SIDE = 1024
BLOCKS = ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (16, 1), (1, 16))
DENSITIES = (1 / 16, 1 / 4)
ROWS, BACK_ROWS, SAMPLED_ROWS = (1, 2, 8, 16, 24, 64, 256), (1, 16, 128), (1, 16, 128, 512)
DENSE_ROWS = {
    384: (1, 2, 4, 8, 16, 32, 128, 512),
    1024: (1, 2, 4, 8, 16, 32, 64, 256),
    2048: (1, 2, 8, 16, 64),
    4096: (1, 2, 8, 16),
}
SECONDS = 4e-3  # that each probe is repeated for

Parts = dict[str, Curve]


@dataclasses.dataclass(frozen=True)
class Probe:
    """Times calls for one device, less what any call takes.

    Attributes:
      device: that the problems are for.
      idle: seconds of a call with next to nothing to do, a tiny dense product.
      foreign: seconds that a foreign call adds to that.
    """

    device: Device
    idle: float
    foreign: float = 0.0

    @classmethod
    def on(cls, device: Device) -> Probe:
        tiny, x = jax.jit(lambda x, w, *_: x @ w), jnp.zeros((8, 8), jnp.float32)
        return cls(device, least(lambda: tiny(x, x, x, x).block_until_ready(), 4 * SECONDS))

    def __call__(self, problem: SpMM | SDDMM, kernel: Kernel) -> float:
        config = next(iter(kernel.configs(problem)))
        return max(least(call_of(problem, kernel, config), SECONDS) - self.idle, 1e-8)

    def spmm(self, m: int, tesa: TeSA, layout: Layout, **more) -> SpMM:
        dtype = more.pop("dtype", F32)
        return SpMM(m, tesa, layout, dtype, dtype, dtype, self.device, **more)

    def sddmm(self, m: int, tesa: TeSA, layout: Layout) -> SDDMM:
        return SDDMM(m, tesa, layout, F32, F32, F32, self.device)


def layouts_of(kernel: Kernel, probe: Probe) -> Iterator[tuple[str, Layout]]:
    """The layouts that a sparse CPU kernel is measured in, by the name of their class of shapes."""
    for block in (*BLOCKS, (1, 1)):
        layout = Layout("bsr", block) if block != (1, 1) else CSR_LAYOUT
        if (
            layout.format in kernel.name
            and kernel.why_not(_problem(kernel, probe)(1, pattern(block, DENSITIES[0]), layout)) is None
        ):
            yield f"{block[0]}x{block[1]}", layout


@functools.lru_cache(maxsize=32)
def pattern(block: tuple[int, int], density: float, side: int = SIDE) -> TeSA:
    """Random live blocks of a square weight."""
    cells = np.random.default_rng(0).random((side // block[0], side // block[1])) < density
    return TeSA.blocks(cells, block, (side, side))


def sparse_parts(kernel: Kernel, layout: Layout, probe: Probe, rows: Sequence[int], **more) -> Parts:
    """Curves of a kernel in one layout: time per live element, and around that per element of x and y; and of packing."""
    block = layout.block or (1, 1)
    make = functools.partial(_problem(kernel, probe), layout=layout, **more)
    few, many = (pattern(block, d) for d in DENSITIES)
    live = [tesa.nnzb(block) * block[0] * block[1] for tesa in (few, many)]
    slopes, around, totals = {}, {}, {}
    for m in rows:
        short, totals[m] = (probe(make(m, tesa), kernel) for tesa in (few, many))
        slopes[m] = max(totals[m] - short, 0.5 * totals[m] * (live[1] - live[0]) / live[1]) / (live[1] - live[0])
        around[m] = max(short - slopes[m] * live[0] - probe.foreign, 0.0) / (2 * SIDE)
    return {"live": _curve(slopes), "around": _curve(around)}


def packing_parts(kernel: Kernel, layout: Layout, probe: Probe) -> Parts:
    """What packing from a dense weight, or unpacking into one, takes per live element."""
    tesa, m = pattern(layout.block or (1, 1), DENSITIES[1]), 16
    block = layout.block or (1, 1)
    make = _problem(kernel, probe)
    dense = make(m, tesa, DENSE)
    config = next((c for c in kernel.configs(dense) if str(c) == f"{block[0]}x{block[1]}" or layout == CSR_LAYOUT), None)
    if config is None or kernel.why_not(dense) is not None:
        return {}
    whole = least(call_of(dense, kernel, config), SECONDS) - probe.idle
    live = tesa.nnzb(block) * block[0] * block[1]
    return {"packing": _curve({1: max(whole - probe(make(m, tesa, layout), kernel) - probe.foreign, 0.0) / live})}


def unpacking_parts(kernel: Kernel, layout: Layout, probe: Probe) -> Parts:
    """What the dense kernel takes, per live element, to unpack a weight first."""
    block = layout.block or (1, 1)
    tesa, m = pattern(block, DENSITIES[1]), 16
    packed, dense = (probe(probe.spmm(m, tesa, form), kernel) for form in (layout, DENSE))
    return {"live": _curve({1: max(packed - dense, 0.0) / (tesa.nnzb(block) * block[0] * block[1])})}


def dense_parts(kernel: Kernel, probe: Probe, side: int, rows: Sequence[int], **more) -> Parts:
    """The curve of XLA's dense product at one size of the weight."""
    tesa = TeSA.blocks(np.ones((1, 1), bool), (side, side), (side, side))
    make = _problem(kernel, probe)
    return {"live": _curve({m: probe(make(m, tesa, DENSE, **more), kernel) / side**2 for m in rows})}


def xla_epilogues(probe: Probe) -> dict[str, Parts]:
    """XLA's own passes behind a product, per element of the result."""
    y = jnp.asarray(np.random.default_rng(0).standard_normal((256, SIDE), np.float32))
    passes = {"sum": lambda y: y + y[0], **ACTIVATIONS}
    return {name: {"element": _curve({1: _pass_seconds(f, y, probe) / y.size})} for name, f in passes.items()}


def native_epilogues(kernel: Kernel, probe: Probe) -> dict[str, Parts]:
    """What each epilogue adds to a native product, per element of the result."""
    tesa, layout, m = pattern((32, 32), DENSITIES[0]), Layout("bsr", (32, 32)), 128
    time = lambda epilogue: probe(probe.spmm(m, tesa, layout, epilogue=epilogue), kernel)
    plain = time(Epilogue())
    epilogues = {"sum": Epilogue(bias=True, residual=True), **{a: Epilogue(activation=a) for a in ACTIVATIONS}}
    return {name: {"element": _curve({1: max(time(e) - plain, 0.0) / (m * SIDE)})} for name, e in epilogues.items()}


def dtype_factors(kernel: Kernel, layout: Layout, probe: Probe, dtypes: Sequence[np.dtype]) -> Parts:
    """How many times longer each dtype takes than float32, of those that the kernel serves."""
    tesa, m = pattern((32, 32), DENSITIES[1]), 64
    time = lambda dtype: probe(probe.spmm(m, tesa, layout, dtype=dtype), kernel)
    served = [d for d in dtypes if kernel.why_not(probe.spmm(m, tesa, layout, dtype=d)) is None]
    return {str(d): Curve.of({1: time(d) / time(F32)}) for d in served}


def sparse_kernels() -> list[Kernel]:
    return [k for problem in (SpMM, SDDMM) for k in kernels[problem].values() if k.implementation == "native"]


def _problem(kernel: Kernel, probe: Probe) -> Callable[..., SpMM | SDDMM]:
    return probe.spmm if kernel.problem is SpMM else probe.sddmm


def _pass_seconds(f: Callable, y: jax.Array, probe: Probe) -> float:
    compiled = jax.jit(f).lower(y).compile()
    return max(least(lambda: compiled(y).block_until_ready(), SECONDS) - probe.idle, 0.0)


def _curve(seconds: Mapping[int, float]) -> Curve:
    return Curve.of({m: s * 1e12 for m, s in seconds.items()})
