"""Which table holds: the calibrated one where there is one, else a shipped one."""

import dataclasses
import json

import pytest

from sparta_jax.errors import SpartaWarning
from sparta_jax.kernels import kernels
from sparta_jax.machine import Curve, current, forget, key, write
from sparta_jax.machine.current import SHIPPED, shipped
from sparta_jax.machine.record import from_json, to_json
from sparta_jax.problem import SDDMM, SpMM


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_CACHE_DIR", str(tmp_path))
    forget()
    yield tmp_path
    forget()


@pytest.mark.parametrize("isa", SHIPPED)
def test_every_shipped_table_is_whole(isa):
    machine = shipped(isa)
    assert machine.source == "shipped"
    assert machine.key["isa"] == isa
    native = [k.name for table in (kernels[SpMM], kernels[SDDMM]) for k in table.values() if k.implementation == "native"]
    always = ["dense_spmm", "dense_spmm_transposed", "dense_sddmm", "xla_bsr_spmm", "xla_bsr_sddmm", "dense_unpacking"]
    for kernel in always + (native if isa != "none" else []):
        assert all("live" in parts for parts in machine.shapes(kernel).values())
        assert machine.shapes(kernel)


def test_json_holds_all_of_it():
    machine = shipped("avx2")
    again = from_json(json.loads(json.dumps(to_json(machine))), "shipped")
    assert dataclasses.asdict(again) == dataclasses.asdict(machine)


def test_more_threads_share_the_work():
    one, two = current("avx512", 1), current("avx512", 2)
    assert two.peak == 2 * one.peak
    curve = lambda machine: machine.shapes("dense_spmm")["1024x1024"]["live"].at(16)
    assert curve(two) == curve(one) / 2
    assert two.call == one.call


def test_a_calibrated_table_is_taken_and_completed():
    own = dataclasses.replace(
        shipped("avx2"), key=key("avx2", 3), curves={"dense_spmm": {"8x8": {"live": Curve.of({1: 1.0})}}, "dtypes": {}}
    )
    write("machine", own.key, to_json(own))
    assert current("avx2", 1).source == "shipped"
    machine = current("avx2", 3)
    assert machine.source == "calibrated"
    assert set(machine.shapes("dense_spmm")) == {"8x8"}
    assert machine.shapes("native_bsr_spmm")


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t | {"format": 99},
        lambda t: t | {"peak": 0},
        lambda t: t | {"call": "fast"},
        lambda t: t | {"picoseconds": 3},
        lambda t: t | {"picoseconds": {"dense_spmm": {"8x8": {"live": {"1": float("nan")}}}}},
        lambda t: t | {"picoseconds": {"dense_spmm": {"8x8": {"live": {"one": 1.0}}}}},
        lambda t: {k: v for k, v in t.items() if k != "bandwidth"},
    ],
)
def test_a_damaged_one_is_ignored_with_one_warning(damage):
    own = dataclasses.replace(shipped("avx2"), key=key("avx2", 1))
    write("machine", own.key, damage(to_json(own)))
    with pytest.warns(SpartaWarning, match="ignored") as warned:
        assert current("avx2", 1).source == "shipped"
    assert len(warned) == 1
    assert current("avx2", 1).source == "shipped"
