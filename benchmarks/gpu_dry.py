"""The GPU benchmark without a GPU: its whole grid is lowered for an H200, and every class of kernel runs in an interpreter."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
import numpy as np

from sparta_jax.kernels import kernels
from sparta_jax.problem import Device

from . import gpu_bandwidth, gpu_bars, gpu_jax_sparse
from .gpu_cases import PARTS, Case
from .gpu_contenders import IMPLEMENTATIONS, LIBRARY, TOLERANCE, Way, chosen, dense, error, layouts, operands, problem, ways

H200 = Device("cuda", "NVIDIA H200", 132)
SMALL = dataclasses.replace(H200, cores=3)
CONFIGS = 2
ROWS = (128, 16)  # of the shapes that are interpreted: the first for which the class has a config


@dataclasses.dataclass(frozen=True)
class Class:
    """Kernels that differ in sizes and tiles alone.

    Attributes:
      part: `"forward"`, `"dx"` or `"dw"`.
      packed: whether the weight lies in blocks.
      swapped: whether transposed tiles are made.
    """

    implementation: str
    part: str
    dtype: str
    block: tuple[int, int]
    packed: bool
    swapped: bool

    def __str__(self) -> str:
        words = [self.implementation, self.part, self.dtype, "x".join(map(str, self.block))]
        return " ".join(words + ["packed"] * self.packed + ["swapped"] * self.swapped)


def dry(cases: Sequence[Case]) -> int:
    """Returns the exit status: 1 if something does not lower, or disagrees with dense."""
    start = time.monotonic()
    failures = 0
    for case in cases:
        attempts, refused = _lowerings(case)
        failures += sum(_failed(f"{case.name} {name}", attempt) for name, attempt in attempts.items())
        print(f"{case.name}: {len(attempts)} contenders lower, refused: {refused or 'none'}", flush=True)
    failures += _failed("the bandwidth from L2", _bandwidth)
    lowered = time.monotonic()
    found = classes(cases)
    for kind in found:
        failures += _failed(str(kind), functools.partial(interpret, kind))
    took = f"lowered in {lowered - start:.0f} s, interpreted in {time.monotonic() - lowered:.0f} s"
    print(gpu_bars.table([]))
    print(f"{len(cases)} cases, {len(found)} classes of kernels, {failures} failures; {took}; nothing ran on a device")
    return 1 if failures else 0


def _failed(name: str, attempt: Callable[[], object]) -> int:
    try:
        attempt()
    except Exception as reason:
        print(f"FAILED {name}: {type(reason).__name__}: {reason}", flush=True)
        return 1
    return 0


# -- lowering


def _lowerings(case: Case) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    found, refused = ways(case, H200, CONFIGS)
    library = chosen(case, H200)
    found |= {LIBRARY: library} if library else {}
    attempts = {name: functools.partial(_lower, case, way) for name, way in found.items()}
    sparse, why = gpu_jax_sparse.ways(case)
    attempts |= {name: functools.partial(_lower_sparse, case, name, way) for name, way in sparse.items()}
    attempts["dense"] = functools.partial(_text, dense(case).function, _structs(lambda: operands(case, dense(case).layout)))
    return attempts, refused | why


def _lower(case: Case, way: Way) -> None:
    text = _text(way.function, _structs(lambda: operands(case, way.layout)))
    ours = [name for name, _ in way.kinds if name.startswith(IMPLEMENTATIONS)]
    assert not ours or "mosaic_gpu" in text or "xla.gpu.triton" in text, "the kernels are not in the program"


def _lower_sparse(case: Case, name: str, way: Way) -> None:
    _text(way.function, _structs(lambda: gpu_jax_sparse.arrays(case, name)))


def _structs(make: Callable[[], Any]) -> Any:
    return jax.eval_shape(make)


def _text(function: Callable[..., Any], structs: Any) -> str:
    with _abstract(H200):
        return jax.jit(function).trace(*structs).lower(lowering_platforms=("cuda",)).as_text()


def _bandwidth() -> None:
    x = jax.ShapeDtypeStruct((gpu_bandwidth.TILES * gpu_bandwidth.ROWS, gpu_bandwidth.COLS), jnp.bfloat16)
    assert "mosaic_gpu" in _text(lambda x: gpu_bandwidth.fetch(x, 132, 100), (x,))
    if hasattr(plgpu, "force_gpu_interpret_mode"):
        interpret_bandwidth()


def _abstract(device: Device) -> Any:
    """A context in which programs are lowered for this device, which need not be here."""
    sharding = jax.sharding
    try:
        named = sharding.AbstractDevice(device_kind=device.kind, num_cores=device.cores, platform="cuda")
    except TypeError:  # jax 0.10
        named = sharding.AbstractDevice(device_kind=device.kind, num_cores=device.cores)
    return sharding.use_abstract_mesh(sharding.AbstractMesh((), (), (), abstract_device=named))


# -- interpreters


def classes(cases: Sequence[Case]) -> list[Class]:
    """Those that the cases' problems have configs of; only what this JAX has an interpreter for."""
    able = IMPLEMENTATIONS if hasattr(plgpu, "force_gpu_interpret_mode") else ("triton",)
    found = {}
    for case, implementation in itertools.product(cases, able):
        for part, layout in itertools.product(PARTS[case.what], layouts(case)):
            for swapped in {s for _, s in _configs(problem(case, part, H200, layout), implementation)}:
                found[Class(implementation, part, case.dtype, case.block, layout.block is not None, swapped)] = None
    return list(found)


def _configs(p: Any, implementation: str) -> list[tuple[Any, bool]]:
    kernel = next(k for k in kernels[type(p)].values() if k.implementation == implementation)
    configs = kernel.configs(p) if kernel.why_not(p) is None else ()
    return [(config, bool(getattr(config, "swapped", False))) for config in configs]


def interpret(kind: Class) -> None:
    """Compares one config of the class with dense, on a small shape."""
    for rows in ROWS:
        case = Case("shrunk", rows, 256, 256, kind.block, 0.5, kind.dtype, kind.part)
        for name, way in ways(case, SMALL, None)[0].items():
            same = name.startswith(f"{kind.implementation} {'packed' if kind.packed else 'dense'}")
            if same and way.kinds[0][1] == kind.swapped:
                return _interpret(case, kind.implementation, way)
    raise AssertionError("no small shape has such a config")


def _interpret(case: Case, implementation: str, way: Way) -> None:
    with interpreter(implementation):
        got = jax.jit(way.function)(*operands(case, way.layout))
    wrong = error(case, way, got)
    assert wrong <= TOLERANCE[case.dtype], f"{way.config}: relative error {wrong:.1e}"


def interpret_bandwidth(ctas: int = 2, steps: int = 11) -> None:
    """The tile that is fetched last is the one that should be."""
    tiles, rows = 16, gpu_bandwidth.ROWS
    x = jnp.asarray(np.random.default_rng(0).standard_normal((tiles * rows, gpu_bandwidth.COLS)), jnp.bfloat16)
    with interpreter("mosaic"):
        got = jax.jit(lambda x: gpu_bandwidth.fetch(x, ctas, steps))(x)
    for cta in range(ctas):
        tile = gpu_bandwidth.tile_of(cta, steps - 1, tiles)
        assert np.array_equal(got[cta], x[tile * rows : (tile + 1) * rows])


@contextlib.contextmanager
def interpreter(implementation: str) -> Iterator[None]:
    if implementation == "mosaic":
        with plgpu.force_gpu_interpret_mode(plgpu.InterpretGPUParams()):
            yield
        return
    call = pl.pallas_call
    pl.pallas_call = functools.partial(call, interpret=True)
    try:
        yield
    finally:
        pl.pallas_call = call
