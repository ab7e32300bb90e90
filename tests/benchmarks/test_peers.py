import dataclasses

import numpy as np
import pytest

from benchmarks.peers.bars import Bar, bars, select
from benchmarks.peers.contest import OURS, XLA
from benchmarks.peers.race import SLOW, Local, Measured, race
from benchmarks.peers.record import Outcome, keep, load
from benchmarks.peers.show import line, section

BAR = Bar("square64-b32-d0.1-m32", "a row", "product", (32, 64, 64, "block", 0.1, 32), xla=9, best=8)
MACHINE = {"device": "Some CPU", "simd": "avx2", "cores": 4, "commit": "0123456789", "versions": {"jax": "0.10.2"}}


def outcome(wrong=(), **times: float) -> Outcome:
    """A case in which the named ones took so many milliseconds."""
    names = {"ours": OURS, "xla": XLA, "ort": "ort dense", "deepsparse": "deepsparse", "conv": "deepsparse conv"}
    measured = {names.get(name, name): Measured(time, time, 0.0, 5, 1e-7) for name, time in times.items()}
    return Outcome(BAR, 1, MACHINE, measured, {"torch csr": "not installed"}, tuple(wrong), 0.0)


def test_cases_have_names_of_their_own_and_any_beginning_of_the_list_has_every_row():
    everything = bars()
    rows = {bar.row for bar in everything}
    assert len({bar.name for bar in everything}) == len(everything)
    assert {bar.row for bar in everything[: len(rows)]} == rows
    assert select(["minilm"]) == [bar for bar in everything if "minilm" in bar.name]
    with pytest.raises(ValueError, match="no case matches nothing"):
        select(["nothing"])


@pytest.mark.parametrize(
    ("times", "missed"),
    [
        (dict(ours=1.0, xla=9.0), ()),
        (dict(ours=1.0, xla=9.0, ort=8.0, deepsparse=1.0), ()),
        (dict(ours=1.0, xla=8.9, ort=8.5), ("XLA",)),
        (dict(ours=1.0, xla=9.0, ort=7.0), ("best dense",)),
        (dict(ours=1.0, xla=9.0, deepsparse=2.0, conv=0.9), ("DeepSparse",)),
        (dict(ours=1.0, xla=9.0, wrong=(OURS,)), ("exactness",)),
    ],
)
def test_what_misses_a_bar_is_said(times, missed):
    found = outcome(**times)
    assert found.missed == missed
    assert line(found).count("MISSES") == bool(missed)


def test_results_are_kept_from_run_to_run(tmp_path):
    path = tmp_path / "results" / "cpu.jsonl"
    assert load(path) == []
    first, second = outcome(ours=1.0, xla=9.0), dataclasses.replace(outcome(ours=1.0, xla=9.0), threads=2)
    again = outcome(ours=2.0, xla=9.0)
    for found in (first, second, again):
        keep(path, found)
    assert load(path) == [again, second]
    text = section(path.parent)
    assert "Some CPU, threads: 2" in text
    assert "2 cases, 1 of which miss a bar" in text
    assert "**4.50 (9)**" in text
    assert section(tmp_path) == ""


def test_a_race_times_who_can_and_says_why_others_cannot():
    exact = np.ones((2, 2))

    def fails():
        raise ValueError("no such thing")

    @dataclasses.dataclass
    class Fake:
        name: str
        seconds: float

        def slice(self, reps, warm_ms):
            return self.seconds, False

        def result(self):
            return exact

    runners = [Fake("base", 1.0), Fake("slow", SLOW + 1), Local("broken", fails), Local("wrong", lambda: np.zeros((2, 2)))]
    runners.append(Local("shape", lambda: np.ones(4)))
    measured, absent = race(runners, exact, threads=1, seconds=0)
    assert absent == {"broken": "ValueError: no such thing"}
    assert measured["base"].rounds > 1
    assert measured["base"].error == 0
    assert measured["slow"].rounds == 1
    assert measured["wrong"].error == 1
    assert measured["shape"].error is None


def test_a_case_runs_without_any_other_library(monkeypatch):
    monkeypatch.setattr("benchmarks.peers.race.MAX_ROUNDS", 5)
    from benchmarks.peers.__main__ import measure
    from benchmarks.peers.contest import Libraries

    bar = dataclasses.replace(BAR, xla=0.0, best=0.0)
    found = measure(bar, Libraries.find(1, None, None), MACHINE, seconds=0.0)
    assert set(found.measured) == {XLA, OURS}
    assert not found.missed
    assert "deepsparse" in found.absent


def test_the_step_of_the_decoder_is_the_same_when_sparse(data):
    import jax

    import sparta_jax as sj
    from benchmarks.peers.wavegru import load_params, step

    params, tesa, inputs = load_params()
    got = jax.jit(sj.sparsify(step, tesa))(params, *inputs)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(jax.jit(step)(params, *inputs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
