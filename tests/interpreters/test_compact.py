"""Compaction keeps every value: a program on views of its values equals the program on masked operands, constants folded."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_those_of_the_masked_program(name, seed):
    trial = Trial(name, seed)
    for got, want in zip(trial.compact(trial.values), trial.masked(trial.values), strict=True):
        assert_near(got, want, f"{trial.kinds}")


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_are_those_of_the_masked_program(name, seed):
    trial = Trial(name, seed)
    floating = [i for i, x in enumerate(trial.values) if jnp.issubdtype(x.dtype, jnp.floating)]

    def gradient(run):
        def scalar(inexact):
            values = list(trial.values)
            for i, x in zip(floating, inexact, strict=True):
                values[i] = x
            outs = [y for y in run(values) if jnp.issubdtype(jnp.result_type(y), jnp.floating)]
            return sum(jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)) for y in outs)

        return jax.jit(jax.grad(scalar))([trial.values[i] for i in floating])

    for i, got, want in zip(floating, gradient(trial.compact), gradient(trial.masked), strict=True):
        live = trial.cells[i] != ZERO
        assert_near(jnp.where(live, got, 0), jnp.where(live, want, 0), f"{trial.kinds}")


class Trial:
    """A case with some operands masked params and the others data."""

    def __init__(self, name, seed):
        self.program, operands = trace_case(name)
        rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
        self.kinds = [rng.choice(["data", *MASKS], p=[0.4, 0.35, 0.2, 0.05]) for _ in operands]
        if all(kind == "data" for kind in self.kinds):
            self.kinds = ["channel" if i == 0 else kind for i, kind in enumerate(self.kinds)]
        self.cells = [self.draw_fact(rng, o.shape, kind) for o, kind in zip(operands, self.kinds, strict=True)]
        draws = [np.asarray(o.draw(rng)) for o in operands]
        zero = [np.where(c == ZERO, np.zeros((), x.dtype), x) for c, x in zip(self.cells, draws, strict=True)]
        self.values = [jnp.asarray(x) for x in zero]
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
