"""The native kernels for single live elements equal the masked dense product, whatever the size, dtype and instruction set."""

import functools
import itertools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import together

from sparta_jax.kernels import native, native_csr
from sparta_jax.kernels.native_csr_sddmm import NativeCsrSDDMM
from sparta_jax.kernels.native_csr_spmm import NativeCsrSpMM
from sparta_jax.problem import CSR_LAYOUT, DENSE, SDDMM, Epilogue, SpMM
from sparta_jax.stored import pack, pattern_of, values_at
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import CPU, ISAS, distance, exact_epilogue, live_values, need_native, normal

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
    return SPMM.run(problem, SPMM.configs(problem)[0], x, pack(w, problem.pattern, problem.layout), *extras)


def gradient(problem, x, g):
    assert SAMPLED.why_not(problem) is None
    return SAMPLED.run(problem, SAMPLED.configs(problem)[0], x, g)


def weight(tesa, dtype="float32"):
    return np.where(tesa.mask, normal(tesa.shape, 2), 0).astype(jnp.dtype(dtype))


def multiplied(m, tesa, layout=CSR_LAYOUT, dtype="float32", transposed=False):
    """A product to compile, its operands and the exact result."""
    x, w = normal((m, tesa.shape[1 if transposed else 0]), 1).astype(jnp.dtype(dtype)), weight(tesa, dtype)
    exact = x.astype(np.float64) @ (w.T if transposed else w).astype(np.float64)
    return functools.partial(product, problem_of(m, tesa, layout, dtype, transposed=transposed)), (x, w), exact


def sampled(m, tesa, layout=CSR_LAYOUT, dtype="float32"):
    """A gradient to compile, its operands and the exact result."""
    x, g = (normal((m, size), seed).astype(jnp.dtype(dtype)) for seed, size in enumerate(tesa.shape))
    problem = SDDMM(m, tesa, layout, *[np.dtype(jnp.dtype(dtype))] * 3, CPU)
    exact = live_values(x.astype(np.float64).T @ g.astype(np.float64), tesa, layout)
    return functools.partial(gradient, problem), (x, g), exact


def check(cases, tolerance, dtype="float32"):
    """Products and gradients by name, compiled together, are near the exact results."""
    wrong, results = {}, together({name: fn for name, (fn, _, _) in cases.items()})([a for _, a, _ in cases.values()])
    for (name, (_, _, want)), got in zip(cases.items(), results, strict=True):
        assert (got.shape, got.dtype) == (want.shape, dtype), name
        if not distance(got, want) < tolerance:
            wrong[name] = distance(got, want)
    assert not wrong


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("transposed", [False, True])
def test_equals_the_masked_dense_product(isa, transposed, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    check({str(case): multiplied(case[0], elements(*case[1:]), transposed=transposed) for case in CASES}, TOLERANCE["float32"])


@pytest.mark.parametrize("isa", ISAS)
def test_the_gradient_at_live_elements(isa, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    check({str(case): sampled(case[0], elements(*case[1:])) for case in CASES}, TOLERANCE["float32"])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dtypes(dtype):
    tesa, cases = elements(130, 70, 0.1), {}
    for m, layout in itertools.product((1, 3, 40), (DENSE, CSR_LAYOUT)):
        for transposed in (False, True):
            cases[f"product {m} {layout} {transposed}"] = multiplied(m, tesa, layout, dtype, transposed)
        cases[f"gradient {m} {layout}"] = sampled(m, tesa, layout, dtype)
    with jax.enable_x64(dtype == "float64"):
        check(cases, TOLERANCE[dtype], dtype)


def finished(m, tesa, epilogue, dtype="float32"):
    """A product with an epilogue to compile, its operands and the exact result."""
    n = tesa.shape[1]
    x, w, shapes = normal((m, tesa.shape[0]), 1).astype(dtype), weight(tesa, dtype), [(n,)] * epilogue.bias
    extras = [normal(shape, 5 + i).astype(dtype) for i, shape in enumerate(shapes + [(m, n)] * epilogue.residual)]
    exact = exact_epilogue(epilogue, x.astype(np.float64) @ w.astype(np.float64), *extras)
    return functools.partial(product, problem_of(m, tesa, dtype=dtype, epilogue=epilogue)), (x, w, *extras), exact


@pytest.mark.parametrize("activation", native.ACTIVATIONS)
def test_epilogues(activation):
    tesa, cases = elements(60, 45, 0.2), {}
    for m in (1, 5, 37):
        for bias, residual in ((True, False), (False, True), (True, True)):
            cases[f"{m} rows, {bias=}, {residual=}"] = finished(m, tesa, Epilogue(bias, activation, residual))
    check(cases, 2e-6)


@pytest.mark.parametrize("activation", native.ACTIVATIONS)
def test_epilogues_in_float64(activation):
    tesa, epilogue = elements(60, 45, 0.2), Epilogue(True, activation, True)
    with jax.enable_x64(True):
        check({f"{m} rows": finished(m, tesa, epilogue, "float64") for m in (1, 5, 37)}, 1e-13, "float64")


@pytest.mark.skipif(not MASKS.is_file(), reason="SPARTA_JAX_DATA names no dlmc_masks.npz")
@pytest.mark.parametrize("name", ["transformer_mag90_enc1_q", "transformer_l0_90_enc1_k", "rn50_vd90_g3b1_conv1"])
def test_real_masks(name):
    masks = np.load(MASKS)
    shape = dict(zip(masks["names"], masks["shapes"], strict=True))[name]
    tesa = TeSA(np.unpackbits(masks[name], axis=1, count=shape[1]).astype(bool).T)
    cases = {
        f"{m} rows, {turned=}": multiplied(m, tesa, transposed=turned) for m, turned in ((1, False), (100, False), (20, True))
    }
    check({**cases, "gradient": sampled(70, tesa)}, 1e-6)


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
