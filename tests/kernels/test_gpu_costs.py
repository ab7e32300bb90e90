"""What GPU kernels are modelled to take: by estimate, and by a device's table where it has one."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.gpu_cases import BF16, F32, mask
from kernels.gpu_tables import forget, table_by

import sparta_jax as sj
from sparta_jax.kernels import kernels
from sparta_jax.kernels.gpu import costs
from sparta_jax.machine import gpu as tables
from sparta_jax.machine import store
from sparta_jax.problem import DENSE, SDDMM, Device, SpMM
from sparta_jax.specialize import Chooser, roofline

H200 = Device("cuda", "NVIDIA H200", 132)
SPARSE = mask((2048, 2048), (64, 64), 0.1)
MADE_UP = {
    "format": 1,
    "device": "NVIDIA H200",
    "facts": {},
    "factors": {
        "mosaic_bsr_spmm": {"bfloat16": {"many": {"32": 2.0, "64": 3.0}, "few": {"64": 5.0}}},
        "dense_spmm": {"bfloat16": {"many": {"0": 1.5}}},
    },
    "break_even": {"forward": {"bfloat16": {"64x64": 0.3, "128x128": 0.5}}},
}


@pytest.fixture
def table(tmp_path):
    with table_by(lambda: store.write(tables.KIND, {"device": "NVIDIA H200"}, MADE_UP), tmp_path) as made:
        yield made


def spmm(m=4096, pattern=SPARSE, layout=DENSE, dtype=BF16, **facts) -> SpMM:
    return SpMM(m, pattern, layout, dtype, dtype, dtype, H200, **facts)


def seconds(kernel: str, problem) -> list[float]:
    k = kernels[type(problem)][kernel]
    return [roofline(H200).seconds(k.cost(problem, config)) for config in k.configs(problem)]


def estimated(kernel: str, problem) -> list[float]:
    """By the device's kind there is a table; without it there is none."""
    k = kernels[type(problem)][kernel]
    unknown = dataclasses.replace(problem, device=dataclasses.replace(H200, kind=""))
    return [roofline(H200).seconds(k.cost(unknown, config)) for config in k.configs(problem)]


def test_json_holds_all_of_it(table):
    assert json.loads(json.dumps(tables.to_json(table))) == MADE_UP


@pytest.mark.parametrize("damage", [{"format": 2}, {"factors": 1}, {"factors": {"a": {"b": {"many": {"0": -1}}}}}])
def test_what_is_no_table_is_refused(damage):
    with pytest.raises(ValueError, match=r"format|no table|where a factor"):
        tables.from_json(MADE_UP | damage)


def test_measured_factors_scale_the_estimates(table):
    problem = spmm()
    sides = [min(config.depth, config.cols) for config in kernels[SpMM]["mosaic_bsr_spmm"].configs(problem)]
    wanted = [(2.0 if side < 64 else 3.0) * s for side, s in zip(sides, estimated("mosaic_bsr_spmm", problem), strict=True)]
    assert seconds("mosaic_bsr_spmm", problem) == pytest.approx(wanted)
    assert seconds("dense_spmm", problem) == pytest.approx([1.5 * s for s in estimated("dense_spmm", problem)])


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        ("triton_bsr_spmm", spmm()),
        ("dense_spmm", spmm(m=16)),
        ("dense_spmm", spmm(dtype=F32)),
        ("mosaic_bsr_sddmm", SDDMM(4096, SPARSE, DENSE, BF16, BF16, BF16, H200)),
    ],
    ids=["another kernel", "few rows", "another dtype", "another problem"],
)
def test_what_was_not_measured_stays_an_estimate(table, kernel, problem):
    assert seconds(kernel, problem) == estimated(kernel, problem)


def test_few_rows_have_factors_of_their_own(table):
    assert seconds("mosaic_bsr_spmm", spmm(m=16)) == pytest.approx([5 * s for s in estimated("mosaic_bsr_spmm", spmm(m=16))])


@pytest.mark.parametrize(
    ("block", "density", "sparse"),
    [(64, 0.1, True), (64, 0.45, False), (128, 0.45, True), (128, 0.6, False), (32, 0.4, False)],
)
def test_past_the_measured_break_even_dense_is_chosen(table, block, density, sparse):
    """Whatever the rates say: here they say that the kernel takes no time."""
    quick = json.loads(json.dumps(MADE_UP))
    quick["factors"]["mosaic_bsr_spmm"]["bfloat16"]["many"] = {"32": 1e-3}
    store.write(tables.KIND, {"device": "NVIDIA H200"}, quick)
    forget()
    problem = spmm(pattern=mask((2048, 2048), (block, block), density))
    assert costs.past_break_even(problem) is not sparse
    assert Chooser().plan(problem).kernel.name == ("mosaic_bsr_spmm" if sparse else "dense_spmm")
    assert (Chooser().layout([problem]) == DENSE) is not sparse


def test_narrow_tiles_are_modelled_slower_than_wide_ones():
    assert [costs.narrow(side) for side in (16, 32, 64, 128)] == sorted(costs.narrow(side) for side in (16, 32, 64, 128))
    assert costs.narrow(16) < costs.narrow(32) < costs.narrow(128) == 1.0
    assert Chooser().layout([spmm(pattern=mask((2048, 2048), (128, 128), 0.1))]).block not in ((16, 16), (8, 8))


@pytest.mark.parametrize("block", [(128, 128), (64, 64)])
def test_on_hopper_large_blocks_are_mosaics(block):
    """Its tiles are larger, so it fetches less from L2, which bounds both by the same law."""
    pattern = mask((8192, 8192), block, 0.1)
    problem = spmm(8192, pattern)
    assert min(seconds("mosaic_bsr_spmm", problem)) < min(seconds("triton_bsr_spmm", problem))


@pytest.mark.parametrize("precision", [None, "highest"])
def test_float32_is_modelled_slower_than_bfloat16(precision):
    assert seconds("dense_spmm", spmm(dtype=F32, precision=precision))[0] > 1.5 * seconds("dense_spmm", spmm())[0]


def test_a_report_says_whether_its_times_are_estimates(table):
    w, x = jax.ShapeDtypeStruct((256, 256), jnp.bfloat16), jax.ShapeDtypeStruct((512, 256), jnp.bfloat16)
    fast = sj.sparsify(lambda w, x: x @ w, sj.TeSA.blocks(np.eye(4, dtype=bool), (64, 64), (256, 256)), platform="cuda")
    assert "modelled times: estimated, not measured on this device" in str(fast.report(w, x))
    assert costs.why_estimated(Device("cuda", "NVIDIA A100", 108)) == "estimated, not measured on NVIDIA A100"
    assert costs.why_estimated(H200) is None
    assert costs.why_estimated(Device("cpu")) is None
