"""Compaction keeps every value: a program on views of its values equals the program on masked operands, constants folded."""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import batches, of_case, together
from interpreters.cases import CASES, DERIVED
from interpreters.test_rules import draw_cells, trace_case

from sparta_jax.grid import Grid
from sparta_jax.interpreters.compact import run_compact
from sparta_jax.interpreters.facts import CONST, ZERO, Fact
from sparta_jax.interpreters.jaxprs import bind, evaluate
from sparta_jax.interpreters.propagate import propagate
from sparta_jax.interpreters.stage import fixed_variables

MASKS = ["channel", "element", "dead"]
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3, 4))]


@pytest.mark.parametrize("names", batches(CASES))
@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_those_of_the_masked_program(names, seed):
    def values(trial, given):
        return trial.compact(given), trial.masked(given)

    for trial, (got, expected) in compiled(values, names, seed):
        with of_case(trial.name):
            for g, e in zip(got, expected, strict=True):
                assert_near(g, e, f"{trial.kinds}")


@pytest.mark.parametrize("names", batches(DERIVED))
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_are_those_of_the_masked_program(names, seed):
    def gradients(trial, given):
        floating = [i for i, x in enumerate(given) if jnp.issubdtype(x.dtype, jnp.floating)]

        def gradient(run):
            def scalar(inexact):
                values = list(given)
                for i, x in zip(floating, inexact, strict=True):
                    values[i] = x
                outs = [y for y in run(values) if jnp.issubdtype(jnp.result_type(y), jnp.floating)]
                return sum(jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)) for y in outs)

            return dict(zip(floating, jax.grad(scalar)([given[i] for i in floating]), strict=True))

        return gradient(trial.compact), gradient(trial.masked)

    for trial, (got, expected) in compiled(gradients, names, seed):
        with of_case(trial.name):
            for i in expected:
                live = lambda gradient, cells=trial.cells[i]: np.where(cells != ZERO, gradient, np.zeros_like(gradient))
                assert_near(live(got[i]), live(expected[i]), f"{trial.kinds}")


def test_a_tangent_may_vary_where_its_result_does_not():
    test_gradients_are_those_of_the_masked_program(("custom_jvp, zero with a tangent",), 4)


def compiled(fn, names, seed):
    """Each case's trial with what `fn(trial, values)` gives, all from one compiled program."""
    trials = [Trial(name, seed) for name in names]
    results = together({t.name: partial(fn, t) for t in trials}, optimized=False)([(t.values,) for t in trials])
    return zip(trials, jax.device_get(results), strict=True)


class Trial:
    """A case with some operands masked params and the others data."""

    def __init__(self, name, seed):
        self.name, (self.program, operands) = name, trace_case(name)
        rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
        self.kinds = [rng.choice(["data", *MASKS], p=[0.4, 0.35, 0.2, 0.05]) for _ in operands]
        if all(kind == "data" for kind in self.kinds):
            self.kinds = ["channel" if i == 0 else kind for i, kind in enumerate(self.kinds)]
        self.cells = [self.draw_fact(rng, o.shape, kind) for o, kind in zip(operands, self.kinds, strict=True)]
        draws = [np.asarray(o.draw(rng)) for o in operands]
        self.values = [np.where(c == ZERO, np.zeros((), x.dtype), x) for c, x in zip(self.cells, draws, strict=True)]
        self.params = {v for v, kind in zip(self.program.inputs, self.kinds, strict=True) if kind != "data"}

    @staticmethod
    def draw_fact(rng, shape, kind):
        if kind == "data":
            return np.full(shape, 2, np.uint8)
        return np.minimum(draw_cells(rng, shape, kind), CONST)

    def compact(self, values):
        facts = propagate(self.program, [Fact(Grid.of_elements(c)) for c in self.cells])
        return run_compact(self.program, facts, self.params, fixed_variables(self.program, self.params), values)

    def masked(self, values):
        return evaluate(self.program, values, bind)


def assert_near(got, want, message):
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    finite = np.isfinite(want) if np.issubdtype(want.dtype, np.inexact) else np.ones(want.shape, bool)
    scale = np.abs(want[finite]).max(initial=1)
    np.testing.assert_allclose(got[finite] / scale, want[finite] / scale, rtol=0, atol=1e-5, err_msg=message)
