"""Mosaic SDDMM: every config lowers for CUDA without a GPU, and the interpreter agrees with the dense product."""

import dataclasses

import jax
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax.formats.bsr import BSR, Pattern
from sparta_jax.kernels.mosaic.tiling import Tiling
from sparta_jax.kernels.mosaic_bsr_sddmm import MosaicBsrSDDMM
from sparta_jax.problem import DENSE, SDDMM, Device, Layout
from sparta_jax.tesa import TeSA

KERNEL = MosaicBsrSDDMM()
BF16, F16, F32 = np.dtype(jnp.bfloat16), np.dtype(np.float16), np.dtype(np.float32)
FEW, UNKNOWN = Device("cuda", "NVIDIA H200", 3), Device("cuda")


def packed(*block: int) -> Layout:
    return Layout("bsr", block)


def mask(shape, cell, density) -> TeSA:
    grid = tuple(-(-n // c) for n, c in zip(shape, cell, strict=True))
    return TeSA.blocks(np.random.default_rng(2).random(grid) < density, cell, shape)


def problem(m, pattern, layout=DENSE, dtype=BF16, out=F32, device=FEW) -> SDDMM:
    return SDDMM(m, pattern, layout, dtype, dtype, out, device)


def operands(p: SDDMM):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.standard_normal((p.m, n)), p.x_dtype) for n in (p.k, p.n))


def stored(p: SDDMM, dense) -> np.ndarray:
    """What the layout keeps of `dense [K, N]`."""
    if p.layout.block is None:
        return np.where(p.pattern.mask, dense, 0)
    return np.asarray(BSR.pack(jnp.asarray(dense), p.pattern, p.layout.block).blocks)


# -- lowering


@pytest.mark.parametrize("dtype", [BF16, F16, F32], ids=str)
@pytest.mark.parametrize("layout", [DENSE, packed(32, 32), packed(64, 64)], ids=str)
def test_every_config_lowers_for_cuda(layout, dtype):
    p = problem(512, mask((512, 512), (32, 32), 0.2), layout, dtype, dtype, UNKNOWN)
    assert KERNEL.why_not(p) is None
    structs = [jax.ShapeDtypeStruct((p.m, n), p.x_dtype) for n in (p.k, p.n)]
    for config in KERNEL.configs(p) if dtype != F32 else KERNEL.configs(p)[-1:]:
        traced = jax.jit(lambda x, g, config=config: KERNEL.run(p, config, x, g)).trace(*structs)
        assert "mosaic_gpu" in traced.lower(lowering_platforms=("cuda",)).as_text(), config


# -- values


SQUARES, RAGGED = mask((256, 256), (64, 64), 0.4), mask((90, 200), (32, 32), 0.3)
CASES = {
    "density .4": (problem(256, SQUARES, packed(64, 64)), Tiling(64, 64, 64, 3)),
    "density .4 dense": (problem(192, SQUARES), Tiling(128, 64, 64, 2)),
    "everything live": (problem(128, TeSA.dense((128, 256)), dtype=F16, out=F16), Tiling(128, 128, 64, 2)),
    "split": (problem(300, SQUARES, packed(64, 64), out=BF16), Tiling(128, 64, 64, 3, splits=2)),
    "float32": (problem(192, SQUARES, packed(64, 64), F32), Tiling(128, 64, 32, 2, splits=2)),
    "ragged": (problem(70, RAGGED), Tiling(64, 128, 64, 3)),
    "ragged packed": (problem(70, RAGGED, packed(32, 64)), Tiling(64, 64, 64, 3, splits=2)),
    "finer mask than blocks": (problem(64, mask((128, 128), (1, 16), 0.1)), Tiling(64, 64, 64, 2)),
}
RACES = ("density .4", "split")
TOLERANCE = {F32: 1e-6, F16: 1e-3, BF16: 8e-3}


@pytest.mark.skipif(not hasattr(plgpu, "force_gpu_interpret_mode"), reason="this JAX has no public Mosaic GPU interpreter")
@pytest.mark.parametrize("name", CASES)
def test_the_interpreter_agrees_with_the_dense_product(name):
    p, config = CASES[name]
    x, g = operands(p)
    with plgpu.force_gpu_interpret_mode(plgpu.InterpretGPUParams(detect_races=name in RACES)):
        got = jax.jit(lambda *a: KERNEL.run(p, config, *a))(x, g)
    expected = stored(p, np.asarray(x, np.float32).T @ np.asarray(g, np.float32))
    assert (got.shape, got.dtype) == (expected.shape, p.out_dtype)
    assert np.linalg.norm(np.asarray(got, np.float32) - expected) <= TOLERANCE[p.out_dtype] * np.linalg.norm(expected)
    np.testing.assert_array_equal(np.asarray(got)[expected == 0], 0)


@pytest.mark.parametrize("layout", [DENSE, packed(64, 32)], ids=str)
@pytest.mark.parametrize(("m", "density"), [(0, 1.0), (5, 0.0)])
def test_without_work_the_answer_is_zero(m, density, layout):
    """No kernel is needed, so this runs on any platform and version."""
    p = problem(m, mask((128, 96), (64, 32), density), layout)
    config = KERNEL.configs(p)[0]
    got = KERNEL.run(p, config, *operands(p))
    np.testing.assert_array_equal(got, stored(p, np.zeros(p.pattern.shape, np.float32)))
    assert KERNEL.cost(p, config).flops == 0


# -- limits and cost


REFUSED = {
    "needs an NVIDIA GPU": {"device": Device("tpu")},
    "Hopper": {"device": Device("cuda", "NVIDIA A100-SXM4-40GB", 108)},
    "TF32": {"x_dtype": F32, "g_dtype": F32, "precision": "highest"},
    "one dtype": {"g_dtype": F16},
    "has no tile": {"layout": packed(256, 256)},
}


@pytest.mark.parametrize("phrase", REFUSED)
def test_it_says_why_not(phrase):
    assert KERNEL.why_not(problem(256, SQUARES)) is None
    assert phrase in KERNEL.why_not(dataclasses.replace(problem(256, SQUARES), **REFUSED[phrase]))


def test_rows_are_split_where_live_blocks_are_few():
    few, many = mask((4096, 4096), (128, 128), 0.02), mask((4096, 4096), (128, 128), 0.5)
    splits = [{c.rows * c.cols: c.splits for c in KERNEL.configs(problem(4096, m, device=UNKNOWN))} for m in (few, many)]
    assert splits[0][128 * 128] * Pattern.of(few, (128, 128)).nnzb >= 132
    assert splits[1][128 * 128] == 1


def test_fewer_live_blocks_never_cost_more():
    def seconds(p):
        costs = [KERNEL.cost(p, config) for config in KERNEL.configs(p)]
        return min(max(c.flops / c.efficiency / 1e15, c.bytes / 4e12) + c.seconds for c in costs)

    masks = [mask((4096, 4096), (128, 128), density) for density in (0.0, 0.1, 0.3, 1.0)]
    times = [seconds(problem(4096, m, packed(128, 128), out=BF16, device=UNKNOWN)) for m in masks]
    assert times == sorted(times)
    assert times[-1] > 4 * times[1]
