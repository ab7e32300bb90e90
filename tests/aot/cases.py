"""Every GPU kernel, dtype and config that is compiled to machine code, by name."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import gpu_bandwidth
from sparta_jax.formats.bsr import BSR, Pattern
from sparta_jax.kernels import kernels
from sparta_jax.problem import DENSE, SDDMM, Device, Epilogue, Layout, SpMM
from sparta_jax.tesa import TeSA

SIZE = 1024
MASK = TeSA.blocks(np.random.default_rng(0).random((SIZE // 32, SIZE // 32)) < 0.2, (32, 32), (SIZE, SIZE))
LAYOUTS = (DENSE, Layout("bsr", (32, 32)), Layout("bsr", (64, 128)), Layout("bsr", (256, 256)))
ACTIVATIONS = ("relu", "gelu_tanh", "gelu_erf", "silu", "tanh", "sigmoid")
DTYPES = {"bf16": np.dtype(jnp.bfloat16), "f16": np.dtype(np.float16), "f32": np.dtype(np.float32)}
DEVICES = {"sm_90a": Device("cuda", "NVIDIA H200", 132), "sm_80": Device("cuda", "NVIDIA A100-SXM4-80GB", 108)}
TARGETS = {"mosaic": ("sm_90a",), "triton": ("sm_80", "sm_90a")}
SLOW_TO_COMPILE = {"triton": ("dense", "bsr64x128", "gelu_erf", "extras dense bfloat16")}
"""Of implementations that take seconds a case, the problems that stand for the others."""
FAST = ("bf16 dense m=1024", "bf16 bsr64x128 m=16", "bf16 gelu_erf", "bf16 extras dense float32", "sddmm bf16 dense")


@dataclasses.dataclass(frozen=True)
class Case:
    """One config of one kernel for one problem, compiled for one target.

    Attributes:
      fast: whether it is among the few that stand for all.
    """

    name: str
    target: str
    kernel: Any
    problem: Any
    config: Any
    fast: bool

    def run(self, *operands):
        return self.kernel.run(self.problem, self.config, *operands)

    def structs(self) -> list[Any]:
        p, s = self.problem, jax.ShapeDtypeStruct
        if isinstance(p, SDDMM):
            return [s((p.m, p.k), p.x_dtype), s((p.m, p.n), p.g_dtype)]
        weight = s(p.pattern.shape, p.w_dtype)
        if p.layout.block is not None:
            pattern = Pattern.of(p.pattern, p.layout.block)
            lists = (s(a.shape, a.dtype) for a in (pattern.indptr, pattern.indices))
            weight = BSR(s((pattern.nnzb, *p.layout.block), p.w_dtype), *lists, p.pattern.shape)
        vectors = [s((p.n,), p.x_dtype)] * (p.epilogue.scale + p.epilogue.bias)
        return [s((p.m, p.k), p.x_dtype), weight, *vectors, *[s((p.m, p.n), p.x_dtype)] * p.epilogue.residual]


@dataclasses.dataclass(frozen=True)
class Bandwidth:
    """The benchmark's kernel that fetches by TMA what lies in L2: it would measure nothing if the loads were left out."""

    name: str = "sm_90a l2_bandwidth"
    target: str = "sm_90a"
    fast: bool = True

    def run(self, x):
        return gpu_bandwidth.fetch(x, DEVICES[self.target].cores, 100)

    def structs(self) -> list[Any]:
        return [jax.ShapeDtypeStruct((gpu_bandwidth.TILES * gpu_bandwidth.ROWS, gpu_bandwidth.COLS), jnp.bfloat16)]


def cases() -> Iterator[Case | Bandwidth]:
    yield Bandwidth()
    for implementation, targets in TARGETS.items():
        for target, (dtype_name, dtype) in itertools.product(targets, DTYPES.items()):
            for kernel in (k for table in kernels.values() for k in table.values() if k.implementation == implementation):
                problems = _sddmms if kernel.problem is SDDMM else _spmms
                for label, problem in problems(dtype, DEVICES[target]):
                    if not label.startswith(SLOW_TO_COMPILE.get(implementation, "")):
                        continue
                    yield from _of(f"{target} {kernel.name} {dtype_name} {label}", target, kernel, problem)


def _of(name: str, target: str, kernel, problem) -> Iterator[Case]:
    if kernel.why_not(problem) is not None:
        return
    configs = list(kernel.configs(problem))
    # Every config once; elsewhere the last, which has the largest tile and takes most of everything.
    for config in configs if kernel.implementation == "mosaic" and problem.x_dtype.name == "bfloat16" else configs[-1:]:
        fast = config == configs[-1] and any(key in name for key in FAST)
        yield Case(f"{name} {config}", target, kernel, problem, config, fast)


def _spmms(dtype, device) -> Iterator[tuple[str, SpMM]]:
    fused = Epilogue(bias=True, activation="gelu_erf")
    for layout, m in itertools.product(LAYOUTS, (16, 1024)):
        common = (m, MASK, layout, dtype, dtype, dtype, device)
        yield f"{layout} m={m}", SpMM(*common, epilogue=fused)
        yield f"{layout} m={m} transposed", SpMM(*common, transposed=True)
    extras = Epilogue(bias=True, activation="gelu_erf", residual=True, scale=True)
    for layout, out in itertools.product((DENSE, Layout("bsr", (64, 128))), dict.fromkeys((dtype, np.dtype("f4")))):
        yield f"extras {layout} {out}", SpMM(1024, MASK, layout, dtype, dtype, out, device, epilogue=extras)
    for activation in ACTIVATIONS:
        epilogue = Epilogue(bias=True, activation=activation)
        yield (
            f"{activation} f32",
            SpMM(1024, MASK, Layout("bsr", (64, 128)), dtype, dtype, np.dtype("f4"), device, epilogue=epilogue),
        )


def _sddmms(dtype, device) -> Iterator[tuple[str, SDDMM]]:
    for layout, out in itertools.product(
        (DENSE, Layout("bsr", (32, 32)), Layout("bsr", (128, 128))), dict.fromkeys((dtype, np.dtype("f4")))
    ):
        yield f"{layout} {out}", SDDMM(1024, MASK, layout, dtype, dtype, out, device)
