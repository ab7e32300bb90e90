import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparta_jax as sj
from benchmarks import planning, planning_results
from benchmarks.decoder import Decoder
from benchmarks.machine import ROOT, Machine
from benchmarks.planning_results import Outcome, Planning, Sample, bars, dump, lines, load, section

SMALL = Decoder(layers=2, width=16, heads=4, kv_heads=2, head=4, hidden=24, vocabulary=32, seq=8, block=(4, 4))
MACHINE = Machine("Some CPU", "cpu", "avx2", 2, 2, "0.10.2", "3.11.7", "0123456789")


def run(seconds: float) -> Planning:
    """Every case took that long."""
    sample = Sample({"pack": 9.0, "compile": seconds}, {"pack": 9.0, "compile": seconds}, 10**9)
    outcomes = tuple(Outcome(name, (sample,) * 3) for name in planning.CASES)
    return Planning(MACHINE, "python -m benchmarks.planning", 0.5, 0, outcomes)


def test_each_case_is_described():
    assert planning_results.CASES.keys() == planning.CASES.keys()


@pytest.mark.parametrize(("seconds", "missed"), [(1.0, 0), (3.0, 1), (70.0, 3)])
def test_bars(seconds, missed):
    assert sum(not bar.is_met for bar in bars(run(seconds))) == missed
    assert "\n".join(lines(run(seconds))).count("(missed)") == missed


def test_packing_stands_apart():
    assert run(1.0).outcomes[0].seconds == 1.0


def test_a_run_survives_its_file(tmp_path):
    dump(run(1.0), tmp_path / "run.json")
    assert load(tmp_path / "run.json") == run(1.0)
    assert section(tmp_path / "none.json") == ""


def test_the_result_is_of_a_committed_tree_and_of_these_cases():
    if not planning_results.FILE.exists():
        pytest.skip("not measured")
    found = load()
    assert found.machine.commit
    assert "+" not in found.machine.commit
    assert [outcome.name for outcome in found.outcomes] == list(planning.CASES)


def test_the_decoder_is_the_same_scanned_and_its_projections_propagate():
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), s.dtype), SMALL.params(scanned=False))
    stacked = params | {"layers": jax.tree.map(lambda *leaves: jnp.stack(leaves), *params["layers"])}
    tokens = jnp.asarray(rng.integers(0, SMALL.vocabulary, (1, SMALL.seq)), jnp.int32)
    each, scanned = SMALL.apply(scanned=False)(params, tokens), SMALL.apply(scanned=True)(stacked, tokens)
    assert jnp.allclose(each, scanned, rtol=1e-3, atol=1e-4)
    changed = SMALL.apply(scanned=False)(params, tokens.at[0, -1].add(1) % SMALL.vocabulary)
    assert jnp.allclose(each[:, :-1], changed[:, :-1])  # causal
    tesa = lambda s: SMALL.tesa(s, densities=(0.7, 0.9))
    density = [sj.propagate(SMALL.apply(s), tesa(s))(SMALL.params(s), jax.typeof(tokens)).density for s in (False, True)]
    assert density[0] == density[1] < 1


def test_the_published_sizes_are_llamas():
    sizes = [np.prod(leaf.shape) for leaf in jax.tree.leaves(Decoder().params(scanned=True))]
    assert sum(sizes) == 8_030_261_248
    assert dataclasses.replace(Decoder(), layers=1).projections == Decoder().projections


def test_a_case_prints_its_measurement():
    command = [sys.executable, "-m", "benchmarks.planning", "--case", "encoder"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    sample = Sample(**planning.json.loads(done.stdout))
    assert sample.total > 0
    assert sample.peak_bytes > 10**7
