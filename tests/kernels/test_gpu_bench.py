"""The GPU benchmark without a GPU: what it would run lowers and agrees with dense, and its results become tables."""

import pytest

from benchmarks import gpu, gpu_bandwidth, gpu_results
from benchmarks.gpu_cases import Case, grid
from benchmarks.machine import describe


def test_the_grid_holds_every_axis_and_no_case_twice():
    cases = grid()
    assert len({case.name for case in cases}) == len(cases)
    assert {case.block for case in cases} == {32, 64, 128}
    assert {case.density for case in cases} == {0.05, 0.1, 0.2, 0.3, 0.5}
    assert {case.m for case in cases} >= {1, 16, 64, 1024, 16384}


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
