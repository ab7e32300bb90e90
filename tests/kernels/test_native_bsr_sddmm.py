import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import together

from sparta_jax.formats.bsr import Pattern
from sparta_jax.kernels import native
from sparta_jax.kernels.native_bsr_sddmm import NativeBsrSDDMM
from sparta_jax.problem import DENSE, SDDMM, Layout
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import CPU, ISAS, block_tesa, blocks_of, distance, need_native, normal

pytestmark = need_native()

KERNEL = NativeBsrSDDMM()
F32 = np.dtype(np.float32)

# m, k, n, block, density
CASES = [
    (1, 64, 96, (32, 32), 0.5),
    (7, 70, 83, (32, 32), 0.5),
    (40, 128, 130, (64, 64), 0.5),
    (300, 64, 48, (16, 16), 0.4),
    (600, 40, 40, (16, 16), 0.4),
    (20, 24, 60, (5, 48), 0.5),
    (33, 30, 37, (4, 4), 0.4),
    (300, 33, 41, (8, 8), 0.5),
    (600, 17, 23, (4, 4), 0.3),
    (17, 64, 30, (16, 1), 0.2),
    (17, 20, 70, (1, 16), 0.3),
    (6, 25, 26, (5, 7), 0.4),
    (3, 12, 11, (1, 1), 0.4),
    (8, 64, 64, (32, 32), 0.0),
    (8, 64, 64, (32, 32), 1.0),
    (20, 40, 40, (4, 4), 1.0),
    (0, 64, 64, (32, 32), 0.5),
    (0, 24, 24, (4, 4), 0.5),
]


def problem_of(m, tesa, layout):
    return SDDMM(m, tesa, layout, F32, F32, F32, CPU)


def run(problem, x, g):
    assert KERNEL.why_not(problem) is None
    return [KERNEL.run(problem, config, jnp.asarray(x), jnp.asarray(g)) for config in KERNEL.configs(problem)]


@pytest.mark.parametrize("isa", ISAS)
def test_equals_the_dense_product_at_live_blocks(isa, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    calls, operands, wanted, wrong = {}, [], [], {}
    for case in CASES:
        m, k, n, block, density = case
        tesa, x, g = block_tesa((k, n), block, density), normal((m, k), 1), normal((m, n), 2)
        calls[str(case)] = functools.partial(run, problem_of(m, tesa, Layout("bsr", block)))
        operands.append((x, g))
        wanted.append(blocks_of(x.astype(np.float64).T @ g, tesa, block))
    for case, (blocks,), want in zip(CASES, together(calls)(operands), wanted, strict=True):
        assert blocks.shape == want.shape
        if not distance(blocks, want) < 1e-6:
            wrong[case] = distance(blocks, want)
    assert not wrong


def test_dense_layout_is_zero_outside_live_elements():
    mask = np.random.default_rng(3).random((45, 70)) < 0.05
    x, g = normal((19, 45), 1), normal((19, 70), 2)
    for tesa in (TeSA(mask), TeSA(np.zeros_like(mask)), TeSA(np.ones_like(mask)), block_tesa((45, 70), (16, 16), 0.3)):
        results = jax.jit(functools.partial(run, problem_of(19, tesa, DENSE)))(x, g)
        assert results
        for dw in results:
            assert not np.asarray(dw)[~tesa.mask].any()
            assert distance(dw, np.where(tesa.mask, x.astype(np.float64).T @ g, 0)) < 1e-6


@pytest.mark.parametrize("block", [(16, 16), (4, 4)])
def test_overhang_is_zero_even_where_g_is_infinite(block):
    tesa, x, g = TeSA.dense((21, 19)), normal((5, 21), 1), np.full((5, 19), np.inf, np.float32)
    (blocks,) = run(problem_of(5, tesa, Layout("bsr", block)), x, g)
    ones = blocks_of(np.ones((21, 19)), tesa, block)
    assert not np.asarray(blocks)[ones == 0].any()


def test_corrupt_tables_are_refused():
    pattern = Pattern.of(block_tesa((64, 64), (16, 16), 0.5), (16, 16))
    x, g = normal((5, 64), 1), normal((5, 64), 2)
    for indptr, indices in (
        (pattern.indptr, pattern.indices + 100),
        (pattern.indptr, pattern.indices - 100),
        (pattern.indptr[:-1], pattern.indices),
        (pattern.indptr + 1, pattern.indices),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match="BSR"):
            native.sddmm(x, g, indptr, indices, (16, 16)).block_until_ready()


def test_cost_counts_executed_work():
    for layout in (DENSE, Layout("bsr", (32, 32))):
        for tesa in (block_tesa((128, 128), (32, 32), 0.5), TeSA.dead((128, 128)), TeSA.dense((128, 128))):
            problem = problem_of(64, tesa, layout)
            for config in KERNEL.configs(problem):
                cost = KERNEL.cost(problem, config)
                assert cost.flops >= 2 * 64 * tesa.nnz
                assert 0 <= cost.efficiency <= 1
