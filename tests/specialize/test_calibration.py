"""Calibration: what is measured is written, found again, and planned by."""

import dataclasses

import numpy as np
import pytest

import sparta_jax as sj
from sparta_jax.kernels import curves, native
from sparta_jax.machine import Curve, current, forget, key
from sparta_jax.machine.current import shipped
from sparta_jax.problem import DENSE, Device, SpMM
from sparta_jax.products import default_device
from sparta_jax.specialize import Chooser, Roofline, calibration, choose, probes
from sparta_jax.specialize.adaptation import MOST, _scaled, adapted_curves
from sparta_jax.tesa import TeSA

F32 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_CACHE_DIR", str(tmp_path))
    forget()
    choose.forget()
    yield tmp_path
    forget()
    choose.forget()


def test_what_is_measured_is_planned_by(monkeypatch, rng):
    """A machine on which dense products cost next to nothing."""
    cores = default_device("cpu").cores
    own = dataclasses.replace(shipped("avx2"), key=key(native.isa(), cores), source="calibrated")
    free = {shape: {"live": Curve.of({1: 1e-3})} for shape in own.shapes("dense_spmm")}
    monkeypatch.setattr(calibration, "adapted", lambda: dataclasses.replace(own, curves={**own.curves, "dense_spmm": free}))
    tesa = TeSA.blocks(rng.random((16, 16)) < 0.1, (32, 32), (512, 512))
    problem = SpMM(64, tesa, DENSE, F32, F32, F32, Device("cpu", cores=cores))
    before = Chooser().plan(problem)
    path = sj.calibrate()
    assert path.exists()
    assert current(native.isa(), cores).source == "calibrated"
    after = Chooser().plan(problem)
    assert after.kernel.name == "dense_spmm"
    assert after.seconds < before.seconds


def test_probes_count_what_the_machine_takes(monkeypatch):
    """Injected times: `around` and `live` come apart."""
    monkeypatch.setattr(probes.Probe, "foreign", 0.0)
    seconds = lambda self, problem, kernel, config=None: 1e-6 * problem.m * (4 + problem.pattern.nnz / 1024)
    monkeypatch.setattr(probes.Probe, "__call__", seconds)
    probe = probes.Probe(Device("cpu", cores=1))
    kernel = probes.kernels_of("xla")[0]
    parts = probes.sparse_parts(kernel, probes.Layout("bsr", (32, 32)), probe, (1, 16, 64))
    for m in (1, 16, 64):
        assert parts["live"].at(m) == pytest.approx(1e6 * m / 1024)
        assert parts["around"].at(m) == pytest.approx(4e6 * m / (2 * probes.SIDE))


def test_a_table_follows_a_few_products(monkeypatch):
    """Injected times: a machine on which everything takes three times as long as in the table."""
    device = Device("cpu", cores=1)
    base = shipped("avx512" if native.isa() != "none" else "none")
    monkeypatch.setattr(curves, "current", lambda *_: base)
    line = Roofline(base.peak, base.bandwidth)
    monkeypatch.setattr(probes.Probe, "idle", 0.0)
    monkeypatch.setattr(probes.Probe, "foreign", 3 * base.call)
    monkeypatch.setattr(probes.Probe, "least", lambda self, key, make: 1e-3)
    cost = lambda kernel, *problem: dataclasses.replace(kernel.cost(*problem), packing=0.0)  # a probe's weight is not masked
    seconds = lambda self, problem, kernel, config=None: (
        3 * line.seconds(cost(kernel, problem, config or kernel.configs(problem)[0]))
    )
    monkeypatch.setattr(probes.Probe, "__call__", seconds)
    implementation = "native" if native.isa() != "none" else "xla"
    found = adapted_curves(base, probes.Probe(device), implementation)
    for kernel in [k.name for k in probes.kernels_of(implementation)] + ["dense_spmm", "dense_spmm_transposed", "dense_sddmm"]:
        for shape, parts in base.shapes(kernel).items():
            for part, curve in parts.items():
                ratio = [found[kernel][shape][part].at(m) / curve.at(m) for m in (1, 5, 64, 1000) if curve.at(m)]
                assert ratio == pytest.approx([3] * len(ratio), rel=0.35 if kernel.startswith("xla") else 0.05), (kernel, shape)


def test_what_is_not_believed_is_bounded():
    parts = {"live": Curve.of({1: 1.0, 16: 2.0, 256: 8.0})}
    scaled = _scaled(parts, {1: 1e9, 16: 2.0, 256: 1e-9})["live"]
    assert scaled.at(1) == scaled.at(16) == MOST
    assert scaled.at(256) == MOST


@pytest.mark.slow
@pytest.mark.parametrize("measure", [calibration.measured, calibration.adapted])
def test_this_machine_is_measured(measure):
    machine = measure(passes=1)
    assert set(machine.curves) <= set(shipped(native.isa()).curves)
    assert machine.peak > 1e8
    assert machine.bandwidth > 1e8
