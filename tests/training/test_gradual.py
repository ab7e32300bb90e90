"""Gradual pruning: as many weights live as the schedule says, and the smallest die."""

import numpy as np
import optax
import pytest
from training.regression import PARAMS, live, run, slow

import sparta_jax as sj
from sparta_jax import training


@pytest.mark.parametrize("scope", ["tensor", *slow(["global", "erk"])])
@pytest.mark.parametrize("schedule", [training.polynomial(begin=1, end=7, every=2, final=0.1), training.one_shot(3, 0.25)])
def test_gradual_pruning(schedule, scope):
    before = {"a": np.ones((12, 16), bool), "c": np.ones((16, 6), bool)}
    shown = run(training.gradual(optax.adam(1e-2), schedule, scope=scope), 9)
    density = 1.0
    for step, (params, state) in enumerate(shown):
        now = live(state)
        density = schedule.density(step) if step in schedule.steps else density
        counts = [m.sum() for m in now.values()]
        if scope == "tensor":
            assert counts == [round(density * m.size) for m in now.values()]
        assert sum(counts) == round(density * (192 + 96)) or scope == "tensor"
        for k, mask in now.items():
            assert (mask <= before[k]).all()
            assert not np.asarray(params[k]["w"])[~mask].any()
            assert step in schedule.steps or (mask == before[k]).all()
        before = now
    assert int(state.changes) == len(schedule.steps)


def test_the_smallest_die():
    shown = run(training.gradual(optax.sgd(0.0), training.one_shot(0, 0.25), paths="a/w"), 1)
    mask = np.asarray(shown[0][1].masks["a"]["w"])
    assert (mask == sj.masks.magnitude(PARAMS["a"]["w"], density=0.25).mask).all()
    assert shown[0][1].masks["c"]["w"] is None
