"""What is said of windows is exact: among positive values nothing cancels, so zeros and needs show in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import batches
from interpreters import test_rules, window_cases
from interpreters.cases import CASES

from sparta_jax.grid import Grid
from sparta_jax.interpreters.facts import ZERO, Fact
from sparta_jax.interpreters.jaxprs import trace
from sparta_jax.interpreters.propagate import propagate
from sparta_jax.interpreters.rules import sliding

SUMS = [n for n in CASES if n.startswith(("conv, ", "reduce_window_sum, ")) and not n.endswith(("gradient", "tangent"))]


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("kind", ["element", "channel", "block", "dead", "live"])
def test_sums_over_windows_are_exact(name, kind):
    for seed in range(3):
        for claimed, true in claims(name, kind, seed):
            np.testing.assert_array_equal(claimed, true)


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("limit", ["MEETINGS", "ENTRIES"])
def test_beyond_the_limits_they_are_safe(name, limit, monkeypatch):
    monkeypatch.setattr(sliding, limit, 3)
    for seed in range(3):
        for claimed, true in claims(name, "element", seed):
            assert (claimed | ~true).all()


@pytest.mark.parametrize("names", batches(n for n in CASES if n.startswith("reduce_window") and not n.endswith("gradient")))
def test_beyond_the_limits_the_rules_hold(names, monkeypatch):
    monkeypatch.setattr(sliding, "MEETINGS", 3)
    test_rules.test_dead_elements_may_die(names, test_rules.SOME)


def claims(name: str, kind: str, seed: int):
    """Per result and operand, what is called nonzero or needed, and what is."""
    fn, operands = CASES[name]
    program, _ = trace(fn, *(jax.ShapeDtypeStruct(o.shape, o.dtype) for o in operands))
    rng = np.random.default_rng(seed)
    masks = [test_rules.draw_cells(rng, o.shape, kind) != ZERO for o in operands]
    out, pull = jax.vjp(fn, *(jnp.asarray(m * rng.uniform(1, 2, m.shape), "float32") for m in masks))
    need = test_rules.draw_cells(rng, out.shape, "live" if kind == "dead" else kind) != ZERO
    facts = propagate(program, [Fact.of_mask(Grid.of_elements(m)) for m in masks], [Grid.of_elements(need)])
    yield facts.value(program.outputs[0]).nonzero.elements(), np.asarray(out) != 0
    for variable, gradient in zip(program.inputs, pull(need.astype("float32")), strict=True):
        yield facts.need(variable).elements(), np.asarray(gradient) != 0


@pytest.mark.parametrize(
    ("x", "w", "params"),
    [
        ((8, 224, 224, 64), (3, 3, 64, 64), {}),
        ((8, 28, 28, 512), (3, 3, 512, 512), {}),
        ((8, 224, 224, 3), (7, 7, 3, 64), dict(strides=(2, 2))),
        ((8, 112, 112, 512), (3, 3, 1, 512), dict(feature_group_count=512)),
    ],
    ids=str,
)
def test_large_layers_have_few_cells(x, w, params, rng):
    """Nothing is done per element of an activation: that alone keeps this test from taking minutes."""
    fn = window_cases.conv("NHWC HWIO NHWC", **params)
    program, _ = trace(jax.grad(lambda w, x: fn(x, w).sum(), (0, 1)), *(jax.ShapeDtypeStruct(s, "float32") for s in (w, x)))
    facts = propagate(program, [Fact.of_mask(Grid.of_elements(rng.random(w) < 0.1)), Fact.live(x)])
    assert all(f.value.cells.size <= np.prod(w) for f in facts.values.values())
