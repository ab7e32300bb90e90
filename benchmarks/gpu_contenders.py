"""Who computes a case on a GPU: XLA's dense product, our kernels, and torch where it is installed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparta_jax.formats.bsr import BSR
from sparta_jax.kernels import kernels
from sparta_jax.problem import DENSE, SDDMM, Device, Layout, SpMM

from .gpu_cases import Case

PEAK, BANDWIDTH = 989e12, 4.8e12  # of an H200, from its data sheet: they rank configs, nothing more
SMALL = 256  # rows up to which calls are too short to be launched one by one
UNROLLED = 16
TOLERANCE = {"bfloat16": 8e-3, "float16": 1e-3, "float32": 2e-3}


@dataclasses.dataclass(frozen=True)
class Way:
    """One contender.

    Attributes:
      function: traceable, of `x`, the weight, and (backward) the result's gradient.
      layout: how it wants the weight.
      config: what computes it, in words.
    """

    function: Callable[..., Any]
    layout: Layout
    config: str


def problem(case: Case, device: Device, kind: type, layout: Layout = DENSE, transposed: bool = False) -> SpMM | SDDMM:
    dtype = np.dtype(jnp.dtype(case.dtype))
    common = (case.m, case.tesa(), layout, dtype, dtype, dtype, device)
    return SDDMM(*common) if kind is SDDMM else SpMM(*common, transposed=transposed)


def ways(case: Case, device: Device, configs: int | None) -> tuple[dict[str, Way], dict[str, str]]:
    """Our kernels' contenders by name, at most `configs` configs each (None: all), and why others do not serve."""
    found, refused = {}, {}
    forward = _forward if case.what == "forward" else _backward
    for implementation in ("mosaic", "triton"):
        for layout in (DENSE, Layout("bsr", (case.block, case.block))):
            name = f"{implementation} {'packed' if layout.block else 'dense'}"
            try:
                for i, way in enumerate(forward(case, device, implementation, layout)):
                    if configs is not None and i == configs:
                        break
                    found[f"{name} #{i}"] = way
            except NotImplementedError as reason:
                refused[name] = str(reason)
    return found, refused


def _ranked(implementation: str, p: SpMM | SDDMM) -> tuple[Any, list[Any]]:
    """The kernel, and its configs, the fastest by its own model first."""
    kernel = next(k for k in kernels[type(p)].values() if k.implementation == implementation)
    if (reason := kernel.why_not(p)) is not None:
        raise NotImplementedError(reason)

    def seconds(config):
        cost = kernel.cost(p, config)
        return max(cost.flops / (cost.efficiency * PEAK), cost.bytes / BANDWIDTH) + cost.packing / BANDWIDTH

    return kernel, sorted(kernel.configs(p), key=seconds)


def _forward(case: Case, device: Device, implementation: str, layout: Layout) -> Iterator[Way]:
    p = problem(case, device, SpMM, layout)
    kernel, configs = _ranked(implementation, p)
    for config in configs:
        yield Way(lambda x, w, config=config: kernel.run(p, config, x, w), layout, str(config))


def _backward(case: Case, device: Device, implementation: str, layout: Layout) -> Iterator[Way]:
    dx, dw = problem(case, device, SpMM, layout, True), problem(case, device, SDDMM, layout)
    dx_kernel, dx_configs = _ranked(implementation, dx)
    dw_kernel, dw_configs = _ranked(implementation, dw)
    for i in range(max(len(dx_configs), len(dw_configs))):
        a, b = dx_configs[i % len(dx_configs)], dw_configs[i % len(dw_configs)]
        yield Way(lambda x, w, g, a=a, b=b: (dx_kernel.run(dx, a, g, w), dw_kernel.run(dw, b, x, g)), layout, f"dx {a}, dw {b}")


def dense(case: Case) -> Way:
    """XLA's own, of the weight that was masked beforehand; the gradient of the weight is masked."""
    if case.what == "forward":
        return Way(lambda x, w: x @ w, DENSE, "dot_general")
    tesa = case.tesa()
    cells = jnp.asarray(tesa.block_mask((case.block, case.block)))

    def backward(x, w, g):
        k, n = case.k, case.n
        live = cells.repeat(case.block, 0).repeat(case.block, 1)[:k, :n]
        return g @ w.T, jnp.where(live, x.T @ g, jnp.zeros((), x.dtype))

    return Way(backward, DENSE, "dot_general")


def operands(case: Case, layout: Layout) -> tuple[Any, ...]:
    """Random arrays: XLA's dense product is faster on zeros."""
    keys, dtype = jax.random.split(jax.random.key(0), 3), jnp.dtype(case.dtype)
    x = jax.random.normal(keys[0], (case.m, case.k), dtype)
    w = jax.random.normal(keys[1], (case.k, case.n), dtype) / math.sqrt(case.k)
    tesa = case.tesa()
    cells = jnp.asarray(tesa.block_mask((case.block, case.block)))
    live = cells.repeat(case.block, 0).repeat(case.block, 1)[: case.k, : case.n]
    w = jnp.where(live, w.astype(dtype), jnp.zeros((), dtype))
    weight = BSR.pack(w, tesa, layout.block) if layout.block else w
    return (x, weight) if case.what == "forward" else (x, weight, jax.random.normal(keys[2], (case.m, case.n), dtype))


def calls(case: Case, way: Way) -> int:
    """How many products one call of `repeated` makes."""
    return UNROLLED if case.m <= SMALL and case.what == "forward" else 1


def repeated(case: Case, way: Way) -> Callable[..., Any]:
    """The jitted contender; short ones several times in one program, on rows of their own."""
    count = calls(case, way)
    if count == 1:
        return jax.jit(way.function)
    return jax.jit(lambda x, *rest: [way.function(x * jnp.asarray(1 + i, x.dtype), *rest) for i in range(count)])


def error(case: Case, way: Way, got: Any) -> float:
    """Relative, of the worst result, against the dense product in float32."""
    x, w, *g = (jnp.asarray(a, jnp.float32) for a in operands(case, DENSE))
    dot = lambda a, b: jnp.dot(a, b, precision="highest")
    if case.what == "forward":
        wanted = [dot(x, w)]
    else:
        dw = jnp.where(jnp.asarray(case.tesa().mask), dot(x.T, g[0]), 0.0)
        packed = BSR.pack(dw, case.tesa(), way.layout.block).blocks if way.layout.block else dw
        wanted = [dot(g[0], w.T), packed]
    results = [got] if case.what == "forward" else list(got)
    norm = jnp.linalg.norm
    return max(
        float(norm(r.astype(jnp.float32).ravel() - want.ravel()) / norm(want.ravel()))
        for r, want in zip(results, wanted, strict=True)
    )
