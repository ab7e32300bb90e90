import json

from benchmarks import distillation_results


def row(density):
    quality = {
        "held_out": {"cosine": 0.9, "low": 0.8, "neighbours": 0.7},
        "pairs": {"cosine": 0.6, "low": 0.5, "neighbours": 0.4},
    }
    at = {"batch": 2, "seq": 8, "dense": 0.02, "masked recovered": 0.03, "packed recovered": 0.01}
    how = {"calibration": 512, "settings": {"steps": 30, "tokens": 64}, "training_seconds": 120.0}
    return {"density": density, "pruned": quality, "recovered": quality, "latencies": [at]} | how


def test_one_row_per_density_says_quality_and_latency():
    head, _, *rows = distillation_results.table({"rows": [row(0.5), row(0.1)]}).splitlines()
    assert head.startswith("| live blocks | sentences | pruned: cosine | recovered: cosine |")
    assert "batch 2 x 8" in head
    quality, learnt = "0.900 (0.800) | 0.900 (0.800) | 0.70, 0.70 | 0.60, 0.60", "30 steps of 64 tokens, 2 minutes"
    cells = f"512 | {quality} | {learnt} | 30.0 ms, 10.0 ms, 3.00x |"
    assert rows == [f"| 50% | {cells}", f"| 10% | {cells}"]


def test_nothing_is_said_of_what_was_not_measured(tmp_path):
    assert distillation_results.section(tmp_path / "none.json") == ""


def test_the_committed_results_are_shown():
    if distillation_results.FILE.exists():
        run = json.loads(distillation_results.FILE.read_text())
        assert all(row["command"] in distillation_results.section() for row in run["rows"])
