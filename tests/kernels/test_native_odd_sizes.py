"""Every function of the native library at drawn odd sizes, in every dtype and instruction set; the sanitizers run it again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax.formats.bsr import Pattern
from sparta_jax.kernels import native, native_csr
from sparta_jax.kernels.native_attention import attention
from sparta_jax.problem import Epilogue
from sparta_jax.products import apply_epilogue
from tests.kernels.native_cases import ISAS, block_tesa, distance, need_native

pytestmark = need_native()

BLOCKS = [(1, 1), (3, 5), (4, 4), (8, 1), (1, 16), (16, 16), (5, 16), (16, 48), (32, 32), (64, 64)]
SINGLE = ["float32", "bfloat16", "float16"]
TOLERANCE = {"float32": 2e-6, "bfloat16": 8e-3, "float16": 1e-3, "float64": 1e-13}


def size(rng, most=97):
    return int(rng.integers(1, most))


def dtypes(rng):
    """Of two operands and a result that may meet."""
    return ["float64"] * 3 if rng.random() < 0.25 else list(rng.choice(SINGLE, 3))


def numbers(rng, shape, dtype):
    return jnp.asarray(rng.standard_normal(shape), dtype)


def exact(a):
    return np.asarray(a, np.float64)


def pattern(rng, block):
    """A weight's shape and live blocks, and their tables."""
    tesa = block_tesa((size(rng), size(rng)), block, rng.choice([0.0, 0.3, 1.0]), size(rng))
    return tesa, Pattern.of(tesa, block)


def live(rng, tesa, dtype):
    return jnp.where(tesa.mask, numbers(rng, tesa.shape, dtype), jnp.zeros((), dtype))


def finished(rng, shape, dtype):
    """An epilogue and its operands."""
    epilogue = Epilogue(bool(rng.integers(2)), rng.choice(native.ACTIVATIONS), bool(rng.integers(2)))
    bias = numbers(rng, shape[1:], dtype) if epilogue.bias else None
    return epilogue, bias, numbers(rng, shape, dtype) if epilogue.residual else None


def near(got, want, dtype):
    assert (got.shape, got.dtype) == (want.shape, dtype)
    assert distance(got, exact(want)) <= TOLERANCE[dtype]


def after(epilogue, sums, bias, residual):
    extras = [jnp.asarray(exact(a)) for a in (bias, residual) if a is not None]
    return apply_epilogue(epilogue, jnp.asarray(sums), *extras)


def spmm(rng):
    block, (x_dtype, w_dtype, dtype) = BLOCKS[rng.integers(len(BLOCKS))], dtypes(rng)
    tesa, table = pattern(rng, block)
    w, transposed, m = live(rng, tesa, w_dtype), bool(rng.integers(2)), size(rng, 40)
    k, n = tesa.shape[::-1] if transposed else tesa.shape
    x, blocks = numbers(rng, (m, k), x_dtype), native.pack(w, table.indptr, table.indices, block)
    epilogue, bias, residual = finished(rng, (m, n), dtype)
    turned, order = table.transposed(-(-tesa.shape[0] // block[0])) if transposed else (table, None)
    got = native.spmm(
        *(x, blocks, turned.indptr, turned.indices, n),
        **dict(dtype=np.dtype(dtype), order=order, bias=bias, activation=epilogue.activation, residual=residual),
    )
    near(got, after(epilogue, exact(x) @ exact(w.T if transposed else w), bias, residual), dtype)


def sddmm(rng):
    block, (x_dtype, g_dtype, dtype) = BLOCKS[rng.integers(len(BLOCKS))], dtypes(rng)
    tesa, table = pattern(rng, block)
    m = size(rng, 300)
    x, g = numbers(rng, (m, tesa.shape[0]), x_dtype), numbers(rng, (m, tesa.shape[1]), g_dtype)
    got = native.sddmm(x, g, table.indptr, table.indices, block, np.dtype(dtype))
    want = native.pack(jnp.asarray(exact(x).T @ exact(g)), table.indptr, table.indices, block)
    near(got, want, dtype)


def pack_and_unpack(rng):
    block, dtype = BLOCKS[rng.integers(len(BLOCKS))], dtypes(rng)[0]
    tesa, table = pattern(rng, block)
    w = live(rng, tesa, dtype)
    blocks = native.pack(w, table.indptr, table.indices, block)
    assert (native.unpack(blocks, table.indptr, table.indices, tesa.shape) == w).all()


def csr(rng, dtype):
    tesa, table = pattern(rng, (1, 1))
    w = live(rng, tesa, dtype)
    return w, table, native_csr.pack(w, table.indptr, table.indices)


def csr_spmm(rng):
    dtype, transposed, m = dtypes(rng)[0], bool(rng.integers(2)), size(rng, 140)
    w, table, values = csr(rng, dtype)
    k, n = w.shape[::-1] if transposed else w.shape
    x = numbers(rng, (m, k), dtype)
    epilogue, bias, residual = finished(rng, (m, n), dtype)
    got = native_csr.spmm(
        *(x, values, table.indptr, table.indices, n),
        **dict(threads=size(rng, 4), transposed=transposed, bias=bias, activation=epilogue.activation, residual=residual),
    )
    near(got, after(epilogue, exact(x) @ exact(w.T if transposed else w), bias, residual), dtype)


def csr_mlp(rng):
    dtype, m, k, hidden, n = dtypes(rng)[0], size(rng, 140), size(rng), size(rng), size(rng)
    layers, weights = [], []
    for shape in ((k, hidden), (k, hidden), (hidden, n)):
        tesa = block_tesa(shape, (1, 1), rng.choice([0.0, 0.3, 1.0]), size(rng))
        table, w = Pattern.of(tesa, (1, 1)), live(rng, tesa, dtype)
        epilogue, bias, _ = finished(rng, shape, dtype)
        values = native_csr.pack(w, table.indptr, table.indices)
        layers.append(native_csr.Layer(values, table.indptr, table.indices, bias, epilogue.activation))
        weights.append(w)
    x, gated = numbers(rng, (m, k), dtype), bool(rng.integers(2))
    residual = numbers(rng, (m, n), dtype) if rng.integers(2) else None
    got = native_csr.mlp(x, layers[0], layers[1] if gated else None, layers[2], n, threads=size(rng, 4), residual=residual)
    run = lambda x, i: exact(
        after(Epilogue(layers[i].bias is not None, layers[i].activation), exact(x) @ exact(weights[i]), layers[i].bias, None)
    )
    between = run(x, 0) * (run(x, 1) if gated else 1.0)
    near(got, run(between, 2) + (0.0 if residual is None else exact(residual)), dtype)


def csr_sddmm(rng):
    dtype, m = dtypes(rng)[0], size(rng, 300)
    w, table, _ = csr(rng, dtype)
    x, g = numbers(rng, (m, w.shape[0]), dtype), numbers(rng, (m, w.shape[1]), dtype)
    got = native_csr.sddmm(x, g, table.indptr, table.indices)
    near(got, (exact(x).T @ exact(g))[table.indices, table.columns], dtype)


def csr_copy(rng):
    w, table, values = csr(rng, dtypes(rng)[0])
    assert (native_csr.unpack(values, table.indptr, table.indices, w.shape) == w).all()


def softmax_attention(rng):
    batch, queries, keys, kv_heads, width = size(rng, 3), size(rng, 50), size(rng, 70), size(rng, 4), size(rng, 70)
    heads, v_width = kv_heads * size(rng, 4), size(rng, 70)
    shapes = (batch, queries, heads, width), (batch, keys, kv_heads, width), (batch, keys, kv_heads, v_width)
    q, k, v = (numbers(rng, shape, "float32") for shape in shapes)
    whole = np.array([batch, heads, queries, keys])
    bias = numbers(rng, np.where(rng.random(4) < 0.5, 1, whole), "float32")
    mask = jnp.asarray(rng.random(np.where(rng.random(4) < 0.5, 1, whole)) < 0.8)
    got = attention(q, k, v, bias, mask, 0.5, 0.3, -10.0)
    k, v = (np.repeat(exact(a), heads // kv_heads, axis=2) for a in (k, v))
    scores = np.where(mask, np.einsum("bqhd,bkhd->bhqk", exact(q) * 0.5, k) * 0.3 + exact(bias), -10.0)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    near(got, np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v), "float32")


CASES = {
    "sparta_spmm": spmm,
    "sparta_sddmm": sddmm,
    "sparta_pack": pack_and_unpack,
    "sparta_unpack": pack_and_unpack,
    "sparta_csr_spmm": csr_spmm,
    "sparta_csr_mlp": csr_mlp,
    "sparta_csr_sddmm": csr_sddmm,
    "sparta_csr_copy": csr_copy,
    "sparta_attention": softmax_attention,
}


def test_every_function_is_drawn():
    assert set(CASES) == set(native.TARGETS)


@pytest.mark.parametrize("draws", [2, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", CASES)
def test_odd_sizes(target, draws, monkeypatch):
    with jax.enable_x64(True):
        for seed in range(draws):
            monkeypatch.setenv("SPARTA_JAX_ISA", ("", *ISAS)[seed % 4])
            if native.why_unavailable() is None:
                CASES[target](np.random.default_rng([seed, *target.encode()]))
