"""When masks change, and to which density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax import training

SCHEDULES = {
    "one shot": (training.one_shot(5, 0.1), {5: 0.1}),
    "cubic": (
        training.polynomial(begin=2, end=11, every=3, final=0.1),
        {2: 1.0, 5: 0.1 + 0.9 * (2 / 3) ** 3, 8: 0.1 + 0.9 * (1 / 3) ** 3, 11: 0.1},
    ),
    "linear, not to its end": (
        training.polynomial(begin=0, end=5, every=2, final=0.2, initial=0.6, power=1),
        {0: 0.6, 2: 0.4, 4: 0.2},
    ),
    "at once at the end": (training.polynomial(begin=3, end=4, every=9, final=0.2), {3: 0.2}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    schedule, want = SCHEDULES[name]
    assert {s: pytest.approx(schedule.density(s)) for s in schedule.steps} == want
    traced = jax.jit(jax.vmap(schedule.is_due))(jnp.arange(20))
    assert np.flatnonzero(traced).tolist() == [s for s in range(20) if schedule.is_due(s)] == sorted(want)


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        (training.periodic(every=3, end=10), [3, 6, 9]),
        (training.periodic(every=3, begin=0, end=6), [0, 3, 6]),
        (training.periodic(every=1, begin=4, end=4), [4]),
    ],
)
def test_periodic(schedule, want):
    assert list(schedule.steps) == want == [s for s in range(20) if schedule.is_due(s)]
