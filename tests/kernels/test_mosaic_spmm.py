"""Mosaic SpMM: every config lowers for CUDA without a GPU, and the interpreter agrees with the dense product."""

import dataclasses
import itertools

import jax
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.gpu_cases import BF16, F16, F32, agrees, mask, one, operands, packed, reference, structs

from sparta_jax.kernels.gpu import epilogue
from sparta_jax.kernels.mosaic.tiling import SHARED_MEMORY, Tiling
from sparta_jax.kernels.mosaic_bsr_spmm import SIDES, MosaicBsrSpMM
from sparta_jax.problem import DENSE, Device, Epilogue, SpMM
from sparta_jax.products import ACTIVATIONS, apply_epilogue
from sparta_jax.tesa import TeSA

KERNEL = MosaicBsrSpMM()
FEW, UNKNOWN = Device("cuda", "NVIDIA H200", 3), Device("cuda")
ALL = Epilogue(bias=True, activation="gelu_erf", residual=True, scale=True)


def problem(m, pattern, layout=DENSE, dtype=BF16, out=F32, device=FEW, **facts) -> SpMM:
    return SpMM(m, pattern, layout, dtype, dtype, out, device, **facts)


def cuda_text(p: SpMM, config: Tiling) -> str:
    traced = jax.jit(lambda *a: KERNEL.run(p, config, *a)).trace(*structs(p))
    return traced.lower(lowering_platforms=("cuda",)).as_text()


# -- lowering


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("dtype", [BF16, F16, F32], ids=str)
@pytest.mark.parametrize("layout", [DENSE, packed(32, 32), packed(64, 128), packed(256, 256)], ids=str)
def test_every_config_lowers_for_cuda(layout, dtype, transposed):
    pattern = mask((512, 512), (32, 32), 0.2)
    for m in (1, 512):
        p = problem(m, pattern, layout, dtype, dtype, UNKNOWN, transposed=transposed)
        assert KERNEL.why_not(p) is None
        # Machine code is made of all of them elsewhere (`tests/aot`).
        configs = KERNEL.configs(p)
        some = configs[-1:] if dtype == F32 else [configs[0], configs[-1]]
        for config in configs if (layout, dtype, transposed) == (DENSE, BF16, False) else some:
            assert "mosaic_gpu" in cuda_text(p, config), config


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_lowers_for_cuda(activation):
    p = problem(100, mask((200, 300), (32, 32), 0.4), epilogue=Epilogue(True, activation, True))
    assert "mosaic_gpu" in cuda_text(p, KERNEL.configs(p)[-1])


@pytest.mark.parametrize("out", [F16, F32], ids=str)
def test_mosaic_counts_the_same_shared_memory(out):
    p = problem(512, mask((512, 512), (64, 64), 0.4), dtype=F16, out=out)
    config = Tiling(256, 128, 64, 6)
    needed = config.shared_bytes(2, out.itemsize)
    assert needed > SHARED_MEMORY
    with pytest.raises(ValueError, match=f"smem_bytes={needed} > max_smem_bytes={SHARED_MEMORY}"):
        cuda_text(p, config)


def test_lists_are_operands_of_the_kernel():
    """Two masks with equally many live blocks in every column have the same program, up to the constants it is given."""
    masks = [mask((256, 256), (64, 64), lambda grid, step=step: np.eye(*grid, dtype=bool)[::step]) for step in (1, -1)]
    problems = [problem(128, m) for m in masks]
    programs = [
        jax.make_jaxpr(lambda *a, p=p: KERNEL.run(p, Tiling(128, 64, 64, 3), *a))(*structs(problems[0])) for p in problems
    ]
    assert str(programs[0]) == str(programs[1])
    assert any((a != b).any() for a, b in zip(programs[0].consts, programs[1].consts, strict=True))


# -- values


def cross(grid):
    """A dead row and a dead column in a live grid."""
    live = np.ones(grid, bool)
    live[1] = live[:, 1] = False
    return live


SQUARES, RAGGED = mask((256, 256), (64, 64), 0.4), mask((90, 200), (32, 32), 0.3)
ONE, CROSS = mask((128, 128), (64, 64), one), mask((192, 192), (64, 64), cross)
WIDE, TALL = mask((128, 512), (128, 256), one), mask((512, 128), (256, 128), one)
CASES = {
    "density .4": (problem(128, SQUARES, epilogue=ALL), Tiling(64, 64, 64, 3)),
    "density .4 transposed": (problem(128, SQUARES, transposed=True), Tiling(64, 64, 64, 2)),
    "everything live": (problem(128, TeSA.dense((128, 256)), dtype=F16), Tiling(128, 128, 64, 2)),
    "one live block": (problem(64, ONE, epilogue=ALL), Tiling(64, 64, 64, 4)),
    "empty column": (problem(128, CROSS, out=BF16, epilogue=ALL), Tiling(128, 64, 64, 3)),
    "empty row, transposed, packed": (problem(128, CROSS, packed(64, 64), transposed=True), Tiling(128, 64, 64, 3)),
    "float32": (problem(64, CROSS, dtype=F32, epilogue=ALL), Tiling(64, 64, 32, 2)),
    "float32, swapped, parts of blocks": (problem(5, WIDE, packed(128, 256), F32), Tiling(8, 128, 64, 2, swapped=True)),
    "float32, transposed": (problem(64, SQUARES, packed(64, 64), F32, transposed=True), Tiling(64, 64, 64, 2)),
    "ragged": (problem(70, RAGGED, epilogue=ALL), Tiling(64, 64, 32, 3)),
    "ragged packed": (problem(1, RAGGED, packed(32, 64), epilogue=ALL), Tiling(64, 64, 32, 3)),
    "ragged transposed": (problem(70, RAGGED, transposed=True), Tiling(64, 32, 64, 3)),
    "swapped, few rows": (problem(5, SQUARES, out=BF16, epilogue=ALL), Tiling(8, 128, 64, 3, swapped=True)),
    "swapped, few rows, packed": (problem(16, CROSS, packed(64, 64), F16, epilogue=ALL), Tiling(16, 64, 64, 3, swapped=True)),
    "swapped, many rows": (problem(200, CROSS, out=BF16, epilogue=ALL), Tiling(256, 64, 64, 2, swapped=True)),
    "swapped, transposed": (problem(64, CROSS, packed(64, 64), transposed=True), Tiling(64, 64, 64, 3, swapped=True)),
    "swapped, ragged": (problem(3, RAGGED, epilogue=ALL), Tiling(16, 64, 32, 3, swapped=True)),
    "parts of blocks": (problem(64, WIDE, packed(128, 256)), Tiling(64, 128, 64, 3)),
    "parts of blocks, transposed": (problem(64, TALL, packed(256, 128), F16, F16, transposed=True), Tiling(64, 128, 64, 3)),
}
RACES = ("density .4", "parts of blocks", "swapped, few rows", "swapped, transposed")


@pytest.mark.skipif(not hasattr(plgpu, "force_gpu_interpret_mode"), reason="this JAX has no public Mosaic GPU interpreter")
@pytest.mark.parametrize("name", CASES)
def test_the_interpreter_agrees_with_the_dense_product(name):
    p, config = CASES[name]
    x, w, stored, extras = operands(p)
    with plgpu.force_gpu_interpret_mode(plgpu.InterpretGPUParams(detect_races=name in RACES)):
        got = jax.jit(lambda *a: KERNEL.run(p, config, *a))(x, stored, *extras)
    agrees(p, got, reference(p, x, w, *extras))


@pytest.mark.parametrize("layout", [DENSE, packed(64, 64)], ids=str)
@pytest.mark.parametrize("m", [0, 3])
def test_without_a_live_block_the_epilogue_is_the_answer(m, layout):
    """No kernel is needed, so this runs on any platform and version."""
    p = problem(m, TeSA.dead((128, 64)), layout, out=BF16, epilogue=ALL)
    x, w, stored, extras = operands(p)
    config = KERNEL.configs(p)[0]
    got = KERNEL.run(p, config, x, stored, *extras)
    np.testing.assert_allclose(np.asarray(got, np.float32), reference(p, x, w, *extras), rtol=2e-2, atol=2e-2)
    assert KERNEL.cost(p, config).flops == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_the_products_own(activation):
    v = jnp.linspace(-8, 8, 1001, dtype=jnp.float32)
    expected = apply_epilogue(Epilogue(activation=activation), v)
    np.testing.assert_allclose(epilogue.ACTIVATIONS[activation](v), expected, rtol=0, atol=6e-7)


# -- limits and cost


REFUSED = {
    "needs an NVIDIA GPU": {"device": Device("cpu")},
    "Hopper": {"device": Device("cuda", "NVIDIA A100-SXM4-40GB", 108)},
    "TF32": {"x_dtype": F32, "w_dtype": F32, "precision": "highest"},
    "one dtype": {"w_dtype": F16},
    "int8": {"x_dtype": np.dtype("int8"), "w_dtype": np.dtype("int8")},
    "float64": {"out_dtype": np.dtype("float64")},
    "sides": {"layout": packed(48, 64)},
    "activation": {"epilogue": Epilogue(activation="mish")},
}


@pytest.mark.parametrize("phrase", REFUSED)
def test_it_says_why_not(phrase):
    assert KERNEL.why_not(problem(256, SQUARES)) is None
    assert phrase in KERNEL.why_not(dataclasses.replace(problem(256, SQUARES), **REFUSED[phrase]))


def test_an_unknown_device_is_taken_for_a_hopper_gpu():
    assert KERNEL.why_not(problem(256, SQUARES, device=UNKNOWN)) is None


@pytest.mark.parametrize("block", list(itertools.product(SIDES, SIDES)), ids=str)
def test_every_block_has_a_config(block):
    for transposed, m, out in itertools.product((False, True), (1, 100, 1000), (BF16, F32)):
        p = problem(m, SQUARES, packed(*block), out=out, transposed=transposed)
        assert KERNEL.why_not(p) is None
        assert KERNEL.configs(p)


def seconds(p: SpMM) -> float:
    """The modelled time of the best config on a device with 1e15 FLOP/s and 4e12 B/s."""
    costs = [KERNEL.cost(p, config) for config in KERNEL.configs(p)]
    return min(max(c.flops / c.efficiency / 1e15, c.bytes / 4e12) + c.seconds for c in costs)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layout", [DENSE, packed(128, 128)], ids=str)
def test_fewer_live_blocks_never_cost_more(layout, transposed):
    masks = [mask((4096, 4096), (128, 128), density) for density in (0.0, 0.05, 0.1, 0.3, 1.0)]
    times = [seconds(problem(4096, m, layout, out=BF16, device=UNKNOWN, transposed=transposed)) for m in masks]
    assert times == sorted(times)
    assert times[-1] > 5 * times[1]
