"""Calibration: what is measured is written, found again, and planned by."""

import dataclasses

import numpy as np
import pytest

import sparta_jax as sj
from sparta_jax.kernels import native
from sparta_jax.machine import Curve, current, forget, key
from sparta_jax.machine.current import shipped
from sparta_jax.problem import DENSE, Device, SpMM
from sparta_jax.products import default_device
from sparta_jax.specialize import Chooser, calibration, choose, probes
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
    monkeypatch.setattr(calibration, "measured", lambda: dataclasses.replace(own, curves={**own.curves, "dense_spmm": free}))
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


@pytest.mark.slow
def test_this_machine_is_measured():
    machine = calibration.measured(passes=1)
    assert set(machine.curves) <= set(shipped(native.isa()).curves)
    assert machine.peak > 1e8
    assert machine.bandwidth > 1e8
