"""Triton kernels: every config lowers for CUDA without a GPU, and the interpreter agrees with the dense product."""

import dataclasses
import functools

import jax
import jax.experimental.pallas as pl
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.gpu_cases import BF16, F16, F32, agrees, cross, mask, on, one, operands, packed, reference, structs

import sparta_jax as sj
from sparta_jax.kernels.triton.tile import Tile
from sparta_jax.kernels.triton_bsr_sddmm import TritonBsrSDDMM
from sparta_jax.kernels.triton_bsr_spmm import TritonBsrSpMM
from sparta_jax.problem import DENSE, SDDMM, Device, Epilogue, SpMM
from sparta_jax.products import ACTIVATIONS
from sparta_jax.tesa import TeSA

KERNELS = {SpMM: TritonBsrSpMM(), SDDMM: TritonBsrSDDMM()}
A100 = Device("cuda", "NVIDIA A100-SXM4-80GB", 108)
FEW = Device("cuda", "NVIDIA A100-SXM4-80GB", 3)
ALL = Epilogue(bias=True, activation="gelu_erf", residual=True, scale=True)

# The warning is ignored where products are lowered; these tests lower kernels by themselves.
pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")


def spmm(m, pattern, layout=DENSE, dtype=BF16, out=F32, device=FEW, **facts) -> SpMM:
    return SpMM(m, pattern, layout, dtype, dtype, out, device, **facts)


def sddmm(m, pattern, layout=DENSE, dtype=BF16, out=F32, device=FEW, **facts) -> SDDMM:
    return SDDMM(m, pattern, layout, dtype, dtype, out, device, **facts)


def text(p, config) -> str:
    run = KERNELS[type(p)].run
    with on(p.device.kind):
        return jax.jit(lambda *a: run(p, config, *a)).trace(*structs(p)).lower(lowering_platforms=("cuda",)).as_text()


# -- lowering

LOWERED = mask((256, 256), (32, 32), 0.2)


@pytest.mark.parametrize("dtype", [BF16, F16, F32], ids=str)
@pytest.mark.parametrize("layout", [DENSE, packed(16, 16), packed(64, 128)], ids=str)
@pytest.mark.parametrize("make", [spmm, functools.partial(spmm, transposed=True), sddmm], ids=["spmm", "transposed", "sddmm"])
def test_every_config_lowers_for_cuda(make, layout, dtype):
    p = make(100, LOWERED, layout, dtype, dtype, A100)
    kernel = KERNELS[type(p)]
    assert kernel.why_not(p) is None
    assert kernel.configs(p)
    # Machine code is made of all of them elsewhere (`tests/aot`).
    for config in kernel.configs(p) if dtype == BF16 else kernel.configs(p)[-1:]:
        assert "xla.gpu.triton" in text(p, config), config


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_lowers_for_cuda(activation):
    p = spmm(100, LOWERED, epilogue=Epilogue(True, activation, True), device=A100)
    assert "xla.gpu.triton" in text(p, KERNELS[SpMM].configs(p)[-1])


# -- values

SQUARES, RAGGED, CROSS = mask((128, 128), (32, 32), 0.4), mask((90, 200), (32, 32), 0.3), mask((128, 96), (32, 32), cross)
SMALL = Tile(32, 32, 32, 4, 2)
CASES = {
    "density .4": (spmm(64, SQUARES, packed(32, 32), epilogue=ALL), SMALL),
    "density .4 dense": (spmm(64, SQUARES), Tile(64, 64, 32, 4, 2)),
    "float32": (spmm(64, SQUARES, dtype=F32, precision="highest"), SMALL),
    "float16": (spmm(64, SQUARES, packed(32, 32), F16, F16, epilogue=ALL), SMALL),
    "transposed": (spmm(64, SQUARES, packed(32, 32), transposed=True), SMALL),
    "transposed dense": (spmm(64, CROSS, transposed=True), SMALL),
    "empty column and row": (spmm(64, CROSS, epilogue=ALL), SMALL),
    "one live block": (spmm(64, mask((128, 96), (32, 32), one)), SMALL),
    "everything live": (spmm(32, TeSA.dense((64, 96))), SMALL),
    "one row, ragged": (spmm(1, RAGGED, epilogue=ALL), Tile(16, 32, 32, 4, 2)),
    "ragged packed": (spmm(70, RAGGED, packed(32, 64), epilogue=ALL), SMALL),
    "ragged transposed": (spmm(70, RAGGED, packed(32, 64), transposed=True), Tile(32, 32, 64, 4, 2)),
    "parts of blocks": (spmm(32, mask((128, 128), (64, 128), 0.6), packed(64, 128)), SMALL),
    "parts of blocks, transposed": (spmm(32, mask((128, 128), (64, 128), 0.6), packed(64, 128), transposed=True), SMALL),
    "sampled": (sddmm(64, SQUARES, packed(32, 32)), SMALL),
    "sampled dense": (sddmm(64, SQUARES), Tile(64, 32, 32, 4, 2)),
    "sampled float32": (sddmm(64, SQUARES, dtype=F32, precision="highest"), SMALL),
    "sampled split": (sddmm(300, SQUARES, packed(32, 32), out=BF16), Tile(64, 32, 32, 4, 2, splits=2)),
    "sampled ragged": (sddmm(70, RAGGED, packed(32, 64)), Tile(32, 64, 32, 4, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_interpreter_agrees_with_the_dense_product(name, monkeypatch):
    p, config = CASES[name]
    kernel = KERNELS[type(p)]
    monkeypatch.setattr(pl, "pallas_call", functools.partial(pl.pallas_call, interpret=True))
    if isinstance(p, SDDMM):
        given = arrays = operands(p)
    else:
        x, w, stored, extras = operands(p)
        given, arrays = (x, stored, *extras), (x, w, *extras)
    got = jax.jit(lambda *a: kernel.run(p, config, *a))(*given)
    agrees(p, got, reference(p, *arrays))


@pytest.mark.parametrize("layout", [DENSE, packed(64, 64)], ids=str)
@pytest.mark.parametrize(("m", "pattern"), [(0, SQUARES), (3, TeSA.dead((128, 64)))])
def test_without_work_no_kernel_is_called(m, pattern, layout):
    for p in (spmm(m, pattern, layout, epilogue=ALL), sddmm(m, pattern, layout)):
        kernel = KERNELS[type(p)]
        config = kernel.configs(p)[0]
        assert kernel.cost(p, config).flops == 0
        if isinstance(p, SDDMM):
            np.testing.assert_array_equal(kernel.run(p, config, *operands(p)), reference(p, *operands(p)))
        else:
            x, w, stored, extras = operands(p)
            np.testing.assert_allclose(
                kernel.run(p, config, x, stored, *extras), reference(p, x, w, *extras), rtol=2e-2, atol=2e-2
            )


# -- limits, cost, programs

REFUSED = {
    "needs an NVIDIA GPU": {"device": Device("cpu")},
    "which GPU": {"device": Device("cuda")},
    "Ampere": {"device": Device("cuda", "Tesla V100-SXM2-16GB", 80)},
    "one dtype": {"x_dtype": F16},
    "int8": {"x_dtype": np.dtype("int8"), "w_dtype": np.dtype("int8"), "g_dtype": np.dtype("int8")},
    "float64": {"out_dtype": np.dtype("float64")},
    "32 bits": {"m": 1 << 26},
    "not (24, 24)|blocks of (24, 24)": {"layout": packed(24, 24)},
}


@pytest.mark.parametrize("make", [spmm, sddmm])
@pytest.mark.parametrize("phrase", REFUSED)
def test_it_says_why_not(phrase, make):
    p = make(256, SQUARES)
    facts = {name: value for name, value in REFUSED[phrase].items() if hasattr(p, name)}
    kernel = KERNELS[type(p)]
    assert kernel.why_not(p) is None
    assert any(part in kernel.why_not(dataclasses.replace(p, **facts)) for part in phrase.split("|"))


@pytest.mark.parametrize("make", [spmm, sddmm])
def test_float32_is_rounded_only_where_xla_would(make):
    """And then costs more."""
    shares = []
    for precision in (None, "high", "highest"):
        p = make(4096, mask((4096, 4096), (128, 128), 0.3), dtype=F32, device=A100, precision=precision)
        kernel = KERNELS[type(p)]
        shares.append(max(kernel.cost(p, c).efficiency for c in kernel.configs(p)))
    assert shares[0] == shares[1] > shares[2]


def test_a_training_step_lowers_for_an_ampere_gpu_without_a_warning():
    params = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16)}
    tesa = {"w": TeSA.blocks(np.eye(8, dtype=bool), (128, 128), (1024, 1024))}
    fast = sj.sparsify(lambda params, x: jnp.tanh(x @ params["w"]), tesa, platform="cuda", implementation="triton")
    loss = lambda params, x: fast(params, x).astype(jnp.float32).sum()
    x = jax.ShapeDtypeStruct((4096, 1024), jnp.bfloat16)
    with on("NVIDIA A100-SXM4-80GB", 108):
        traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).trace(params, x)
        assert traced.lower(lowering_platforms=("cuda",)).as_text().count("custom_call @__gpu$xla.gpu.triton") == 3
