"""Laws of the model on CPUs: more rows or more live elements never take less, at any instruction set."""

import itertools

import numpy as np
import pytest

from sparta_jax.kernels import kernels, native
from sparta_jax.problem import CSR_LAYOUT, DENSE, SDDMM, Device, Epilogue, Layout, SpMM
from sparta_jax.specialize import Chooser, roofline
from sparta_jax.specialize.choose import forget
from sparta_jax.tesa import TeSA

F32 = np.dtype(np.float32)
ROWS = (0, 1, 2, 3, 8, 17, 64, 100, 256, 257, 2048)
LAYOUTS = (DENSE, Layout("bsr", (32, 32)), Layout("bsr", (4, 4)), Layout("bsr", (16, 1)), Layout("bsr", (24, 40)), CSR_LAYOUT)


@pytest.fixture(params=["avx512", "avx2", "baseline"], autouse=True)
def isa(request, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", request.param)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    forget()
    yield request.param
    forget()


def nested(rng) -> list[TeSA]:
    """Patterns, each within the next, from empty to full."""
    order = rng.permutation(16 * 12).reshape(16, 12)
    return [TeSA.blocks(order < count, (16, 16), (250, 190)) for count in (0, 1, 20, 100, 192)]


def best(kernel, problem) -> float:
    device = roofline(problem.device)
    return min(device.seconds(kernel.cost(problem, config)) for config in kernel.configs(problem))


def costs(problem_of, kernel):
    """Modelled seconds of `problem_of(m, pattern)` over rows and patterns, `[rows, patterns]`."""
    patterns = nested(np.random.default_rng(0))
    return np.array([[best(kernel, problem_of(m, tesa)) for tesa in patterns] for m in ROWS])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_more_work_never_takes_less(layout):
    device = Device("cpu", cores=2)
    makers = {
        SpMM: [
            lambda m, tesa, t=t, e=e: SpMM(m, tesa, layout, F32, F32, F32, device, transposed=t, epilogue=e)
            for t, e in ((False, Epilogue()), (False, Epilogue(True, "gelu_erf")), (True, Epilogue()))
        ],
        SDDMM: [lambda m, tesa: SDDMM(m, tesa, layout, F32, F32, F32, device)],
    }
    for problem, makers_of in makers.items():
        for kernel, make in itertools.product(kernels[problem].values(), makers_of):
            if kernel.implementation == "xla" or kernel.why_not(
                make(1, TeSA.blocks(np.ones((1, 1), bool), (250, 190), (250, 190)))
            ):
                continue
            seconds = costs(make, kernel)
            assert np.all(np.isfinite(seconds)), kernel.name
            assert np.all(seconds >= 0), kernel.name
            assert np.all(np.diff(seconds, axis=0) >= -1e-12), kernel.name
            if layout != DENSE or kernel.implementation == "dense":
                assert np.all(np.diff(seconds, axis=1) >= -1e-12), kernel.name


@pytest.mark.parametrize("m", ROWS)
def test_a_full_weight_is_multiplied_dense_and_stays_so(m):
    full = nested(np.random.default_rng(0))[-1]
    problem = SpMM(m, full, DENSE, F32, F32, F32, Device("cpu", cores=1))
    assert Chooser().plan(problem).kernel.name == "dense_spmm"
    assert Chooser().layout([problem]) == DENSE


def test_more_threads_never_take_longer():
    tesa = nested(np.random.default_rng(0))[2]
    problems = [SpMM(64, tesa, Layout("bsr", (16, 16)), F32, F32, F32, Device("cpu", cores=c)) for c in (1, 2, 8)]
    seconds = [Chooser("native").plan(p).seconds for p in problems]
    assert seconds == sorted(seconds, reverse=True)
