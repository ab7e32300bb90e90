"""Every dtype of the native block products against a float64 oracle: exact sums, rounded once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import together

import sparta_jax as sj
from sparta_jax.formats.bsr import Pattern
from sparta_jax.kernels import native
from sparta_jax.problem import Epilogue
from sparta_jax.products import ACTIVATIONS, apply_epilogue
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import EXACT, ISAS, block_tesa, blocks_of, exact_epilogue, need_native, normal

pytestmark = need_native()

F32, BF16, F16, F64 = (np.dtype(d) for d in (jnp.float32, jnp.bfloat16, jnp.float16, np.float64))
HALF_UNIT = {F32: 2.0**-24, BF16: 2.0**-8, F16: 2.0**-11, F64: 2.0**-53}

# x, weight, result
COMBINATIONS = [
    (BF16, BF16, BF16),
    (BF16, BF16, F32),
    (F32, BF16, F32),
    (BF16, F32, BF16),
    (F16, F16, F16),
    (F16, F16, F32),
    (F16, BF16, F32),
    (F64, F64, F64),
]

# Every combination on the best instruction set, three that cover the loads and stores on the others.
ON_ISAS = [(isa, c) for isa in ISAS for c in (COMBINATIONS if isa == ISAS[-1] else COMBINATIONS[0::4] + COMBINATIONS[-1:])]

ON_ISAS += [("", c) for c in COMBINATIONS[:2]]  # nothing forced: dot products of pairs where the CPU has them

# m, k, n, block, density
CASES = [
    (1, 70, 83, (32, 32), 0.5),
    (1, 64, 130, (64, 64), 0.6),
    (1, 30, 37, (4, 4), 0.4),
    (1, 33, 21, (8, 3), 0.5),
    (2, 96, 64, (32, 32), 0.4),
    (30, 97, 64, (32, 32), 0.5),
    (7, 100, 75, (16, 16), 0.4),
    (33, 130, 200, (64, 64), 0.4),
    (16, 48, 80, (16, 48), 0.5),
    (50, 41, 39, (8, 8), 0.3),
    (9, 31, 29, (4, 4), 0.5),
    (17, 64, 30, (16, 1), 0.2),
    (17, 30, 24, (8, 1), 0.3),
    (17, 20, 70, (1, 16), 0.3),
    (3, 12, 11, (1, 1), 0.4),
    (8, 64, 64, (32, 32), 0.0),
    (5, 32, 32, (16, 16), 1.0),
]


@pytest.fixture
def forced(monkeypatch):
    def force(isa):
        monkeypatch.setenv("SPARTA_JAX_ISA", isa)
        if (why := native.why_unavailable()) is not None:
            pytest.skip(why)

    return force


@pytest.fixture(autouse=True)
def with_float64():
    with jax.enable_x64(True):
        yield


def label(value):
    return (value or "any") if isinstance(value, str) else "-".join(map(str, value))


def drawn(shape, seed, dtype):
    return normal(shape, seed).astype(dtype)


def worst(got, want, dtype):
    """The largest error in units of what rounding the exact result once allows."""
    got, scale = np.asarray(got, np.float64), float(np.abs(want).max(initial=0)) or 1.0
    sums = 1e-13 if dtype == F64 else 1e-6
    return float((np.abs(got - want) / (1.001 * HALF_UNIT[dtype] * np.abs(want) + sums * scale)).max(initial=0))


def all_are_rounded_once(calls, operands, wanted, dtype):
    """Calls by the name of their case, compiled together."""
    wrong = {}
    for case, got, want in zip(calls, together(calls)(operands), wanted, strict=True):
        assert (got.shape, got.dtype) == (want.shape, dtype), case
        if not worst(got, want, dtype) <= 1:
            wrong[case] = worst(got, want, dtype)
    assert not wrong


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("isa", "dtypes"), ON_ISAS, ids=label)
def test_spmm_is_rounded_once(forced, isa, dtypes, transposed):
    forced(isa)
    x_dtype, w_dtype, dtype = dtypes
    calls, operands, wanted = {}, [], []
    for case in CASES:
        m, k, n, block, density = case
        tesa = block_tesa((k, n), block, density)
        w = np.where(tesa.mask, drawn((k, n), 2, w_dtype), w_dtype.type(0))
        x = drawn((m, n if transposed else k), 1, x_dtype)
        pattern, order = Pattern.of(tesa, block), None
        if transposed:
            pattern, order = pattern.transposed(-(-k // block[0]))
        tables = dict(indptr=pattern.indptr, indices=pattern.indices, order=order)
        calls[str(case)] = functools.partial(native.spmm, n=k if transposed else n, dtype=dtype, **tables)
        operands.append((x, blocks_of(w, tesa, block)))
        exact = w.astype(np.float64)
        wanted.append(x.astype(np.float64) @ (exact.T if transposed else exact))
    all_are_rounded_once(calls, operands, wanted, dtype)


@pytest.mark.parametrize(("isa", "dtypes"), ON_ISAS, ids=label)
def test_sddmm_is_rounded_once(forced, isa, dtypes):
    forced(isa)
    x_dtype, g_dtype, dtype = dtypes
    calls, operands, wanted = {}, [], []
    for case in [*CASES[2::2], (600, 17, 40, (4, 4), 0.3), (600, 40, 40, (16, 16), 0.4)]:
        m, k, n, block, density = case
        tesa, x, g = block_tesa((k, n), block, density), drawn((m, k), 1, x_dtype), drawn((m, n), 2, g_dtype)
        pattern = Pattern.of(tesa, block)
        tables = dict(indptr=pattern.indptr, indices=pattern.indices, block=block)
        calls[str(case)] = functools.partial(native.sddmm, dtype=dtype, **tables)
        operands.append((x, g))
        wanted.append(blocks_of(x.astype(np.float64).T @ g.astype(np.float64), tesa, block))
    all_are_rounded_once(calls, operands, wanted, dtype)


@pytest.mark.parametrize("dtype", [BF16, F16, F64], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_pack_and_unpack_copy_every_dtype(dtype, density):
    for shape, block in (((64, 96), (32, 32)), ((45, 70), (16, 4)), ((9, 9), (16, 16))):
        tesa = block_tesa(shape, block, density)
        w, pattern = np.where(tesa.mask, drawn(shape, 1, dtype), dtype.type(0)), Pattern.of(tesa, block)
        blocks = native.pack(jnp.asarray(w), pattern.indptr, pattern.indices, block)
        assert blocks.dtype == dtype
        assert (np.asarray(blocks) == blocks_of(w, tesa, block)).all()
        assert (np.asarray(native.unpack(blocks, pattern.indptr, pattern.indices, shape)) == w).all()


@pytest.mark.parametrize(("isa", "dtypes"), [*ON_ISAS[:3], *ON_ISAS[-6::3], ON_ISAS[-2]], ids=label)
def test_an_epilogue_is_computed_before_rounding(forced, isa, dtypes):
    forced(isa)
    x_dtype, w_dtype, dtype = dtypes
    for m, block in ((1, (32, 32)), (19, (32, 32)), (19, (4, 4))):
        tesa = block_tesa((64, 75), block, 0.3)
        pattern, x = Pattern.of(tesa, block), drawn((m, 64), 1, x_dtype)
        w = np.where(tesa.mask, drawn((64, 75), 2, w_dtype), w_dtype.type(0))
        bias, residual = drawn((75,), 4, dtype), drawn((m, 75), 5, dtype)
        sums = x.astype(np.float64) @ w.astype(np.float64)
        given = dict(indptr=pattern.indptr, indices=pattern.indices, n=75, dtype=dtype)
        calls = {
            activation: lambda x, blocks, bias, residual, facts=dict(given, activation=activation): native.spmm(
                x, blocks, bias=bias, residual=residual, **facts
            )
            for activation in (None, *ACTIVATIONS)
        }
        results = together(calls)([(x, blocks_of(w, tesa, block), bias, residual)] * len(calls))
        for activation, y in zip(calls, results, strict=True):
            want = exact_epilogue(Epilogue(True, activation, True), sums, bias, residual)
            assert worst(y, want, dtype) <= 1.5, (m, block, activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_oracle_of_an_epilogue_is_what_it_stands_for(activation):
    sums, bias, residual = (normal((30, 40), seed).astype(np.float64) * 3 for seed in range(3))
    epilogue = Epilogue(True, activation, True)
    want = jax.jit(functools.partial(apply_epilogue, epilogue))(sums, bias[0], residual)
    np.testing.assert_allclose(exact_epilogue(epilogue, sums, bias[0], residual), want, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_float64_are_exact_to_a_trillionth(forced, isa, activation):
    """Element by element, also where the value is tiny; the oracle is scipy's and numpy's."""
    forced(isa)
    x = np.concatenate([np.linspace(-40, 40, 2049), np.geomspace(1e-300, 1e300, 256), -np.geomspace(1e-300, 1e300, 256), [0.0]])
    pattern = Pattern.of(TeSA.dense((1, 1)), (1, 1))
    got = native.spmm(jnp.asarray(x[:, None]), jnp.ones((1, 1, 1)), pattern.indptr, pattern.indices, 1, activation=activation)
    with np.errstate(all="ignore"):
        want = EXACT[activation](x)
    np.testing.assert_allclose(np.asarray(got)[:, 0], want, rtol=1e-12, atol=1e-290)


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize("isa", [*ISAS, ""])
def test_special_numbers_survive(forced, isa, dtype):
    """Infinity, NaN, the largest and the smallest numbers go through products with one and are rounded as the dtype says."""
    forced(isa)
    tesa = TeSA.dense((16, 16))
    pattern, one = Pattern.of(tesa, (16, 16)), np.eye(16, dtype=dtype)
    largest, tiny = float(jnp.finfo(dtype).max), float(jnp.finfo(dtype).tiny)
    values = np.array([np.inf, -np.inf, np.nan, largest, -largest, tiny, -tiny, 0.0], dtype)
    for m in (1, 3):
        x = np.zeros((m, 16), dtype)
        for i, value in enumerate(values):
            x[:] = 0
            x[:, 5] = value
            w = np.zeros((16, 16), dtype)
            w[5, :] = 1
            y = native.spmm(jnp.asarray(x), jnp.asarray(w[None]), pattern.indptr, pattern.indices, 16)
            np.testing.assert_array_equal(np.asarray(y, np.float32), np.full((m, 16), value, np.float32), err_msg=str(i))
        x[:] = largest
        y = native.spmm(jnp.asarray(x), jnp.asarray(one[None] * dtype.type(2)), pattern.indptr, pattern.indices, 16)
        assert np.isinf(np.asarray(y, np.float32)).all()


@pytest.mark.parametrize("dtype", [BF16, pytest.param(F16, marks=pytest.mark.slow), F64], ids=str)
def test_gradients_through_sparsify(dtype):
    tesa = {"w": block_tesa((64, 96), (16, 16), 0.3), "b": None}
    params = {"w": jnp.asarray(drawn((64, 96), 1, dtype)), "b": jnp.asarray(drawn((96,), 2, dtype))}
    x = jnp.asarray(drawn((24, 64), 3, dtype))
    apply = lambda p, x: jax.nn.gelu(x @ p["w"] + p["b"])
    loss = lambda f: lambda p, x: (f(p, x).astype(jnp.float64) ** 2).sum()
    fast = sj.sparsify(apply, tesa, implementation="native")
    masked = {"w": jnp.where(tesa["w"].mask, params["w"], 0), "b": params["b"]}
    exact = jax.tree.map(lambda a: a.astype(jnp.float64), masked)
    want, dx = jax.grad(loss(apply), argnums=(0, 1))(exact, x.astype(jnp.float64))
    got, gx = jax.grad(loss(fast), argnums=(0, 1))(params, x)
    dense, _ = jax.grad(loss(apply), argnums=(0, 1))(masked, x)
    error = lambda a, b: float(jnp.linalg.norm(a.astype(jnp.float64) - b) / jnp.linalg.norm(b))
    live = jnp.where(tesa["w"].mask, want["w"], 0)
    tolerance = 1e-12 if dtype == F64 else 4 * HALF_UNIT[dtype]
    assert got["w"].dtype == dtype
    assert not np.asarray(got["w"], np.float32)[~tesa["w"].mask].any()
    assert error(got["w"], live) <= max(tolerance, 1.1 * error(jnp.where(tesa["w"].mask, dense["w"], 0), live))
    assert error(got["b"], want["b"]) <= max(tolerance, 2 * error(dense["b"], want["b"]))
    assert error(gx, dx) <= 4 * tolerance
    packed = fast.pack(params, x)
    assert error(jax.jit(fast)(packed, x), apply(exact, x.astype(jnp.float64))) <= tolerance


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_error_is_not_above_that_of_the_dense_product(dtype):
    x, w = jnp.asarray(drawn((40, 256), 1, dtype)), drawn((256, 128), 2, dtype)
    tesa = block_tesa((256, 128), (32, 32), 0.3)
    w = jnp.asarray(np.where(tesa.mask, w, dtype.type(0)))
    apply = lambda w, x: jax.nn.silu(x @ w)
    want = apply(w.astype(jnp.float64), x.astype(jnp.float64))
    error = lambda y: float(jnp.linalg.norm(y.astype(jnp.float64) - want))
    assert error(sj.sparsify(apply, tesa, implementation="native")(w, x)) <= 1.01 * error(jax.jit(apply)(w, x))


def test_mixed_dtypes_mean_what_the_program_says():
    tesa = block_tesa((64, 96), (16, 16), 0.3)
    w, x = jnp.asarray(drawn((64, 96), 1, BF16)), jnp.asarray(drawn((24, 64), 2, F32))
    programs = {
        "promoted": (lambda w, x: x @ w.astype(F32), F32),
        "half operands, float32 result": (lambda w, x: jnp.dot(x.astype(BF16), w, preferred_element_type=jnp.float32), F32),
        "half operands and result": (lambda w, x: x.astype(BF16) @ w, BF16),
    }
    for name, (apply, dtype) in programs.items():
        fast = sj.sparsify(apply, tesa, implementation="native")
        y = fast(w, x)
        exact = x.astype(jnp.float64) if name == "promoted" else x.astype(BF16).astype(jnp.float64)
        want = np.asarray(exact @ jnp.where(tesa.mask, w, 0).astype(jnp.float64))
        assert y.dtype == dtype, name
        assert worst(y, want, dtype) <= 1, name
        assert worst(fast(fast.pack(w, x), x), want, dtype) <= 1, name


def test_dtypes_that_do_not_go_together_are_refused():
    x, blocks = jnp.ones((3, 16)), jnp.ones((1, 16, 16), jnp.float64)
    one = np.array([0, 1], np.int32), np.array([0], np.int32)
    for bad in (
        lambda: native.spmm(x.astype(jnp.float32), blocks, *one, 16),
        lambda: native.spmm(x.astype(jnp.int32), blocks.astype(jnp.float32), *one, 16, dtype=F32),
        lambda: native.sddmm(x, x.astype(jnp.float32), *one, (16, 16)),
        lambda: native.pack(jnp.ones((16, 16), jnp.int32), *one, (16, 16)),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match="float"):
            bad().block_until_ready()
