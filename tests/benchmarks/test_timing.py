import time

import pytest

from benchmarks.timing import Timing, interleave, ratio


def test_every_round_times_each_callable_once_and_starts_with_another():
    order = []
    names = ("a", "b", "c")
    rounds = []
    timings = interleave(
        {name: lambda name=name: (order.append(name), time.sleep(1e-4)) for name in names},
        rounds=4,
        sample_seconds=0.0,
        progress=lambda done, of: rounds.append((done, of)),
    )
    assert rounds == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {name: len(timing.samples) for name, timing in timings.items()} == dict.fromkeys(names, 4)
    assert ["".join(order[i : i + 3]) for i in range(len(order) - 12, len(order), 3)] == ["abc", "bca", "cab", "abc"]


def test_short_calls_are_repeated_within_a_sample():
    calls = []
    timings = interleave({"short": lambda: calls.append(None)}, rounds=1, sample_seconds=1e-3)
    assert len(calls) > 100
    assert timings["short"].median < 1e-4


def test_a_ratio_compares_within_a_round():
    """A machine that is ten times slower in one round leaves the ratio as it is."""
    assert ratio(Timing((2.0, 20.0, 2.0)), Timing((1.0, 10.0, 1.0))) == 2.0


@pytest.mark.parametrize(
    ("samples", "median", "least", "spread"), [((3.0,), 3.0, 3.0, 0.0), ((4.0, 1.0, 2.0, 3.0, 5.0), 3.0, 1.0, 2 / 3)]
)
def test_statistics(samples, median, least, spread):
    timing = Timing(samples)
    assert (timing.median, timing.min, timing.spread) == (median, least, pytest.approx(spread))
