"""One oracle over all kernels of the table: the masked dense product, whatever the layout, the epilogue and the size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax.kernels import kernels
from sparta_jax.problem import CSR_LAYOUT, DENSE, SDDMM, Device, Epilogue, Layout, SpMM
from sparta_jax.products import apply_epilogue
from sparta_jax.stored import pack, values_at
from sparta_jax.tesa import TeSA

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


def run(kernel, problem, *operands):
    if (reason := kernel.why_not(problem)) is not None:
        pytest.skip(f"{kernel.name} {reason}")
    return [jax.jit(lambda *a, c=config: kernel.run(problem, c, *a))(*operands) for config in kernel.configs(problem)]


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", kernels[SpMM])
def test_spmm(name, layout, size, density, rng):
    m, k, n = size
    tesa = pattern(k, n, density, rng)
    w = jnp.asarray(rng.standard_normal((k, n)) * tesa.mask, F32)
    for transposed in (False, True) if density == 0.3 else (False,):
        x = jnp.asarray(rng.standard_normal((m, n if transposed else k)), F32)
        problem = SpMM(m, tesa, layout, F32, F32, F32, CPU, transposed)
        want = np.asarray(x, np.float64) @ np.asarray(w.T if transposed else w, np.float64)
        for got in run(kernels[SpMM][name], problem, x, pack(w, tesa, layout)):
            assert got.shape == want.shape
            assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
@pytest.mark.parametrize("name", kernels[SpMM])
def test_epilogues(name, epilogue, rng):
    m, k, n = 37, 50, 75
    tesa = pattern(k, n, 0.3, rng)
    w, x = (jnp.asarray(rng.standard_normal(s), F32) for s in ((k, n), (m, k)))
    w = w * tesa.mask.astype(np.float32)
    shapes = [(n,)] * (epilogue.scale + epilogue.bias) + [(m, n)] * epilogue.residual
    extras = [jnp.asarray(rng.standard_normal(shape), F32) for shape in shapes]
    problem = SpMM(m, tesa, DENSE, F32, F32, F32, CPU, epilogue=epilogue)
    want = apply_epilogue(epilogue, x @ w, *extras)
    for got in run(kernels[SpMM][name], problem, x, w, *extras):
        assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", kernels[SDDMM])
def test_sddmm(name, layout, size, density, rng):
    m, k, n = size
    tesa = pattern(k, n, density, rng)
    x, g = (jnp.asarray(rng.standard_normal(s), F32) for s in ((m, k), (m, n)))
    problem = SDDMM(m, tesa, layout, F32, F32, F32, CPU)
    dense = np.asarray(x, np.float64).T @ np.asarray(g, np.float64)
    for got in run(kernels[SDDMM][name], problem, x, g):
        whole = tesa if layout.block is None else TeSA.blocks(tesa.block_mask(layout.block), layout.block, (k, n))
        want = values_at(jnp.asarray(dense * whole.mask), tesa, layout)
        assert got.shape == want.shape
        assert np.linalg.norm(got - want) <= 1e-5 * max(np.linalg.norm(want), 1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", kernels[SpMM])
def test_other_dtypes(name, dtype, rng):
    with jax.enable_x64(dtype == "float64"):
        m, k, n = 17, 50, 75
        tesa = pattern(k, n, 0.3, rng)
        x, w = (jnp.asarray(rng.standard_normal(s), dtype) for s in ((m, k), (k, n)))
        w = jnp.where(tesa.mask, w, 0)
        d = np.dtype(jnp.dtype(dtype))
        problem = SpMM(m, tesa, DENSE, d, d, d, CPU)
        want = np.asarray(x, np.float64) @ np.asarray(w, np.float64)
        for got in run(kernels[SpMM][name], problem, x, w):
            assert got.dtype == d
            tolerance = {"bfloat16": 1e-2, "float16": 2e-3, "float64": 1e-12}[dtype]
            assert np.linalg.norm(np.asarray(got, np.float64) - want) <= tolerance * np.linalg.norm(want)


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
