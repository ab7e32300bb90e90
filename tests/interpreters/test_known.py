"""What the host computes of a program's constants is what XLA computes, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sparta_jax.interpreters.facts import Fact, distinct
from sparta_jax.interpreters.jaxprs import bind, evaluate, trace
from sparta_jax.interpreters.known import EVALUATORS
from sparta_jax.interpreters.propagate import propagate

F = np.array([[0.0, -0.0, 1.5, -2.5], [np.inf, -np.inf, 3.25, -7.0]], np.float32)
I = np.array([[0, -7, 5, 2**31 - 1], [3, -1, 8, -(2**31)]], np.int32)  # noqa: E741
J = np.array([[3, 2, -2, 5], [-4, 7, 3, 3]], np.int32)
B = np.array([[True, False, True, True], [False, False, True, False]])

PROGRAMS = {
    "comparisons": lambda f, i, j, b: [
        op(x, y) for op in (lax.eq, lax.ne, lax.lt, lax.le, lax.gt, lax.ge) for x, y in ((f, -f), (i, j))
    ],
    "logic": lambda f, i, j, b: [b & ~b, b | b[:, ::-1], b ^ b[:, ::-1], i & j, i | j, i ^ j, ~i],
    "arithmetic": lambda f, i, j, b: [
        op(x, y) for op in (lax.add, lax.sub, lax.max, lax.min) for x, y in ((f, f[::-1]), (i, j))
    ],
    "products": lambda f, i, j, b: [
        f * np.float32(-0.5),
        i * j,
        lax.div(i, j),
        lax.rem(i, j),
        lax.square(i),
        lax.integer_pow(j, 3),
    ],
    "products that round": lambda f, i, j, b: [f * np.float32(0.1), lax.square(f), f / np.float32(3), f**3],
    "division by zero": lambda f, i, j, b: [lax.div(j, i), lax.rem(j, i)],
    "unary": lambda f, i, j, b: [
        *(op(f) for op in (lax.abs, lax.neg, lax.sign, lax.floor, lax.ceil)),
        lax.sign(j),
        lax.abs(j),
        -i,
    ],
    "rounding": lambda f, i, j, b: [lax.round(f, lax.RoundingMethod(m)) for m in (0, 1)],
    "clamp": lambda f, i, j, b: lax.clamp(np.float32(-1), f, np.float32(2)),
    "casts": lambda f, i, j, b: [
        f.astype(bool),
        i.astype(np.float32),
        j.astype(np.int8),
        f[:1].astype(np.int32),
        f.astype(jnp.bfloat16),
    ],
    "casts out of range": lambda f, i, j, b: [f.astype(np.int32), i.astype(np.int8)],
    "movement": lambda f, i, j, b: [f.reshape(4, 2), f.T, f[None], f[:, 1:3], f[:, ::2], lax.rev(f, [1]), jnp.tile(f, (2, 1))],
    "parts": lambda f, i, j, b: [jnp.concatenate([f, f], 1), jnp.stack([f, f]), *jnp.split(f, 2, 1), lax.squeeze(f[:1], [0])],
    "padding": lambda f, i, j, b: [jnp.pad(f, 1), lax.pad(f, f[0, 2], [(1, -1, 0), (0, 0, 1)])],
    "positions": lambda f, i, j, b: [lax.iota(np.int32, 5), lax.dynamic_slice(f, (j[0, 0], j[1, 0]), (1, 3))],
    "gathers": lambda f, i, j, b: [
        f[:, jnp.array([2, 0])],
        f[jnp.array([[1, 0], [0, 0]])],
        f[jnp.array([1, 0]), jnp.array([3, 1])],
        jnp.take_along_axis(f, jnp.array([[1, 0], [3, 3]]), 1),
        jnp.take(f, jnp.array([0, 9]), 1, mode="clip"),
        jax.vmap(lambda row, k: jax.lax.dynamic_slice(row, (k,), (2,)))(f, jnp.array([0, 2])),
        jax.vmap(lambda row, k: row[k])(f, jnp.array([[0, 2], [1, 1]])),
    ],
    "scatters": lambda f, i, j, b: [
        f.at[:, jnp.array([2, 0])].set(f[:, :2]),
        f.at[jnp.array([1, 0]), jnp.array([3, 1])].set(7),
        f.at[0, 1:3].set(7),
        f.at[jnp.array([1, 1])].set(2),
        i.at[:, jnp.array([1, 1])].add(j[:, :2]),
        f.at[jnp.array([0, 1]), jnp.array([2, 3])].add(f[0, 2:]),
        jax.vmap(lambda row, k: row.at[k].set(False))(b, jnp.array([0, 2])),
        jnp.fill_diagonal(f, 5, inplace=False),
        b.at[np.tril_indices(2)].set(False),
        f.at[:, jnp.array([2, 9])].set(f[:, :2]),
        f.at[:, jnp.array([2, 9])].set(f[:, :2], mode="clip"),
    ],
    "places that are left to the rules": lambda f, i, j, b: [
        jnp.take(f, jnp.array([0, 9]), 1),
        f.at[jnp.array([1, 1])].set(f),
        f.at[jnp.array([1, 1])].add(f),
        f.at[jnp.array([1])].apply(jnp.abs),
        lax.sort(f),
    ],
    "orders": lambda f, i, j, b: [lax.sort(i), jnp.argsort(j, 0), *lax.sort((j, f), num_keys=1)],
    "choices": lambda f, i, j, b: [jnp.where(b, f, -f), lax.select_n(jnp.abs(j) % 3, i, j, -i)],
    "sums": lambda f, i, j, b: [
        f[0, :2].sum(),
        j.astype(jnp.float32).sum(1),
        jnp.cumsum(jnp.tri(3), 1),
        i.sum(1),
        j.prod(0),
        f.sum(),
        f.max(1),
        f.min(0),
        i.max(),
        b.all(1),
        b.any(0),
    ],
    "reductions of bits": lambda f, i, j, b: [lax.reduce_and(i, [0]), lax.reduce_or(i, [1]), lax.reduce_xor(i, [0])],
    "running": lambda f, i, j, b: [
        *(op(i, 1) for op in (lax.cumsum, lax.cumprod, lax.cummax, lax.cummin)),
        lax.cumsum(j, 0, reverse=True),
        lax.cumsum(f, 1),
    ],
    "identities": lambda f, i, j, b: [lax.stop_gradient(f), jnp.copy(f), jax.device_put(-f), lax.optimization_barrier(f)],
}
DENSE = {
    "products that round": 4,
    "division by zero": 2,
    "casts out of range": 1,
    "rounding": 1,
    "sums": 1,
    "padding": 1,
    "running": 1,
    "places that are left to the rules": 5,
}


def traced(name):
    return trace(lambda: PROGRAMS[name](*map(jnp.asarray, (F, I, J, B))))[0]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_host_agrees_with_xla(name):
    program = traced(name)
    facts = propagate(program, [])
    unknown = 0
    for variable, value in zip(program.outputs, evaluate(program, [], bind), strict=True):
        fact: Fact = facts.value(variable)
        if fact.known is None:
            unknown += 1
            continue
        assert fact.known.dtype == value.dtype
        np.testing.assert_array_equal(fact.known, value)
        np.testing.assert_array_equal(fact.nonzero.elements(), np.asarray(value) != 0)
    assert unknown == DENSE.get(name, 0)


def test_every_evaluator_is_used():
    assert {e.name for name in PROGRAMS for e in traced(name).equations} >= EVALUATORS.keys()


def test_a_mask_that_is_repeated_costs_what_it_says_once():
    """A causal mask over batch and heads has four million elements, of which a thousand differ."""

    def allowed():
        mask = jnp.broadcast_to(jnp.tri(32, dtype=bool), (64, 64, 32, 32))
        return (mask & jnp.ones((64, 1, 1, 32), bool))[:, None].transpose(0, 2, 1, 3, 4)

    program, _ = trace(allowed)
    fact = propagate(program, []).value(program.outputs[0])
    assert fact.known is not None
    assert distinct(fact.known).size == 32 * 32
    assert fact.value.cells.size == 32 * 32
    np.testing.assert_array_equal(fact.known[5, 7, 0], np.tri(32, dtype=bool))
