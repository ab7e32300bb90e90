"""The benchmark of a training step on a small MLP: its three steps, and that they agree."""

import json

from benchmarks import training_step


def test_it_runs_and_agrees(tmp_path, capsys):
    sizes = ["--size", "64", "--batch", "8", "--block", "16", "--density", "0.25"]
    assert training_step.main([*sizes, "--rounds", "1", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["steps"].keys() == {"dense", "masked", "compressed"}
    assert found["error"] < 1e-5
    assert found["setting"]["size"] == 64
    assert "compressed:" in capsys.readouterr().out
