"""Along which axes a variable's constants do not vary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import batches, of_case
from interpreters.cases import CASES
from interpreters.precision import L, c, mark, names
from interpreters.test_rules import Trial, run
from jax import lax

import sparta_jax as sj
from sparta_jax.interpreters.facts import LIVE, ZERO
from sparta_jax.interpreters.jaxprs import trace
from sparta_jax.interpreters.propagate import propagate
from sparta_jax.interpreters.uniform import uniform_axes

X, W, B = L(2, 3, 4), c(4, 6, text="c.c.c."), c(6)
IMAGE, KERNEL, CHANNELS = L(2, 7, 7, 3), c(3, 3, 3, 4, text="c.c."), c(4)


def conv(x, w, padding):
    return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolved_twice(padding):
    return lambda x, w, b, v: mark(conv(jax.nn.relu(conv(x, w, padding) + b), v, padding), "out")


UNIFORM = {
    "data": (lambda x: x * 1, [X], {"out": {0, 1, 2}}),
    "a param": (lambda w: w * 1, [W], {"out": set()}),
    "a bias": (lambda x, w, b: x @ w + b, [X, W, B], {"b": set(), "out": {0, 1}}),
    "an activation": (lambda x, w, b: jax.nn.relu(jax.nn.gelu(x @ w + b)), [X, W, B], {"out": {0, 1}}),
    "in remat": (jax.checkpoint(lambda x, w, b: jnp.tanh(x @ w + b)), [X, W, B], {"out": {0, 1}}),
    "positions": (lambda x, w, p: x @ w + p, [X, W, c(3, 6)], {"out": {0}}),
    "heads": (lambda x, w, b: (x @ w + b).reshape(2, 3, 3, 2).transpose(0, 2, 1, 3), [X, W, B], {"out": {0, 2}}),
    "merged": (lambda x, w, b: (x @ w + b).reshape(6, 6), [X, W, B], {"out": {0}}),
    "merged with channels": (lambda x, w, b: (x @ w + b).reshape(2, 18), [X, W, B], {"out": {0}}),
    "a cell of a norm": (lambda x, w, b: (x @ w + b) * lax.rsqrt(b**2 + 1e-6), [X, W, B], {"out": {0, 1}}),
    "a product of params": (lambda w, v: w @ v, [c(2, 1, text="c"), c(1, 3)], {"out": set()}),
    "repeated rows": (lambda b, v: jnp.broadcast_to(b, (3, 6)) @ v, [B, c(6, 2)], {"out": {0}}),
    "joined along rows": (lambda x, w, b: jnp.concatenate([x @ w + b, x @ w + b], 1), [X, W, B], {"out": {0}}),
    "padded": (lambda x, w, b: jnp.pad(x @ w + b, ((0, 0), (1, 0), (0, 0))), [X, W, B], {"out": {0}}),
    "summed over rows": (lambda x, w, b: (x @ w + b).sum(1), [X, W, B], {"out": {0}}),
    "a mask that is known": (lambda x, b: jnp.where(jnp.arange(3)[:, None] < 2, x, b), [L(2, 3, 6), B], {"out": {0, 1}}),
    "masked scores": (lambda s: jnp.where(jnp.tri(3, dtype=bool), s, -1e9), [L(2, 3, 3)], {"out": {0, 1, 2}}),
    "two values by a known mask": (lambda b, v: jnp.where(jnp.arange(3)[:, None] < 2, b, v), [B, B], {"out": set()}),
    "a triangle": (lambda x: x * 0 + jnp.tri(3), [L(2, 3, 3)], {"out": {0}}),
    "a convolution and its bias": (lambda x, w, b: conv(x, w, "SAME") + b, [IMAGE, KERNEL, CHANNELS], {"out": {0, 1, 2}}),
    "a convolution of constants, padded": (
        convolved_twice("SAME"), [IMAGE, c(3, 3, 3, 4, text="."), CHANNELS, c(3, 3, 4, 2)], {"out": {0}}
    ),
    "a convolution of constants, valid": (
        convolved_twice("VALID"), [IMAGE, c(3, 3, 3, 4, text="."), CHANNELS, c(3, 3, 4, 2)], {"out": {0, 1, 2}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_axes(name):
    fn, operands, expected = UNIFORM[name]
    program, _ = trace(fn, *(jax.ShapeDtypeStruct(o.shape, o.dtype) for o in operands))
    facts = propagate(program, [o.fact for o in operands])
    found = uniform_axes(program, facts)
    named = dict(zip(names(fn), program.inputs, strict=True)) | {"out": program.outputs[0]}
    sizes = lambda v: {d for d in range(len(v.shape)) if v.shape[d] > 1}
    assert {k: found[named[k]] & sizes(named[k]) for k in expected} == expected


@pytest.mark.parametrize("names", batches(CASES))
def test_nothing_varies_along_a_uniform_axis(names):
    for seed, kind in enumerate(["channel", "live, const"]):
        trials = [Trial(name, seed, kind) for name in names]
        for trial, (_, values) in zip(trials, run(trials), strict=True):
            with of_case(trial.name):
                found = uniform_axes(trial.program, trial.facts)
                for variable, value in values.items():
                    cells = trial.cells(variable)
                    value = np.where(cells == ZERO, np.zeros_like(value), value)
                    for axis in found[variable]:
                        assert not varies(value, cells != LIVE, axis), f"{kind}: {variable.aval} varies along axis {axis}"


def varies(value: np.ndarray, fixed: np.ndarray, axis: int) -> bool:
    """Whether elements that are `fixed` differ along an axis."""
    if 0 in value.shape:
        return False
    wide = np.nan_to_num(value.astype(np.complex128).real + value.astype(np.complex128).imag * 1.7, nan=7.5)
    low, high = np.where(fixed, wide, np.inf).min(axis), np.where(fixed, wide, -np.inf).max(axis)
    return bool((high - low > 1e-5 * np.maximum(1, np.abs(low)))[low < np.inf].any())


def test_a_propagation_tells_them_by_name():
    params = {"w": np.zeros((4, 6), np.float32), "b": np.ones(6, np.float32)}
    tesa = {"w": sj.TeSA(np.arange(24).reshape(4, 6) % 2 == 0), "b": None}
    found = sj.propagate(lambda p, x: x @ p["w"] + p["b"], tesa)(params, np.zeros((2, 3, 4), np.float32))
    assert found.uniform_axes("output") == (0, 1)
    assert found.uniform_axes("p['b']") == ()
