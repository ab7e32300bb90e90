"""Masked scores: which weights of a softmax are called zero, and that they may be taken as such."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import batches, of_case, together

from sparta_jax.interpreters.facts import LIVE, ZERO, Fact
from sparta_jax.interpreters.jaxprs import bind, evaluate, trace
from sparta_jax.interpreters.propagate import propagate
from sparta_jax.interpreters.scores import Freedom

nn = pytest.importorskip("flax.linen")
TRI = jnp.tri(4, dtype=bool)
LOWER, NONE, LAST = np.tri(4, dtype=bool), np.ones((4, 4), bool), np.arange(4) < 3
UPPER = jnp.triu(jnp.ones((4, 4), bool), 1)
BELOW = np.triu(NONE, 1) | (np.arange(4) == 3)[:, None]


def causal(s, number=-1e9):
    return jnp.where(TRI, s, jnp.asarray(number, s.dtype))


def by_hand(s, axis=-1, keep=True):
    e = jnp.exp(s - (s.max(axis, keepdims=True) if keep else s.max(axis)[None]))
    return e / e.sum(axis, keepdims=True)


def cast(s, dtype):
    return jax.nn.softmax(causal(s.astype(dtype), -1e4).astype(jnp.float32))


def half(s):
    s = s.astype(jnp.float16)
    return jax.nn.softmax((s + jnp.where(TRI, jnp.float16(0), jnp.finfo(s.dtype).min)).astype(jnp.float32))


def attention(q, **kwargs):
    q = q[None, :, None].repeat(2, 2)
    return jax.nn.dot_product_attention(q, q, jnp.eye(4)[None, :, None].repeat(2, 2), **kwargs)[0, :, 0]


def flax_attention(q, **kwargs):
    q = q[None, :, None]
    return nn.dot_product_attention(q, q, jnp.eye(4)[None, :, None], **kwargs)[0, :, 0]


# name: (weights of scores [4, 4], which may differ from zero, which may under strict)
WEIGHTS = {
    "chosen": (lambda s: jax.nn.softmax(causal(s)), LOWER, NONE),
    "chosen by -1e4": (lambda s: jax.nn.softmax(causal(s, -1e4)), LOWER, NONE),
    "chosen by the least float": (lambda s: jax.nn.softmax(causal(s, jnp.finfo(s.dtype).min)), LOWER, NONE),
    "chosen by minus infinity": (lambda s: jax.nn.softmax(causal(s, -jnp.inf)), LOWER, NONE),
    "chosen by -1e3": (lambda s: jax.nn.softmax(causal(s, -1e3)), NONE, NONE),
    "added": (lambda s: jax.nn.softmax(s + (1 - jnp.tri(4)) * -1e9), LOWER, NONE),
    "added twice": (lambda s: jax.nn.softmax(s + s + jnp.where(TRI, 0.0, -1e9)), LOWER, NONE),
    "added, -1e4": (lambda s: jax.nn.softmax(s + (1 - jnp.tri(4)) * -1e4), NONE, NONE),
    "subtracted": (lambda s: jax.nn.softmax(s - 1e10 * (1 - jnp.tri(4))), LOWER, NONE),
    "scaled behind": (lambda s: jax.nn.softmax(causal(s) * 0.125 / 2), LOWER, NONE),
    "scaled by a negative number": (lambda s: jax.nn.softmax(causal(s) * -1.0), NONE, NONE),
    "cast behind": (lambda s: cast(s, jnp.bfloat16), LOWER, NONE),
    "added in float16": (half, LOWER, NONE),
    "padded": (lambda s: jax.nn.softmax(jnp.pad(s[:, :3], ((0, 0), (0, 1)), constant_values=-1e9)), LAST, NONE),
    "joined": (lambda s: jax.nn.softmax(jnp.concatenate([s[:, :3], jnp.full((4, 1), -1e9)], 1)), LAST, NONE),
    "moved": (lambda s: jax.nn.softmax(causal(s).reshape(2, 2, 4).transpose(2, 0, 1), axis=0).reshape(4, 4).T, LOWER, NONE),
    "along columns": (lambda s: jax.nn.softmax(causal(s), axis=0), LOWER, NONE),
    "by hand": (lambda s: by_hand(causal(s)), LOWER, NONE),
    "with a maximum of the wrong axis": (lambda s: by_hand(causal(s), keep=False), NONE, NONE),
    "without a maximum": (lambda s: jnp.exp(causal(s)), LOWER, LOWER),
    "sigmoid": (lambda s: jax.nn.sigmoid(causal(s)), LOWER, LOWER),
    "a row that is masked whole": (lambda s: jax.nn.softmax(jnp.where(UPPER, s, -1e9)), BELOW, NONE),
    "a row that the data may mask": (lambda s: jax.nn.softmax(causal(jnp.where(s[0] > 0, s, -1e9))), NONE, NONE),
    "in remat": (jax.checkpoint(lambda s: jax.nn.softmax(causal(s))), LOWER, NONE),
    "attention": (lambda s: attention(s, is_causal=True), LOWER, NONE),
    "attention, bias": (lambda s: attention(s, bias=jnp.where(TRI, 0, -1e9)[None, None]), LOWER, NONE),
    "flax": (lambda s: flax_attention(s, mask=nn.make_causal_mask(jnp.ones((1, 4)))), LOWER, NONE),
    "flax, bias": (lambda s: flax_attention(s, bias=jnp.where(TRI, 0, -1e10)[None, None]), LOWER, NONE),
}  # fmt: skip


def analysed(name: str, strict: bool):
    program, _ = trace(WEIGHTS[name][0], jax.ShapeDtypeStruct((4, 4), "float32"))
    return program, propagate(program, [Fact.live((4, 4))], freedom=None if strict else Freedom())


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("strict", [False, True])
def test_the_weights_that_are_zero(name, strict):
    program, facts = analysed(name, strict)
    nonzero = facts.value(program.outputs[0]).nonzero.elements()
    np.testing.assert_array_equal(nonzero, np.broadcast_to(WEIGHTS[name][1 + strict], (4, 4)))
    assert strict or bool(facts.freedom.taken) == (WEIGHTS[name][1] is not WEIGHTS[name][2])


@pytest.mark.parametrize("names", batches(WEIGHTS))
def test_what_is_called_zero_is(names, rng):
    """Scores of an ordinary size: every variable is zero where it is called so, and the output does not need the rest."""
    found = {name: analysed(name, strict=False) for name in names}
    scores = rng.normal(size=(4, 4)).astype(np.float32)
    run = together({name: partial(whole_and_killed, *found[name]) for name in names}, optimized=False)
    results = run([(scores,) for _ in names])
    for (name, (program, facts)), (values, expected, got) in zip(found.items(), results, strict=True):
        with of_case(name):
            for variable, value in zip(variables_of(program), values, strict=True):
                zero = facts.value(variable).value.elements() == ZERO
                assert (np.asarray(value)[zero] == 0).all()
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


def whole_and_killed(program, facts, scores):
    """The values of all variables and the output, and the output where in every variable is killed what may be."""

    def run(change):
        step = lambda e, values: [change(v, x) for v, x in zip(e.outputs, bind(e, values), strict=True)]
        return evaluate(program, [change(program.inputs[0], scores)], step)[0]

    values = {}
    keep = lambda variable, value: values.setdefault(variable, value)
    kill = lambda variable, value: jnp.where(facts.live(variable).elements(), value, jnp.zeros((), value.dtype))
    expected = run(keep)
    return [values[v] for v in variables_of(program)], expected, run(kill)


def variables_of(program):
    return [*program.inputs, *(v for e in program.equations for v in e.outputs)]


def test_the_gradient_meets_the_same_zeros():
    loss = lambda s: (jax.nn.softmax(causal(s)) ** 2).sum()
    program, _ = trace(jax.grad(loss), jax.ShapeDtypeStruct((4, 4), "float32"))
    facts = propagate(program, [Fact.live((4, 4))], freedom=Freedom())
    np.testing.assert_array_equal(facts.value(program.outputs[0]).value.elements() == LIVE, LOWER)


def test_a_key_that_no_query_sees_is_not_needed():
    def fn(s, v):
        return jax.nn.softmax(jnp.where(jnp.arange(4) < 3, s, -1e9)) @ v

    program, _ = trace(fn, *[jax.ShapeDtypeStruct((4, 4), "float32")] * 2)
    facts = propagate(program, [Fact.live((4, 4))] * 2, freedom=Freedom())
    np.testing.assert_array_equal(facts.need(program.inputs[1]).elements(), np.broadcast_to(LAST[:, None], (4, 4)))
