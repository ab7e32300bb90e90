import dataclasses

import pytest

from benchmarks.digits_results import Digits, dump, load, paired, section
from benchmarks.machine import Machine

MACHINE = Machine("Some CPU", "cpu", "avx2", 2, 2, "0.10.2", "3.11.7", "0123456789")
ACCURACY = {"dense": (0.99, 0.98, 0.97), "static": (0.90, 0.92, 0.94), "SET": (0.90, 0.93, 0.94), "RigL": (0.93, 0.94, 0.95)}
RUN = Digits(MACHINE, "python -m benchmarks.digits", (64, 8, 10), 0.05, 100, 128, 1e-3, 50, 75, 0.3, 450, 9.0, ACCURACY)


def test_pairs_are_compared_seed_by_seed():
    found = paired(ACCURACY["RigL"], ACCURACY["static"])
    assert found.mean == pytest.approx(0.02)
    assert found.half == pytest.approx(4.303 * 0.01 / 3**0.5)
    assert (found.wins, found.losses) == (3, 0)


def test_results_and_their_section(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.digits_results.ROOT", tmp_path)
    dump(RUN, tmp_path / "digits.json")
    assert dataclasses.asdict(load(tmp_path / "digits.json")) == dataclasses.asdict(RUN)
    shown = section(tmp_path / "digits.json")
    assert "+2.00 ± 2.48 points, better in 3 of 3 seeds" in shown
    assert shown.count("\n| ") == 6
    assert section(tmp_path / "none.json") == ""
