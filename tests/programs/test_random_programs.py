"""Random programs with random masks equal the masked program, in value and gradient, packed too; their facts are true."""

import os
import random

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from programs.check import Invalid, Trial, always_compacting, distance, plain_products
from programs.generate import generate

COUNT = int(os.environ.get("SPARTA_JAX_RANDOM_PROGRAMS", "2000"))
SETTINGS = settings(suppress_health_check=list(HealthCheck), print_blob=True)


def holds(program, seed: int, **laws) -> None:
    """Every law holds of the program, in float64."""
    try:
        with np.errstate(all="ignore"):  # what nobody needs may be infinite
            failure = Trial(program, seed, "float64", on_host=True).check(**laws)
    except Invalid:
        return
    assert failure is None, f"{failure}\n{program}"


@pytest.fixture
def wide():
    with jax.enable_x64(True), plain_products(), always_compacting():
        yield


@pytest.mark.usefixtures("wide")
@settings(SETTINGS, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_values_and_derivatives(rng):
    holds(generate(rng), 0, facts=False)


@pytest.mark.usefixtures("wide")
@settings(SETTINGS, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_facts(rng):
    holds(generate(rng), 0)


@pytest.mark.usefixtures("wide")
@settings(SETTINGS, max_examples=12)
@given(st.randoms(use_true_random=False))
def test_packed(rng):
    holds(generate(rng), 0, packed=True, facts=False)


@pytest.mark.parametrize("seed", range(6))
def test_compiled(seed):
    """As users call it: jitted, with the products' own kernels, in float32."""
    trial = Trial(generate(random.Random(seed)), seed)
    floats = [x for x, d in zip(trial.data, trial.program.data, strict=True) if d.high is None]
    want = jax.jit(lambda p, floats: trial.fn(trial.masked(p), trial.with_data(floats)))(trial.params, floats)
    got = trial.fast(trial.params, trial.with_data(floats))
    packed = trial.fast(trial.fast.pack(trial.params, trial.data), trial.data)
    for out in (got, packed):
        assert distance(jax.tree.leaves(out), jax.tree.leaves(want)) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("wide")
def test_many():
    """As `python -m tests.programs` does; SPARTA_JAX_RANDOM_PROGRAMS says how many."""
    for seed in range(COUNT):
        holds(generate(random.Random(seed)), seed, packed=seed % 6 == 1, facts=seed % 4 == 2, derivatives=seed % 8 < 4)
