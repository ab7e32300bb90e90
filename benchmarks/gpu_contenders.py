"""Who computes a case on a GPU with JAX: XLA's dense product, our kernels, the library's choice, JAX's own sparse arrays."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparta_jax.kernels import kernels
from sparta_jax.problem import DENSE, SDDMM, Device, Kernel, Layout, SpMM
from sparta_jax.specialize import Chooser, roofline
from sparta_jax.stored import pack, values_at

from .gpu_cases import PARTS, Case

SMALL = 256  # rows up to which calls are too short to be launched one by one
UNROLLED = 16
TOLERANCE = {"bfloat16": 8e-3, "float16": 1e-3, "float32": 2e-3}
OPERANDS = {"forward": (0, 1), "dx": (2, 1), "dw": (0, 2)}  # of x, the weight, g: what each product multiplies
IMPLEMENTATIONS = ("mosaic", "triton")
LIBRARY = "sparta_jax"  # what the library chooses, where that is not dense everywhere


@dataclasses.dataclass(frozen=True)
class Way:
    """One contender.

    Attributes:
      function: traceable, of `x`, the weight, and (but for forward) the result's gradient; a tuple of the case's products.
      layout: how it wants the weight.
      config: what computes it, in words.
      kinds: of the kernels of its products, `(name, whether transposed tiles are made)`.
    """

    function: Callable[..., tuple[Any, ...]]
    layout: Layout
    config: str
    kinds: tuple[tuple[str, bool], ...] = ()


def problem(case: Case, part: str, device: Device, layout: Layout = DENSE) -> SpMM | SDDMM:
    dtype = np.dtype(jnp.dtype(case.dtype))
    common = (case.m, case.tesa(), layout, dtype, dtype, dtype, device)
    return SDDMM(*common) if part == "dw" else SpMM(*common, transposed=part == "dx")


def ways(case: Case, device: Device, configs: int | None) -> tuple[dict[str, Way], dict[str, str]]:
    """Our kernels' contenders by name, at most `configs` configs each (None: all), and why others do not serve."""
    found, refused = {}, {}
    for implementation, layout in itertools.product(IMPLEMENTATIONS, layouts(case)):
        name = f"{implementation} {'packed' if layout.block else 'dense'}"
        try:
            ranked = [_ranked(implementation, problem(case, part, device, layout)) for part in PARTS[case.what]]
        except NotImplementedError as reason:
            refused[name] = str(reason)
            continue
        most = max(len(choices) for choices in ranked)
        for i in range(most if configs is None else min(most, configs)):
            found[f"{name} #{i}"] = _way(case, layout, [choices[i % len(choices)] for choices in ranked])
    return found, refused


def layouts(case: Case) -> tuple[Layout, Layout]:
    return DENSE, Layout("bsr", case.block)


def _ranked(implementation: str, p: SpMM | SDDMM) -> list[tuple[Kernel, SpMM | SDDMM, Any]]:
    """The kernel with its problem and each of its configs, the fastest by its own model first."""
    kernel = next(k for k in kernels[type(p)].values() if k.implementation == implementation)
    if (reason := kernel.why_not(p)) is not None:
        raise NotImplementedError(reason)
    modelled = roofline(p.device)
    configs = sorted(kernel.configs(p), key=lambda config: modelled.seconds(kernel.cost(p, config)))
    return [(kernel, p, config) for config in configs]


def _way(case: Case, layout: Layout, choices: list[tuple[Kernel, SpMM | SDDMM, Any]]) -> Way:
    parts = PARTS[case.what]

    def function(*operands):
        return tuple(
            kernel.run(p, config, *(operands[i] for i in OPERANDS[part]))
            for part, (kernel, p, config) in zip(parts, choices, strict=True)
        )

    kinds = tuple((kernel.name, bool(getattr(config, "swapped", False))) for kernel, _, config in choices)
    words = [str(config) for *_, config in choices]
    if len(parts) > 1:
        words = [f"{part} {config}" for part, config in zip(parts, words, strict=True)]
    return Way(function, layout, ", ".join(words), kinds)


def chosen(case: Case, device: Device) -> Way | None:
    """What the library itself takes, with its own layout of the weight; None where every product stays dense."""
    chooser = Chooser()
    products = [p for p in [problem(case, "forward", device)] if isinstance(p, SpMM)]
    layout = chooser.layout(products)
    plans = [chooser.plan(problem(case, part, device, layout)) for part in PARTS[case.what]]
    if all(plan.kernel.implementation == "dense" for plan in plans):
        return None
    way = _way(case, layout, [(plan.kernel, plan.problem, plan.config) for plan in plans])
    return dataclasses.replace(way, config=f"{layout}: " + ", ".join(f"{plan.kernel.name} {plan.config}" for plan in plans))


def dense(case: Case) -> Way:
    """XLA's own, of the weight that was masked beforehand; the gradient of the weight is masked."""
    products = {
        "forward": lambda x, w: x @ w,
        "dx": lambda g, w: g @ w.T,
        "dw": lambda x, g: jnp.where(_live(case), x.T @ g, jnp.zeros((), x.dtype)),
    }
    return Way(
        lambda *operands: tuple(products[part](*(operands[i] for i in OPERANDS[part])) for part in PARTS[case.what]),
        DENSE,
        "dot_general",
    )


def _live(case: Case) -> jax.Array:
    """The mask, made on the device from its blocks."""
    cells = jnp.asarray(case.tesa().block_mask(case.block))
    return cells.repeat(case.block[0], 0).repeat(case.block[1], 1)[: case.k, : case.n]


def operands(case: Case, layout: Layout) -> tuple[Any, ...]:
    """Random arrays: XLA's dense product is faster on zeros."""
    keys, dtype = jax.random.split(jax.random.key(0), 3), jnp.dtype(case.dtype)
    x = jax.random.normal(keys[0], (case.m, case.k), dtype)
    w = jax.random.normal(keys[1], (case.k, case.n), dtype) / math.sqrt(case.k)
    w = jnp.where(_live(case), w.astype(dtype), jnp.zeros((), dtype))
    weight = pack(w, case.tesa(), layout)
    return (x, weight) if case.what == "forward" else (x, weight, jax.random.normal(keys[2], (case.m, case.n), dtype))


def calls(case: Case) -> int:
    """How many products one call of `repeated` makes."""
    return UNROLLED if case.m <= SMALL and case.what == "forward" else 1


def repeated(case: Case, way: Way) -> Callable[..., Any]:
    """The jitted contender; short ones several times in one program, on rows of their own."""
    count = calls(case)
    if count == 1:
        return jax.jit(way.function)
    return jax.jit(lambda x, *rest: [way.function(x * jnp.asarray(1 + i, x.dtype), *rest) for i in range(count)])


def error(case: Case, way: Way, got: Any) -> float:
    """Relative, of the worst product, against the dense one in float32."""
    with jax.default_matmul_precision("highest"):
        wanted = dense(case).function(*(jnp.asarray(a, jnp.float32) for a in operands(case, DENSE)))
    return max(
        _distance(result, values_at(want, case.tesa(), way.layout) if part == "dw" else want)
        for part, result, want in zip(PARTS[case.what], got, wanted, strict=True)
    )


def _distance(got: jax.Array, wanted: jax.Array) -> float:
    if got.shape != wanted.shape:
        return math.inf
    return float(jnp.linalg.norm((got.astype(jnp.float32) - wanted).ravel()) / jnp.linalg.norm(wanted.ravel()))
