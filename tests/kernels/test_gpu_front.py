"""What the GPU kernels of both backends promise alike: a cost on every call, a reason on every JAX, blocks as large as pays."""

import importlib.util

import jax
import numpy as np
import pytest
from kernels.gpu_cases import BF16, mask, on, packed, structs

from sparta_jax.kernels import kernels
from sparta_jax.kernels.gpu import backend
from sparta_jax.kernels.mosaic import compat
from sparta_jax.problem import DENSE, SDDMM, Device

H200 = Device("cuda", "NVIDIA H200", 132)
GPU = {name: kernel for table in kernels.values() for name, kernel in table.items() if "triton" in name or "mosaic" in name}
SQUARES = mask((256, 256), (64, 64), 0.4)


def problem(kernel, m, pattern, layout=DENSE):
    return kernel.problem(m, pattern, layout, BF16, BF16, BF16, H200)


@pytest.mark.parametrize("name", GPU)
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
def test_every_call_says_what_it_costs(name):
    kernel = GPU[name]
    p = problem(kernel, 256, SQUARES)
    config = next(c for c in kernel.configs(p) if (c.cols, c.rows if kernel.problem is SDDMM else c.depth) == (64, 64))
    with on(H200.kind):
        text = str(jax.make_jaxpr(lambda *a: kernel.run(p, config, *a))(*structs(p)))
    if "mosaic" in name and not compat._KERNEL_TAKES_COST:
        pytest.skip("Mosaic takes a cost since jax 0.12")
    assert f"flops={2 * 256 * SQUARES.nnzb((64, 64)) * 64 * 64}" in text.replace(" ", "")


@pytest.mark.parametrize("name", GPU)
def test_a_jax_without_the_backend_is_named(name, monkeypatch):
    p = problem(GPU[name], 256, SQUARES)
    assert GPU[name].why_not(p) is None
    backend.why_missing.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    try:
        assert f"jax {jax.__version__} has not" in GPU[name].why_not(p)
    finally:
        backend.why_missing.cache_clear()


@pytest.mark.parametrize("m", [1, 7, 8, 9, 16, 31, 33, 64])
@pytest.mark.parametrize("layout", [DENSE, packed(64, 128)], ids=str)
def test_few_rows_have_tiles_that_hold_little_more(m, layout):
    kernel = GPU["mosaic_bsr_spmm"]
    rows = [c.rows for c in kernel.configs(problem(kernel, m, SQUARES, layout)) if c.swapped]
    assert m <= min(rows) < max(2 * m, 9)


def best(kernel, p):
    """The config of the least modelled time on a device with 1e15 FLOP/s and 4e12 B/s."""
    costs = {c: kernel.cost(p, c) for c in kernel.configs(p)}
    return min(costs, key=lambda c: max(costs[c].flops / costs[c].efficiency / 1e15, costs[c].bytes / 4e12))


def test_small_blocks_are_merged_where_that_pays():
    """Blocks of 32 that stand together are read as larger ones; those that stand alone are not."""
    kernel, size, n = GPU["mosaic_bsr_spmm"], (2048, 2048), 2048 // 32
    together = mask(size, (128, 128), 0.1) & mask(size, (32, 32), 0.9)
    alone = mask(size, (32, 32), lambda grid: np.add.outer(np.arange(n), 8 * np.arange(n)) % 37 == 0)
    merged, single = (best(kernel, problem(kernel, 2048, pattern)) for pattern in (together, alone))
    assert merged.depth * merged.cols > 4 * 32 * 32
    assert single.depth * single.cols < merged.depth * merged.cols
