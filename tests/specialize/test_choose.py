"""The choice: dense always among the candidates, nothing chosen that is modelled slower, one plan per number of rows."""

import dataclasses

import numpy as np
import pytest

from sparta_jax.kernels import native
from sparta_jax.problem import DENSE, SDDMM, Cost, Device, Layout, SpMM
from sparta_jax.specialize import Chooser, Roofline, implementations
from sparta_jax.specialize.choose import MARGIN
from sparta_jax.tesa import TeSA

F32 = np.dtype(np.float32)
DEVICES = [Device("cpu", cores=1), Device("cpu", cores=2), Device("cuda"), Device("other")]


def pattern(density: float, rng, size: int = 512, block: int = 32) -> TeSA:
    grid = rng.permutation((size // block) ** 2) < round(density * (size // block) ** 2)
    return TeSA.blocks(grid.reshape(size // block, -1), (block, block), (size, size))


def spmm(tesa: TeSA, m: int, device: Device = DEVICES[0], layout: Layout = DENSE) -> SpMM:
    return SpMM(m, tesa, layout, F32, F32, F32, device)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_nothing_is_chosen_that_is_modelled_slower_than_dense(device, density, rng):
    tesa = pattern(density, rng)
    for m in (0, 1, 7, 64, 2048):
        for problem in (spmm(tesa, m, device), SDDMM(m, tesa, DENSE, F32, F32, F32, device)):
            plan = Chooser().plan(problem)
            assert plan.kernel.implementation == "dense" or plan.seconds < MARGIN * plan.dense_seconds
            assert plan.kernel.name not in dict(plan.refused)


def test_a_dense_pattern_stays_dense(rng):
    tesa = pattern(1.0, rng)
    assert Chooser().plan(spmm(tesa, 64)).kernel.name == "dense_spmm"
    assert Chooser().layout([spmm(tesa, 64)]) == DENSE


def test_few_rows_and_many_may_take_different_kernels(rng):
    if native.why_unavailable() is not None:
        pytest.skip(native.why_unavailable())
    tesa = pattern(0.5, rng, size=2048)
    chosen = [Chooser().plan(spmm(tesa, m)).kernel.name for m in (1, 256)]
    assert chosen == ["dense_spmm", "native_bsr_spmm"]


@pytest.mark.parametrize("implementation", ["dense", "xla"])
def test_a_forced_implementation_is_taken(implementation, rng):
    for density in (0.1, 1.0):
        plan = Chooser(implementation).plan(spmm(pattern(density, rng), 8))
        assert plan.kernel.implementation == implementation


def test_an_empty_product_is_dense_whatever_is_forced(rng):
    assert Chooser("xla").plan(spmm(pattern(0.1, rng), 0)).kernel.implementation == "dense"


def test_every_refusal_has_a_reason(rng):
    plan = Chooser().plan(spmm(pattern(0.1, rng), 64))
    reasons = dict(plan.refused)
    assert all(reasons.values())
    assert "mosaic_bsr_spmm" in reasons


def test_what_is_not_faster_by_enough_is_told_by_how_much_it_should_be(rng):
    plans = [Chooser().plan(spmm(pattern(density, rng), 64)) for density in np.linspace(0.3, 1, 36)[:-1]]
    reasons = [reason for plan in plans if plan.kernel.implementation == "dense" for _, reason in plan.refused]
    assert any(f"(taken below {MARGIN:g} of that)" in reason for reason in reasons)


def test_the_layout_serves_all_calls_together(rng):
    tesa = pattern(0.1, rng)
    problems = [spmm(tesa, m) for m in (1, 128)]
    layout = Chooser().layout(problems)
    total = lambda choice: sum(Chooser().plan(dataclasses.replace(p, layout=choice)).seconds for p in problems)
    assert layout.format == "bsr"
    assert total(layout) <= min(total(DENSE), total(Layout("bsr", (32, 32))))


@pytest.mark.parametrize("block", [(64, 64), (16, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("density", [0.5, 0.7, 0.9, 0.95])
def test_no_layout_is_modelled_slower_than_a_weight_that_stays_dense(density, block, rng):
    cells = rng.random((512 // block[0], 512 // block[1])) < density
    tesa = TeSA.blocks(cells, block, (512, 512))
    for m in (1, 64, 2048):
        total = lambda layout, m=m: Chooser().plan(spmm(tesa, m, layout=layout)).seconds
        assert total(Chooser().layout([spmm(tesa, m)])) <= total(DENSE)


def test_packing_is_not_overlapped():
    line = Roofline(flops_per_s=1e9, bytes_per_s=1e9)
    assert line.seconds(Cost(2e9, 1e9)) == 2
    assert line.seconds(Cost(2e9, 1e9, efficiency=0.5, seconds=1.0, packing=3e9)) == 8
    assert line.seconds(Cost(0.0, 0.0, efficiency=0.0)) == 0


def test_implementations_are_listed():
    assert implementations() == ["dense", "mosaic", "native", "triton", "xla"]
