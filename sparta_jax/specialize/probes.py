"""What is timed to calibrate a machine: a few sizes, blocks and numbers of rows of every CPU kernel."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import kernels
from ..machine import Curve
from ..problem import CSR_LAYOUT, DENSE, SDDMM, Device, Epilogue, Kernel, Layout, SpMM
from ..products import ACTIVATIONS
from ..tesa import TeSA
from .timing import Call, call_of, least

F32 = np.dtype(np.float32)
SIDE = 1024
BLOCKS = ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (16, 1), (1, 16))
XLA_BLOCKS = ((32, 32), (8, 8), (16, 1))
DENSITIES = (1 / 16, 1 / 4)
ROWS, BACK_ROWS, SAMPLED_ROWS = (1, 2, 8, 16, 24, 64, 256), (1, 16, 128), (1, 16, 128, 512)
DENSE_ROWS = {
    384: (1, 2, 4, 8, 16, 32, 128, 512),
    1024: (1, 2, 4, 8, 16, 32, 64, 256),
    2048: (1, 2, 8, 16, 64),
    4096: (1, 2, 8, 16),
}
SECONDS = 4e-3  # that each probe is repeated for
DENSE_SECONDS = 30e-3  # the same of dense products, which all others are held against; several threads may begin on one core

Parts = dict[str, Curve]


class Probe:
    """Times calls for one device, less what any call takes, and remembers them: asked again, it times the same compiled call
    once more and answers with the least so far, as what disturbs a machine only ever adds.

    Attributes:
      device: that the problems are for.
    """

    def __init__(self, device: Device):
        self.device = device
        self._calls: dict[Any, Call] = {}
        self._least: dict[Any, float] = {}

    def __call__(self, problem: SpMM | SDDMM, kernel: Kernel, config: Any = None) -> float:
        """Seconds of one call of a kernel, by default in its first config."""
        config = next(iter(kernel.configs(problem))) if config is None else config
        seconds = DENSE_SECONDS if kernel.implementation == "dense" else SECONDS
        call = lambda: call_of(problem, kernel, config)
        return max(self.least((problem, kernel.name, config), call, seconds) - self.idle, 1e-8)

    def least(self, key: Any, make: Callable[[], Call], seconds: float = SECONDS) -> float:
        """The least seconds of a call so far, with as many more of them."""
        call = self._calls[key] if key in self._calls else self._calls.setdefault(key, make())
        self._least[key] = min(least(call, seconds), self._least.get(key, math.inf))
        return self._least[key]

    def begin_pass(self) -> None:
        """What any call takes is timed again, too: it is taken off all that is timed from now on."""
        for name in ("idle", "foreign"):
            self.__dict__.pop(name, None)

    @functools.cached_property
    def idle(self) -> float:
        """Seconds of a call with next to nothing to do, a tiny dense product."""
        return min(self.least("idle", _tiny) for _ in range(5))

    @functools.cached_property
    def foreign(self) -> float:
        """Seconds that a foreign call adds to that."""
        block, kernel = (16, 16), kernels[SpMM]["native_bsr_spmm"]
        problem = self.spmm(1, pattern(block, DENSITIES[1], 32), Layout("bsr", block))
        return max(min(self(problem, kernel) for _ in range(5)), 5e-7) if kernel.why_not(problem) is None else 1e-6

    def spmm(self, m: int, tesa: TeSA, layout: Layout, **more) -> SpMM:
        dtype = more.pop("dtype", F32)
        return SpMM(m, tesa, layout, dtype, dtype, dtype, self.device, **more)

    def sddmm(self, m: int, tesa: TeSA, layout: Layout) -> SDDMM:
        return SDDMM(m, tesa, layout, F32, F32, F32, self.device)


def layouts_of(kernel: Kernel, probe: Probe) -> Iterator[tuple[str, Layout]]:
    """The layouts that a sparse CPU kernel is measured in, by the name of their class of shapes."""
    blocks = BLOCKS if kernel.implementation == "native" else XLA_BLOCKS
    for layout in (*(Layout("bsr", b) for b in blocks), CSR_LAYOUT):
        br, bc = block = layout.block or (1, 1)
        problem = problem_of(kernel, probe)(1, pattern(block, DENSITIES[0]), layout)
        if layout.format in kernel.name and kernel.why_not(problem) is None:
            yield f"{br}x{bc}", layout


@functools.lru_cache(maxsize=32)
def pattern(block: tuple[int, int], density: float, side: int = SIDE) -> TeSA:
    """Random live blocks of a square weight."""
    cells = np.random.default_rng(0).random((side // block[0], side // block[1])) < density
    return TeSA.blocks(cells, block, (side, side))


def whole(side: int) -> TeSA:
    """A square weight without dead elements."""
    return TeSA.blocks(np.ones((1, 1), bool), (side, side), (side, side))


def sparse_parts(kernel: Kernel, layout: Layout, probe: Probe, rows: Sequence[int], **more) -> Parts:
    """Curves of a kernel in one layout: time per live element, and around that per element of x and y.

    The two come apart where a sparser pattern is timed too: at the first, a middle and the last number of rows."""
    block = layout.block or (1, 1)
    few, many = (pattern(block, d) for d in DENSITIES)
    live = [tesa.nnzb(block) * block[0] * block[1] for tesa in (few, many)]
    time = lambda m, tesa: max(probe(problem_of(kernel, probe)(m, tesa, layout, **more), kernel) - probe.foreign, 1e-8)
    totals = {m: time(m, many) for m in rows}
    around = {m: _around(time(m, few), totals[m], *live) for m in {rows[0], rows[len(rows) // 2], rows[-1]}}
    curve = Curve.of(around)
    slopes = {m: max(total - curve.at(m), total / 2) / live[1] for m, total in totals.items()}
    return {"live": _curve(slopes), "around": _curve({m: s / (2 * SIDE) for m, s in around.items()})}


def _around(short: float, long: float, few: int, many: int) -> float:
    """What is left of the times for two numbers of live elements where there are none."""
    return max(short - (long - short) * few / (many - few), 0.0)


def packing_parts(kernel: Kernel, layout: Layout, probe: Probe) -> Parts:
    """What packing from a dense weight, or unpacking into one, takes per live element."""
    block, m = layout.block or (1, 1), 16
    tesa, make = pattern(block, DENSITIES[1]), problem_of(kernel, probe)
    dense, packed = make(m, tesa, DENSE), make(m, tesa, layout)
    wanted = str(next(iter(kernel.configs(packed))))
    config = next((c for c in kernel.configs(dense) if str(c) == wanted), None)
    if config is None or kernel.why_not(dense) is not None:
        return {}
    seconds = probe(dense, kernel, config) - probe(packed, kernel) - probe.foreign
    return {"packing": _curve({1: max(seconds, 0.0) / (tesa.nnzb(block) * block[0] * block[1])})}


def unpacking_parts(kernel: Kernel, layout: Layout, probe: Probe) -> Parts:
    """What the dense kernel takes, per live element, to unpack a weight first."""
    block = layout.block or (1, 1)
    tesa, m = pattern(block, DENSITIES[1]), 16
    packed, dense = (probe(probe.spmm(m, tesa, form), kernel) for form in (layout, DENSE))
    return {"live": _curve({1: max(packed - dense, 0.0) / (tesa.nnzb(block) * block[0] * block[1])})}


def dense_parts(kernel: Kernel, probe: Probe, side: int, rows: Sequence[int], **more) -> Parts:
    """The curve of XLA's dense product at one size of the weight."""
    make = problem_of(kernel, probe)
    return {"live": _curve({m: probe(make(m, whole(side), DENSE, **more), kernel) / side**2 for m in rows})}


def xla_epilogues(probe: Probe, names: Sequence[str] = ("sum", *ACTIVATIONS)) -> dict[str, Parts]:
    """XLA's own passes behind a product, per element of the result."""
    y = jnp.asarray(np.random.default_rng(0).standard_normal((256, SIDE), np.float32))
    passes = {"sum": lambda y: y + y[0], **ACTIVATIONS}
    seconds = lambda name: max(probe.least(("epilogue", name), lambda: _jitted(passes[name], y)) - probe.idle, 0.0)
    return {name: {"element": _curve({1: seconds(name) / y.size})} for name in names}


def native_epilogues(kernel: Kernel, probe: Probe, names: Sequence[str] = ("sum", *ACTIVATIONS)) -> dict[str, Parts]:
    """What each epilogue adds to a native product, per element of the result."""
    tesa, layout, m = pattern((32, 32), DENSITIES[0]), Layout("bsr", (32, 32)), 128
    time = lambda epilogue: probe(probe.spmm(m, tesa, layout, epilogue=epilogue), kernel)
    plain = time(Epilogue())
    epilogues = {"sum": Epilogue(bias=True, residual=True), **{a: Epilogue(activation=a) for a in ACTIVATIONS}}
    return {name: {"element": _curve({1: max(time(epilogues[name]) - plain, 0.0) / (m * SIDE)})} for name in names}


def dtype_factors(kernel: Kernel, layout: Layout, probe: Probe, dtypes: Sequence[np.dtype]) -> Parts:
    """How many times longer each dtype takes than float32, of those that the kernel serves."""
    tesa, m = pattern((32, 32), DENSITIES[1]), 64
    time = lambda dtype: probe(probe.spmm(m, tesa, layout, dtype=dtype), kernel)
    served = [d for d in dtypes if kernel.why_not(probe.spmm(m, tesa, layout, dtype=d)) is None]
    return {str(d): Curve.of({1: time(d) / time(F32)}) for d in served}


def kernels_of(implementation: str) -> list[Kernel]:
    return [k for problem in (SpMM, SDDMM) for k in kernels[problem].values() if k.implementation == implementation]


def problem_of(kernel: Kernel, probe: Probe) -> Callable[..., SpMM | SDDMM]:
    return probe.spmm if kernel.problem is SpMM else probe.sddmm


def _jitted(f: Callable, *operands: jax.Array) -> Call:
    compiled = jax.jit(f)
    return lambda: compiled(*operands).block_until_ready()


def _tiny() -> Call:
    x = jnp.zeros((8, 8), jnp.float32)
    return _jitted(lambda x, w, *_: x @ w, x, x, x, x)


def _curve(seconds: Mapping[int, float]) -> Curve:
    return Curve.of({m: s * 1e12 for m, s in seconds.items()})
