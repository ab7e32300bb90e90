import dataclasses
import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import together

from sparta_jax.formats.bsr import BSR, Pattern
from sparta_jax.kernels import native
from sparta_jax.kernels.native_bsr_spmm import Block, NativeBsrSpMM
from sparta_jax.problem import DENSE, Epilogue, Layout, SpMM
from sparta_jax.products import ACTIVATIONS
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import CPU, ISAS, block_tesa, blocks_of, distance, exact_epilogue, need_native, normal

pytestmark = need_native()

KERNEL = NativeBsrSpMM()
F32 = np.dtype(np.float32)
NOTHING = Epilogue()

# m, k, n, block, density
CASES = [
    (1, 64, 96, (32, 32), 0.3),
    (1, 70, 83, (32, 32), 0.5),
    (1, 30, 37, (4, 4), 0.4),
    (1, 33, 21, (8, 3), 0.5),
    (1, 64, 64, (64, 64), 1.0),
    (1, 41, 39, (8, 4), 0.4),
    (1, 46, 38, (12, 4), 0.4),
    (1, 44, 30, (4, 8), 0.5),
    (1, 50, 43, (8, 8), 0.4),
    (1, 35, 37, (1, 8), 0.3),
    (1, 36, 34, (1, 4), 0.3),
    (1, 70, 31, (16, 1), 0.3),
    (1, 45, 31, (8, 1), 0.3),
    (1, 40, 24, (2, 4), 0.5),
    (1, 24, 603, (4, 4), 0.3),
    (1, 24, 700, (8, 48), 0.4),
    (1, 20, 300, (4, 4), 0.0),
    (1, 20, 300, (4, 4), 1.0),
    (2, 128, 64, (64, 64), 0.5),
    (5, 96, 96, (32, 32), 0.4),
    (7, 100, 75, (16, 16), 0.4),
    (33, 128, 96, (32, 32), 0.3),
    (33, 130, 200, (64, 64), 0.4),
    (130, 64, 48, (16, 16), 0.2),
    (16, 48, 80, (16, 48), 0.5),
    (16, 64, 40, (8, 8), 0.3),
    (50, 41, 39, (8, 8), 0.3),
    (70, 36, 44, (4, 4), 0.3),
    (9, 31, 29, (4, 4), 0.5),
    (17, 64, 30, (16, 1), 0.2),
    (17, 30, 24, (8, 1), 0.3),
    (17, 20, 64, (1, 16), 0.2),
    (17, 20, 70, (1, 32), 0.2),
    (6, 25, 26, (5, 7), 0.4),
    (3, 12, 11, (1, 1), 0.4),
    (40, 24, 60, (8, 20), 0.4),
    (8, 64, 64, (32, 32), 0.0),
    (1, 64, 64, (32, 32), 0.0),
    (20, 40, 40, (4, 4), 0.0),
    (20, 40, 40, (4, 4), 1.0),
    (20, 64, 64, (32, 32), 1.0),
    (0, 64, 64, (32, 32), 0.5),
    (0, 24, 24, (4, 4), 0.5),
    (3, 0, 32, (16, 16), 0.5),
    (3, 32, 0, (16, 16), 0.5),
]


def problem_of(m, tesa, layout, transposed=False, epilogue=NOTHING):
    return SpMM(m, tesa, layout, F32, F32, F32, CPU, transposed, None, epilogue)


def arrays(m, k, n, block, density, transposed=False):
    tesa = block_tesa((k, n), block, density)
    return tesa, normal((m, n if transposed else k), 1), np.where(tesa.mask, normal((k, n), 2), np.float32(0))


def packed(w, tesa, block):
    """As `BSR.pack`, by NumPy: nothing but the kernel is compiled."""
    pattern = Pattern.of(tesa, block)
    return BSR(blocks_of(w, tesa, block), pattern.indptr, pattern.indices, tesa.shape)


def run(problem, x, weight, *extras, configs=()):
    """The kernel on a weight in the problem's layout."""
    assert KERNEL.why_not(problem) is None
    return [KERNEL.run(problem, config, x, weight, *extras) for config in configs or KERNEL.configs(problem)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("transposed", [False, True])
def test_equals_the_masked_dense_product(isa, transposed, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    assert native.isa() == isa
    calls, operands, wanted, wrong = {}, [], [], {}
    for case in CASES:
        m, k, n, block, density = case
        tesa, x, w = arrays(*case, transposed)
        configs = (Block(*block), Block(*block, True))[: 1 + (transposed and isa == ISAS[-1])]
        problem = problem_of(m, tesa, Layout("bsr", block), transposed)
        calls[str(case)] = functools.partial(run, problem, configs=configs)
        operands.append((x, packed(w, tesa, block)))
        wanted.append(x.astype(np.float64) @ (w.T if transposed else w))
    for case, want, results in zip(CASES, wanted, together(calls)(operands), strict=True):
        for y in results:
            assert y.shape == want.shape
            assert y.dtype == F32
            if not distance(y, want) < 1e-6:
                wrong[case] = distance(y, want)
    assert not wrong


@pytest.mark.parametrize("transposed", [False, True])
def test_a_dense_weight_is_packed_into_every_offered_block(transposed):
    mask = np.random.default_rng(3).random((45, 70)) < 0.05
    for tesa in (TeSA(mask), TeSA(np.zeros_like(mask)), TeSA(np.ones_like(mask)), block_tesa((45, 70), (16, 16), 0.3)):
        w = np.where(tesa.mask, normal((45, 70), 2), np.float32(0))
        x = normal((19, 70 if transposed else 45), 1)
        ys = jax.jit(functools.partial(run, problem_of(19, tesa, DENSE, transposed)))(x, w)
        assert ys
        for y in ys:
            assert distance(y, x.astype(np.float64) @ (w.T if transposed else w)) < 1e-6


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_epilogue_equals_the_operations_it_stands_for(isa, activation, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    calls, operands, wanted = {}, [], []
    for block, m in (((32, 32), 19), ((4, 4), 19), ((32, 32), 1)):
        tesa, x, w = arrays(m, 64, 75, block, 0.3)  # the last block column hangs over; at this seed some column has no block
        for bias, residual in ((False, True), (True, False)) if activation is None else ((True, True),):
            epilogue = Epilogue(bias, activation, residual)
            extras = [normal((75,), 4)] * bias + [normal((m, 75), 5)] * residual
            calls[f"{m} rows, {block}, {epilogue}"] = functools.partial(
                run, problem_of(m, tesa, Layout("bsr", block), epilogue=epilogue)
            )
            operands.append((x, packed(w, tesa, block), *extras))
            wanted.append(exact_epilogue(epilogue, x.astype(np.float64) @ w, *extras))
    for case, want, (y,) in zip(calls, wanted, together(calls)(operands), strict=True):
        assert distance(y, want) < 1e-6, case


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_is_right_at_every_scale(activation):
    """The product is zero, so the bias alone goes through the activation."""
    sizes = np.concatenate([np.geomspace(1e-6, 60, 2000), [0.0, 0.625, 3.0]])
    values = np.concatenate([sizes, -sizes]).astype(np.float32)
    dead = TeSA.dead((16, len(values)))
    problem = problem_of(2, dead, Layout("bsr", (16, 16)), epilogue=Epilogue(True, activation))
    weight = packed(np.zeros(dead.shape, np.float32), dead, (16, 16))
    finish = jax.jit(functools.partial(run, problem, np.ones((2, 16), np.float32), weight))
    plain = jax.jit(ACTIVATIONS[activation])
    (y,) = finish(values)
    with jax.enable_x64(True):
        want = np.asarray(plain(values.astype(np.float64)))
    worst = np.abs(np.asarray(y) - want) / np.maximum(np.abs(want), 1e-3 * np.abs(values) + 1e-30)
    assert worst.max() < 2e-6
    for special in (np.nan, np.inf):
        (y,) = finish(np.full_like(values, special))
        np.testing.assert_array_equal(np.asarray(y)[0, :1], np.asarray(plain(np.float32([special]))))


def test_block_columns_without_blocks_still_get_the_epilogue():
    for m in (1, 5):
        tesa = TeSA.dead((32, 40))
        bias, residual = normal((40,), 1), normal((m, 40), 2)
        problem = problem_of(m, tesa, Layout("bsr", (32, 32)), epilogue=Epilogue(True, "relu", True))
        weight = packed(np.zeros((32, 40), np.float32), tesa, (32, 32))
        (y,) = jax.jit(functools.partial(run, problem))(normal((m, 32), 3), weight, bias, residual)
        np.testing.assert_allclose(y, np.maximum(bias, 0) + residual, rtol=1e-6)


def test_a_dead_element_of_x_meets_no_infinity():
    """Dead blocks are not multiplied: NaN in x there leaves the result alone."""
    tesa, x, w = arrays(5, 64, 64, (32, 32), 1.0)
    tesa = TeSA.blocks(np.array([[True, True], [False, False]]), (32, 32), (64, 64))
    x[:, 32:] = np.nan
    (y,) = run(problem_of(5, tesa, Layout("bsr", (32, 32))), x, packed(w, tesa, (32, 32)))
    assert distance(y, x[:, :32].astype(np.float64) @ w[:32]) < 1e-6


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("index beyond", lambda t: dataclasses.replace(t, indices=t.indices + 100)),
        ("index negative", lambda t: dataclasses.replace(t, indices=t.indices - 100)),
        (
            "indptr decreasing",
            lambda t: dataclasses.replace(t, indptr=np.append(t.indptr[-2::-1], t.indptr[-1]).astype(np.int32)),
        ),
        ("indptr too short", lambda t: dataclasses.replace(t, indptr=t.indptr[:-1])),
        ("indptr beyond", lambda t: dataclasses.replace(t, indptr=np.append(t.indptr[:-1], t.indptr[-1] + 7).astype(np.int32))),
        ("indices too few", lambda t: dataclasses.replace(t, indices=t.indices[:-1])),
    ],
)
@pytest.mark.parametrize("m", [1, 5])
def test_corrupt_tables_are_refused(name, spoil, m):
    tesa, x, w = arrays(m, 64, 96, (16, 16), 0.5)
    bsr, good = BSR.pack(jnp.asarray(w), tesa, (16, 16)), Pattern.of(tesa, (16, 16))
    bad = spoil(good)
    with pytest.raises(jax.errors.JaxRuntimeError, match="BSR"):
        native.spmm(x, bsr.blocks, bad.indptr, bad.indices, 96).block_until_ready()
    turned, order = good.transposed(4)
    with pytest.raises(jax.errors.JaxRuntimeError, match="BSR"):
        native.spmm(normal((m, 96), 1), bsr.blocks, turned.indptr, turned.indices, 64, order=order + 100).block_until_ready()


def test_under_jit_with_packed_weight_as_argument():
    tesa, x, w = arrays(33, 128, 96, (32, 32), 0.3)
    problem = problem_of(33, tesa, Layout("bsr", (32, 32)))
    (config,) = KERNEL.configs(problem)
    f = jax.jit(lambda x, b: KERNEL.run(problem, config, x, b) * 2)
    assert distance(f(x, BSR.pack(jnp.asarray(w), tesa, (32, 32))), 2 * x.astype(np.float64) @ w) < 1e-6


def test_many_calls_at_once_agree_and_end():
    """Every thread of XLA's pool is taken, so nobody may wait for a task that has not started."""
    tesa, x, w = arrays(64, 256, 256, (32, 32), 0.5)
    bsr = BSR.pack(jnp.asarray(w), tesa, (32, 32))
    f = jax.jit(lambda x: sum(native.spmm(x * i, bsr.blocks, bsr.indptr, bsr.indices, 256).sum() for i in range(5)))
    want, got = float(f(x)), []
    threads = [threading.Thread(target=lambda: got.extend(float(f(x)) for _ in range(10)), daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(got) == 160
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_limits_are_phrases():
    tesa = block_tesa((64, 64), (32, 32), 0.5)
    good = problem_of(8, tesa, Layout("bsr", (32, 32)))
    assert KERNEL.why_not(good) is None
    assert "CPU" in KERNEL.why_not(dataclasses.replace(good, device=dataclasses.replace(CPU, platform="cuda")))
    assert "float32" in KERNEL.why_not(dataclasses.replace(good, x_dtype=np.dtype(np.int8)))
    assert "float64 alone" in KERNEL.why_not(dataclasses.replace(good, x_dtype=np.dtype(np.float64)))
    assert "softplus" in KERNEL.why_not(dataclasses.replace(good, epilogue=Epilogue(activation="softplus")))


def test_cost_counts_executed_work():
    half = block_tesa((128, 128), (32, 32), 0.5)
    for layout in (DENSE, Layout("bsr", (32, 32))):
        for tesa in (half, TeSA.dead((128, 128)), TeSA.dense((128, 128))):
            problem = problem_of(64, tesa, layout)
            for config in KERNEL.configs(problem):
                cost = KERNEL.cost(problem, config)
                assert cost.flops >= 2 * 64 * tesa.nnz
                assert cost.seconds > 0
                assert 0 <= cost.efficiency <= 1
    packed = KERNEL.cost(problem_of(64, half, layout), config)
    assert KERNEL.cost(problem_of(64, half, DENSE), config).seconds > packed.seconds
