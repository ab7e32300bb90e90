"""One oracle over all kernels of the table: the masked dense product, whatever the layout, the epilogue and the size."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax.kernels import kernels
from sparta_jax.problem import CSR_LAYOUT, DENSE, SDDMM, Device, Epilogue, Layout, SpMM
from sparta_jax.products import apply_epilogue
from sparta_jax.stored import pack
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import live_values

CPU = Device("cpu", cores=2)
F32 = np.dtype(np.float32)
LAYOUTS = [DENSE, Layout("bsr", (16, 16)), Layout("bsr", (8, 24)), CSR_LAYOUT]
SIZES = [(1, 64, 96), (70, 50, 75), (300, 33, 16)]  # m, k, n
DENSITIES = [0.0, 0.3, 1.0]
EPILOGUES = [Epilogue(), Epilogue(bias=True), Epilogue(True, "gelu_erf", True), Epilogue(True, "relu", True, scale=True)]


def pattern(k: int, n: int, density: float, rng) -> TeSA:
    """Blocks of 16x16, some with a dead element inside, and ragged edges."""
    blocks = TeSA.blocks(rng.random((-(-k // 16), -(-n // 16))) < density, (16, 16), (k, n))
    return blocks if density == 1.0 else blocks & TeSA(rng.random((k, n)) < 0.9)


def draw(rng, shape, dtype=F32):
    return rng.standard_normal(shape).astype(dtype)


def weight(rng, tesa, dtype=F32):
    return np.where(tesa.mask, draw(rng, tesa.shape, dtype), dtype.type(0))


def product(a, b):
    return a.astype(np.float64) @ b.astype(np.float64)


def check(kernel, cases, tolerance):
    """Each config of `kernel` in each case `(problem, operands, want)`: it takes all or none. One program computes them."""
    reasons = {kernel.why_not(problem) for problem, _, _ in cases}
    if None not in reasons:
        pytest.skip(f"{kernel.name} {', '.join(sorted(reasons))}")
    assert reasons == {None}

    def run(problem, a, b, *extras):
        stored = b if isinstance(problem, SDDMM) else pack(b, problem.pattern, problem.layout)
        return [kernel.run(problem, config, a, stored, *extras) for config in kernel.configs(problem)]

    results = jax.jit(lambda arrays: [run(p, *a) for (p, _, _), a in zip(cases, arrays, strict=True)])([a for _, a, _ in cases])
    for (problem, _, want), of_configs in zip(cases, results, strict=True):
        for got, config in zip(of_configs, kernel.configs(problem), strict=True):
            assert (got.shape, got.dtype) == (want.shape, problem.out_dtype), (problem, config)
            error = np.linalg.norm(np.asarray(got, np.float64) - want)
            assert error <= tolerance * np.linalg.norm(want), (problem, config)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", kernels[SpMM])
def test_spmm(name, layout, rng):
    cases = []
    for (m, k, n), density in itertools.product(SIZES, DENSITIES):
        tesa = pattern(k, n, density, rng)
        w = weight(rng, tesa)
        for transposed in (False, True) if density == 0.3 else (False,):
            x = draw(rng, (m, n if transposed else k))
            problem = SpMM(m, tesa, layout, F32, F32, F32, CPU, transposed)
            cases.append((problem, (x, w), product(x, w.T if transposed else w)))
    check(kernels[SpMM][name], cases, 1e-5)


@pytest.mark.parametrize("name", kernels[SpMM])
def test_epilogues(name, rng):
    m, k, n = 37, 50, 75
    tesa = pattern(k, n, 0.3, rng)
    x, w = draw(rng, (m, k)), weight(rng, tesa)
    vectors, residual = [draw(rng, (n,)), draw(rng, (n,))], draw(rng, (m, n))
    cases = []
    for epilogue in EPILOGUES:
        extras = [*vectors[: epilogue.scale + epilogue.bias], *[residual] * epilogue.residual]
        problem = SpMM(m, tesa, DENSE, F32, F32, F32, CPU, epilogue=epilogue)
        cases.append((problem, (x, w, *extras), np.asarray(apply_epilogue(epilogue, x @ w, *extras))))
    check(kernels[SpMM][name], cases, 1e-5)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", kernels[SDDMM])
def test_sddmm(name, layout, rng):
    cases = []
    for (m, k, n), density in itertools.product(SIZES, DENSITIES):
        tesa, x, g = pattern(k, n, density, rng), draw(rng, (m, k)), draw(rng, (m, n))
        problem = SDDMM(m, tesa, layout, F32, F32, F32, CPU)
        cases.append((problem, (x, g), live_values(product(x.T, g), tesa, layout)))
    check(kernels[SDDMM][name], cases, 1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", kernels[SpMM])
def test_other_dtypes(name, dtype, rng):
    with jax.enable_x64(dtype == "float64"):
        m, k, n = 17, 50, 75
        tesa, d = pattern(k, n, 0.3, rng), np.dtype(jnp.dtype(dtype))
        x, w = draw(rng, (m, k), d), weight(rng, tesa, d)
        tolerance = {"bfloat16": 1e-2, "float16": 2e-3, "float64": 1e-12}[dtype]
        check(kernels[SpMM][name], [(SpMM(m, tesa, DENSE, d, d, d, CPU), (x, w), product(x, w))], tolerance)


@pytest.mark.parametrize("problem", [SpMM, SDDMM])
def test_every_kernel_says_what_it_costs(problem, rng):
    tesa = pattern(64, 96, 0.3, rng)
    case = SpMM(8, tesa, DENSE, F32, F32, F32, CPU) if problem is SpMM else SDDMM(8, tesa, DENSE, F32, F32, F32, CPU)
    for kernel in kernels[problem].values():
        if kernel.why_not(case) is not None:
            assert isinstance(kernel.why_not(case), str)
            continue
        for config in kernel.configs(case):
            cost = kernel.cost(case, config)
            assert cost.flops > 0
            assert cost.bytes >= 0
            assert 0 < cost.efficiency <= 1
            assert hash(config) == hash(dataclasses.replace(config))
            assert isinstance(str(config), str)
