import itertools
import subprocess
import sys

import pytest

from benchmarks.machine import ROOT, Machine
from benchmarks.sweep_cases import DENSITIES, Point, points, seconds
from benchmarks.sweep_results import KINDS, Choice, Outcome, Sweep, dump, load, section

MACHINE = Machine("Some CPU", "cpu", "avx2", 2, 1, "0.10.2", "3.11.7", "0123456789")


@pytest.mark.parametrize("mask", ["64x64", "16x1", "1x16", "1x1", "5x3"])
@pytest.mark.parametrize("density", DENSITIES)
def test_a_mask_has_its_density_and_is_the_same_again(mask, density):
    point = Point(mask, 1, 128, 192, density)
    live = point.live()
    assert live.shape == (128, 192)
    assert (live == point.live()).all()
    assert abs(live.mean() - density) < 0.15 if mask != "64x64" else live.any()


@pytest.mark.parametrize("design", ["quick", "covering", "full"])
def test_points_have_names_of_their_own(design):
    names = [point.name for point in points(design)]
    assert len(set(names)) == len(names)
    assert set(names) <= {p.name for p in points("full")}


@pytest.mark.parametrize("pair", list(itertools.combinations(("mask", "density", "m", "k"), 2)))
def test_the_covering_design_has_every_pair(pair):
    values = lambda design: {tuple(getattr(p, name) for name in pair) for p in points(design) if not p.is_real}
    assert values("covering") == values("full")


def test_a_sweep_takes_minutes():
    assert sum(seconds(p, 1) for p in points()) < 12 * 60


def sweep(ratio: float) -> Sweep:
    choices = {kind: Choice("dense", 1.0, 0.5) for kind in KINDS} | {KINDS[0]: Choice("native_bsr_spmm 4x4", ratio, 0.25)}
    return Sweep(MACHINE, "python -m benchmarks.sweep", (Outcome(Point("4x4", 16, 8, 8, 0.5), choices, 0.5),) * 3)


@pytest.mark.parametrize(("ratio", "slower"), [(0.96, 3), (0.98, 0), (4.0, 0)])
def test_slower_choices_are_counted_and_shown(ratio, slower, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.sweep_results.ROOT", tmp_path)
    path = tmp_path / "sweep.json"
    dump(sweep(ratio), path)
    assert load(path) == sweep(ratio)
    assert load(path).slower() == dict.fromkeys(KINDS, 0) | {KINDS[0]: slower}
    assert f"{KINDS[0]}: {slower}" in section(path)
    assert ("**" in section(path)) == (slower > 0)


@pytest.mark.slow
def test_it_runs():
    command = [
        sys.executable,
        "-m",
        "benchmarks.sweep",
        "--quick",
        "--shipped",
        "--rounds",
        "1",
        "--points",
        "32x32.*d0.05-m16$",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "of 1 slower than dense; 0 wrong" in done.stdout
