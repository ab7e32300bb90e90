"""The native kernels for single live elements equal the masked dense product, whatever the size, dtype and instruction set."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax.kernels import native, native_csr
from sparta_jax.kernels.native_csr_sddmm import NativeCsrSDDMM
from sparta_jax.kernels.native_csr_spmm import NativeCsrSpMM
from sparta_jax.problem import CSR_LAYOUT, DENSE, SDDMM, Epilogue, SpMM
from sparta_jax.products import apply_epilogue
from sparta_jax.stored import pack, pattern_of, values_at
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import CPU, ISAS, distance, need_native, normal

pytestmark = need_native()

SPMM, SAMPLED = NativeCsrSpMM(), NativeCsrSDDMM()
TOLERANCE = {"float32": 1e-6, "float64": 1e-14, "bfloat16": 5e-3, "float16": 1e-3}
MASKS = Path(os.environ.get("SPARTA_JAX_DATA", "")) / "dlmc_masks.npz"

# m, k, n, density
CASES = [
    (1, 64, 96, 0.3),
    (1, 300, 37, 0.1),
    (2, 50, 75, 0.3),
    (4, 33, 16, 0.5),
    (7, 40, 41, 0.1),
    (8, 17, 33, 1.0),
    (16, 64, 64, 0.1),
    (33, 129, 257, 0.1),
    (70, 50, 75, 0.0),
    (1, 50, 75, 0.0),
    (150, 1000, 30, 0.05),
    (0, 24, 24, 0.5),
    (3, 0, 32, 0.5),
    (3, 32, 0, 0.5),
]


def elements(k, n, density):
    return TeSA(np.random.default_rng(0).random((k, n)) < density)


def problem_of(m, tesa, layout=CSR_LAYOUT, dtype="float32", **facts):
    return SpMM(m, tesa, layout, *[np.dtype(jnp.dtype(dtype))] * 3, CPU, **facts)


def product(problem, x, w, *extras):
    assert SPMM.why_not(problem) is None
    call = jax.jit(lambda *operands: SPMM.run(problem, SPMM.configs(problem)[0], *operands))
    return call(x, pack(w, problem.pattern, problem.layout), *extras)


def weight(tesa, dtype="float32"):
    return jnp.where(tesa.mask, normal(tesa.shape, 2), 0).astype(dtype)


def sampled(m, tesa, layout, dtype="float32"):
    x, g = (jnp.asarray(normal((m, size), seed), dtype) for seed, size in enumerate(tesa.shape))
    problem = SDDMM(m, tesa, layout, *[np.dtype(jnp.dtype(dtype))] * 3, CPU)
    assert SAMPLED.why_not(problem) is None
    got = jax.jit(lambda x, g: SAMPLED.run(problem, SAMPLED.configs(problem)[0], x, g))(x, g)
    exact = np.where(tesa.mask, np.asarray(x, np.float64).T @ np.asarray(g, np.float64), 0)
    return got, exact.T[tesa.mask.T] if layout == CSR_LAYOUT else exact


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("transposed", [False, True])
def test_equals_the_masked_dense_product(isa, transposed, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    wrong = {}
    for m, k, n, density in CASES:
        tesa = elements(k, n, density)
        x, w = jnp.asarray(normal((m, n if transposed else k), 1)), weight(tesa)
        want = np.asarray(x, np.float64) @ np.asarray(w.T if transposed else w)
        got = product(problem_of(m, tesa, transposed=transposed), x, w)
        assert got.shape == want.shape
        if not distance(got, want) < TOLERANCE["float32"]:
            wrong[m, k, n, density] = distance(got, want)
    assert not wrong


@pytest.mark.parametrize("isa", ISAS)
def test_the_gradient_at_live_elements(isa, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    wrong = {}
    for m, k, n, density in CASES:
        got, want = sampled(m, elements(k, n, density), CSR_LAYOUT)
        assert got.shape == want.shape
        if not distance(got, want) < TOLERANCE["float32"]:
            wrong[m, k, n, density] = distance(got, want)
    assert not wrong


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        for m in (1, 3, 40):
            tesa = elements(130, 70, 0.1)
            w = weight(tesa, dtype)
            for transposed in (False, True):
                x = jnp.asarray(normal((m, 70 if transposed else 130), 1), dtype)
                want = np.asarray(x, np.float64) @ np.asarray(w.T if transposed else w, np.float64)
                for layout in (DENSE, CSR_LAYOUT):
                    got = product(problem_of(m, tesa, layout, dtype, transposed=transposed), x, w)
                    assert got.dtype == dtype
                    assert distance(got, want) < TOLERANCE[dtype]
            for layout in (DENSE, CSR_LAYOUT):
                got, want = sampled(m, tesa, layout, dtype)
                assert got.dtype == dtype
                assert distance(got, want) < TOLERANCE[dtype]


@pytest.mark.parametrize("activation", native.ACTIVATIONS)
def test_epilogues(activation):
    tesa = elements(60, 45, 0.2)
    for m in (1, 5, 37):
        for bias, residual in ((True, False), (False, True), (True, True)):
            epilogue = Epilogue(bias, activation, residual)
            extras = [jnp.asarray(normal(s, 5)) for s in [(45,)] * bias + [(m, 45)] * residual]
            x, w = jnp.asarray(normal((m, 60), 1)), weight(tesa)
            got = product(problem_of(m, tesa, epilogue=epilogue), x, w, *extras)
            assert distance(got, np.asarray(apply_epilogue(epilogue, x @ w, *extras), np.float64)) < 2e-6


@pytest.mark.parametrize("activation", native.ACTIVATIONS)
def test_epilogues_in_float64(activation):
    with jax.enable_x64(True):
        tesa, epilogue = elements(60, 45, 0.2), Epilogue(True, activation, True)
        w = weight(tesa, "float64")
        for m in (1, 5, 37):
            x, bias, residual = (jnp.asarray(normal(s, i), "float64") for i, s in enumerate([(m, 60), (45,), (m, 45)]))
            got = product(problem_of(m, tesa, dtype="float64", epilogue=epilogue), x, w, bias, residual)
            assert distance(got, np.asarray(apply_epilogue(epilogue, x @ w, bias, residual))) < 1e-13


@pytest.mark.skipif(not MASKS.is_file(), reason="SPARTA_JAX_DATA names no dlmc_masks.npz")
@pytest.mark.parametrize("name", ["transformer_mag90_enc1_q", "transformer_l0_90_enc1_k", "rn50_vd90_g3b1_conv1"])
def test_real_masks(name):
    masks = np.load(MASKS)
    shape = dict(zip(masks["names"], masks["shapes"], strict=True))[name]
    tesa = TeSA(np.unpackbits(masks[name], axis=1, count=shape[1]).astype(bool).T)
    w = weight(tesa)
    for m, transposed in ((1, False), (100, False), (20, True)):
        x = jnp.asarray(normal((m, tesa.shape[1 if transposed else 0]), 1))
        want = np.asarray(x, np.float64) @ np.asarray(w.T if transposed else w)
        assert distance(product(problem_of(m, tesa, transposed=transposed), x, w), want) < 1e-6
    got, want = sampled(70, tesa, CSR_LAYOUT)
    assert distance(got, want) < 1e-6


def test_corrupt_tables_are_refused():
    tesa = elements(64, 48, 0.3)
    pattern, values, x = pattern_of(tesa, CSR_LAYOUT), values_at(weight(tesa), tesa, CSR_LAYOUT), jnp.ones((20, 64))
    far, negative, ends = pattern.indices.copy(), pattern.indices.copy(), pattern.indptr.copy()
    far[-1], negative[0], ends[3] = 64, -1, ends[-1] + 1
    for indptr, indices in (
        (pattern.indptr, far),
        (pattern.indptr, negative),
        (ends, pattern.indices),
        (pattern.indptr[:-1], pattern.indices),
        (pattern.indptr + 1, pattern.indices),
        (pattern.indptr, pattern.indices[:-1]),
    ):
        calls = [
            lambda t=indptr, i=indices: native_csr.spmm(x, values, t, i, 48, threads=2),
            lambda t=indptr, i=indices: native_csr.spmm(x[:1], values, t, i, 48, threads=2),
            lambda t=indptr, i=indices: native_csr.spmm(x[:, :48], values, t, i, 64, threads=2, transposed=True),
            lambda t=indptr, i=indices: native_csr.unpack(values, t, i, (64, 48)),
        ]
        for call in calls:
            with pytest.raises(jax.errors.JaxRuntimeError, match="CSR"):
                call().block_until_ready()
