"""The GPU benchmark without a GPU: what it would run lowers and agrees with dense, and its results become tables."""

import dataclasses
import time

import pytest

from benchmarks import gpu, gpu_bandwidth, gpu_results
from benchmarks import gpu_contenders as contenders
from benchmarks.gpu_cases import Case, grid
from benchmarks.machine import describe


def test_the_grid_holds_every_axis_and_no_case_twice():
    cases = grid()
    assert len({case.name for case in cases}) == len(cases)
    assert {case.block for case in cases} == {32, 64, 128}
    assert {case.density for case in cases} == {0.05, 0.1, 0.2, 0.3, 0.5}
    assert {case.m for case in cases} >= {1, 16, 64, 1024, 16384}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
def test_a_dry_run_finds_no_failure(capsys):
    assert gpu.dry([grid()[0].shrunk(128)]) == 0
    assert "nothing ran on a device" in capsys.readouterr().out


def test_the_bandwidth_kernel_lowers():
    import jax
    import jax.numpy as jnp

    x = jax.ShapeDtypeStruct((gpu_bandwidth.TILES * gpu_bandwidth.ROWS, gpu_bandwidth.COLS), jnp.bfloat16)
    traced = jax.jit(lambda x: gpu_bandwidth.fetch(x, 132, 100)).trace(x)
    assert "mosaic_gpu" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("minutes", [1, -1], ids=["in time", "too late"])
def test_a_run_checks_times_and_writes(minutes, monkeypatch, tmp_path, capsys):
    """With XLA's own product in the kernels' place, for there is no GPU."""
    case = Case("square64", 64, 64, 64, 16, 0.5, "float32")
    backward = dataclasses.replace(case, what="backward")
    stand_in = lambda case, device, configs: ({"mosaic dense #0": contenders.dense(case)}, {"triton dense": "is not here"})
    monkeypatch.setattr(gpu, "ways", stand_in)
    monkeypatch.setattr(gpu, "checks", lambda: [case, backward])
    path = tmp_path / "gpu.json"
    assert gpu.measure([case, backward], gpu.H200, time.monotonic() + 60 * minutes, path) == 0
    run = gpu_results.load(path)
    assert (len(run.entries), run.wrong, run.l2_bytes_per_s) == (2 if minutes > 0 else 0, [], None)
    for done in run.entries:
        assert done.refused["triton dense"] == "is not here"
        assert done.seconds.keys() == {"dense", "mosaic dense #0"}
    assert "square64" in gpu_results.section(path, run) or minutes < 0


def test_a_wrong_result_is_told():
    case = Case("square64", 64, 64, 64, 16, 0.5, "float32")
    way = contenders.Way(lambda x, w: x @ w * 1.01, contenders.DENSE, "one percent too much")
    assert "relative error" in gpu._wrong(case, {"mosaic dense #0": way})[0]


def entry(density: float, seconds: float) -> gpu_results.Entry:
    case = Case("square4096", 4096, 4096, 4096, 64, density)
    return gpu_results.Entry(case, {"dense": 1.0, "mosaic dense #0": seconds}, {"dense": 0.0}, {}, {})


@pytest.mark.parametrize(
    ("times", "density"),
    [([0.2, 0.6, 1.4], 0.2), ([0.2, 0.4, 0.8], 0.3), ([1.2, 1.3, 1.4], 0.0), ([0.5, 0.5, 0.5], 1.0)],
)
def test_break_even_lies_where_the_times_meet(times, density):
    entries = [entry(d, t) for d, t in zip((0.1, 0.15, 0.25), times, strict=True)]
    assert gpu_results.break_even(entries)[64, "bfloat16"] == pytest.approx(density)


def test_results_are_read_back_and_become_a_section(tmp_path):
    run = gpu_results.Run(describe(), "python -m benchmarks.gpu", 5e12, [], [entry(0.1, 0.5), entry(0.3, 0.9)])
    gpu_results.dump(run, tmp_path / "gpu.json")
    assert gpu_results.load(tmp_path / "gpu.json") == run
    page = gpu_results.section(tmp_path / "gpu.json", run)
    assert "2.00x" in page
    assert "5.00 TB/s" in page
