"""The GPU benchmark without a GPU: what it would run lowers and agrees with dense, and it ends in time."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.experimental.pallas.mosaic_gpu as plgpu
import pytest

from benchmarks import gpu, gpu_dry, gpu_jax_sparse, gpu_page, gpu_results, gpu_run
from benchmarks import gpu_contenders as contenders
from benchmarks.gpu_budget import Budget, ended_after
from benchmarks.gpu_cases import Case, checks, grid
from benchmarks.machine import ROOT, describe

pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
FORWARD = Case("square64", 64, 64, 64, (16, 16), 0.5, "float32")
STEP = dataclasses.replace(FORWARD, what="step")
HAS_INTERPRETER = hasattr(plgpu, "force_gpu_interpret_mode")


def measure(cases, path, until=1e9, clock=None) -> int:
    budget = Budget(until) if clock is None else Budget(until, clock)
    return gpu_run.measure(cases, gpu_dry.H200, budget, path, describe(), "python -m benchmarks.gpu")


@pytest.fixture
def stand_ins(monkeypatch):
    """XLA's own product in the kernels' place, for there is no GPU."""
    ways = lambda case, device, configs: ({"mosaic dense #0": contenders.dense(case)}, {"triton dense": "is not here"})
    monkeypatch.setattr(gpu_run, "ways", ways)
    monkeypatch.setattr(gpu_run, "chosen", lambda case, device: None)
    monkeypatch.setattr(gpu_run, "checks", lambda: [FORWARD, STEP])


class Clock:
    """Seconds that pass where a case says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Cases that take 50 s each by this clock, checks 10 s, and nothing in truth."""
    clock = Clock()

    def pretended(seconds, result):
        def run(case, *rest):
            clock.now += seconds
            return result(case)

        return run

    entry = lambda case: gpu_results.Entry(case, {"dense": 1.0, "mosaic dense #0": 0.5}, {}, {}, {}, "dense")
    monkeypatch.setattr(gpu_run, "entry", pretended(50, entry))
    monkeypatch.setattr(gpu_run, "_wrong", pretended(10, lambda case: []))
    monkeypatch.setattr(gpu_run, "ways", lambda case, device, configs: ({}, {}))
    return clock


def test_the_grid_holds_every_axis_and_no_case_twice():
    cases = grid()
    assert len({case.name for case in cases}) == len(cases)
    assert {case.block for case in cases} == {(32, 32), (64, 64), (64, 128), (128, 128)}
    assert {case.density for case in cases} == {0.05, 0.1, 0.2, 0.25, 0.3, 0.5}
    assert {case.m for case in cases} >= {1, 16, 64, 1024, 2048, 4096, 8192, 16384}
    assert {case.what for case in cases} == {"forward", "dx", "dw", "step"}
    assert {case.dtype for case in cases} == {"bfloat16", "float32"}


def test_a_run_checks_times_and_writes(stand_ins, tmp_path, capsys):
    path = tmp_path / "gpu.json"
    assert measure([FORWARD, STEP], path) == 0
    run = gpu_results.load(path)
    assert (len(run.entries), run.wrong, run.l2_bytes_per_s) == (2, [], None)
    assert run.checked == [FORWARD.name, STEP.name]
    for done, others in zip(run.entries, ({"jax bcoo", "jax bcsr"}, set()), strict=True):
        assert done.refused["triton dense"] == "is not here"
        assert done.seconds.keys() == {"dense", "mosaic dense #0"} | others
        assert done.chosen == "dense"
    page = gpu_page.section(path, run)
    assert "square64" in page
    assert "(dense)" in page
    assert "| not measured |" in capsys.readouterr().out


def test_a_contender_that_raises_is_recorded_and_the_case_goes_on(stand_ins, monkeypatch):
    def broken(x, w):
        raise NotImplementedError("no such product")

    way = contenders.Way(broken, contenders.DENSE, "")

    monkeypatch.setattr(gpu_jax_sparse, "ways", lambda case: ({"jax bcoo": way}, {"jax bcsr": "too large"}))
    done = gpu_run.entry(FORWARD, gpu_dry.H200)
    assert done.refused["jax bcoo"] == "NotImplementedError: no such product"
    assert done.refused["jax bcsr"] == "too large"
    assert done.seconds.keys() == {"dense", "mosaic dense #0"}


@pytest.mark.slow
def test_a_slow_contender_is_timed_by_itself(stand_ins, monkeypatch):
    monkeypatch.setattr(gpu_run, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(gpu_run, "HOPELESS_SECONDS", 0.0)
    done = gpu_run.entry(FORWARD, gpu_dry.H200)
    assert done.seconds.keys() == {"dense", "mosaic dense #0", "jax bcoo", "jax bcsr"}
    assert set(done.spread.values()) == {0.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", gpu_jax_sparse.FORMATS)
def test_the_sparse_arrays_of_jax_agree_with_dense(name):
    case = Case("ragged", 24, 40, 56, (8, 16), 0.4, "float32")
    way = gpu_jax_sparse.ways(case)[0][name]
    assert contenders.error(case, way, way.function(*gpu_jax_sparse.arrays(case, name))) < 1e-6


def test_a_wrong_result_is_told():
    way = contenders.Way(lambda x, w: (x @ w * 1.01,), contenders.DENSE, "one percent too much")
    assert "relative error" in gpu_run._wrong(FORWARD, {"mosaic dense #0": way})[0]


@pytest.mark.parametrize(
    ("minutes", "checked", "timed"),
    [(100, 19, len(grid())), (8.5, 15, 7), (2, 3, 1), (0, 1, 0)],
    ids=["all", "lent", "short", "none"],
)
def test_a_run_ends_in_time_with_the_first_cases_done(clock, tmp_path, minutes, checked, timed):
    """Of the checks one at least is begun, for nothing is known before it."""
    measure(grid(), tmp_path / "gpu.json", 60 * minutes, clock)
    run = gpu_results.load(tmp_path / "gpu.json")
    assert clock.now <= 60 * minutes + 10
    assert (len(run.checked), len(run.entries)) == (checked, timed)
    assert [entry.case for entry in run.entries] == grid()[: len(run.entries)]


def test_a_run_that_was_killed_is_readable_and_goes_on(clock, monkeypatch, tmp_path):
    path, whole = tmp_path / "gpu.json", gpu_run.entry

    def killed(case, device):
        if case == grid()[3]:
            raise KeyboardInterrupt
        return whole(case, device)

    monkeypatch.setattr(gpu_run, "entry", killed)
    with pytest.raises(KeyboardInterrupt):
        measure(grid()[:6], path, clock=clock)
    assert len(gpu_results.load(path).entries) == 3
    monkeypatch.setattr(gpu_run, "entry", whole)
    monkeypatch.setattr(gpu_run, "_wrong", lambda *_: pytest.fail("was checked already"))
    started = clock.now
    measure(grid()[:6], path, clock=clock)
    assert [entry.case for entry in gpu_results.load(path).entries] == grid()[:6]
    assert clock.now - started == 150


def test_results_of_another_machine_are_begun_anew(clock, tmp_path, capsys):
    path = tmp_path / "gpu.json"
    other = dataclasses.replace(describe(), commit="another")
    gpu_results.dump(gpu_results.Run(other, "", 132, checked=[case.name for case in checks()]), path)
    measure(grid()[:1], path, clock=clock)
    assert "begun anew" in capsys.readouterr().out
    assert gpu_results.load(path).machine == describe()


def test_a_process_that_hangs_is_ended(capsys):
    ended = []
    with ended_after(0.01, ended.append):
        while not ended:
            pass
    assert ended == [3]
    assert "out of time" in capsys.readouterr().out
    with ended_after(60, ended.append):
        pass
    assert ended == [3]


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["mosaic", "triton"] if HAS_INTERPRETER else ["triton"])
def test_a_class_of_kernels_runs_in_an_interpreter(implementation):
    gpu_dry.interpret(gpu_dry.Class(implementation, "forward", "bfloat16", (64, 64), True, False))


def test_the_classes_hold_every_kernel_dtype_block_and_swap():
    found = gpu_dry.classes([*grid(), *checks()])
    assert len(set(found)) == len(found)
    values = lambda name: {getattr(kind, name) for kind in found}
    assert values("part") == {"forward", "dx", "dw"}
    assert values("dtype") == {"bfloat16", "float16", "float32"}
    assert values("packed") == {False, True}
    assert values("block") == {(32, 32), (64, 64), (64, 128), (128, 128)}
    assert values("swapped") == ({False, True} if HAS_INTERPRETER else {False})


def test_the_bandwidth_kernel_lowers_and_fetches_what_it_should():
    gpu_dry._bandwidth()


@pytest.mark.slow
def test_a_dry_run_finds_no_failure(capsys):
    assert gpu.main(["--dry", "--cases", "1"]) == 0
    out = capsys.readouterr().out
    assert "nothing ran on a device" in out
    assert "| not measured |" in out


REFUSED = "absl equinox flax haiku hypothesis matplotlib optax orbax pytest rich safetensors setuptools sklearn torch triton"
BARE = f"""
import sys
class Refuse:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in "{REFUSED}".split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from benchmarks import gpu
sys.exit(gpu.main(["--dry", "--cases", "0"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="Mosaic of jax 0.10 imports absl itself")
def test_it_starts_with_jax_and_numpy_alone():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 failures" in done.stdout
