"""What propagation finds of products and of f(0), exactly: neither too little (`test_rules` sees that) nor too much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreters.program_cases import attention
from interpreters.propagated import C, L, Z, channels, found, live, same, value_of

from sparta_jax.interpreters.facts import Fact
from sparta_jax.interpreters.jaxprs import trace
from sparta_jax.interpreters.propagate import propagate

# -- a product


def test_a_product_is_zero_where_no_pair_is_live():
    a, b = np.array([[L, Z, L], [Z, L, Z]]), np.array([[L, Z], [Z, L], [Z, Z]])
    same(value_of(jnp.matmul, a, b), [[L, Z], [Z, L]])


def test_a_dead_column_of_the_left_frees_a_row_of_the_right():
    _, (_, need) = found(jnp.matmul, live(3, 4) * (channels(4, 2) > 0), live(4, 5))
    same(need, np.isin(np.arange(4), 2, invert=True)[:, None])


def test_a_dead_row_of_the_right_frees_a_column_of_the_left():
    _, (need, _) = found(jnp.matmul, live(3, 4), live(4, 5) * (channels(4, 1)[:, None] > 0))
    same(need, np.isin(np.arange(4), 1, invert=True))


def test_an_unread_element_frees_nothing_an_unread_row_its_row():
    element, row, column = np.ones((3, 3, 5), bool)
    element[1, 2] = row[1] = column[:, 2] = False
    for need, left, right in ((element, False, False), (row, True, False), (column, False, True)):
        _, (need_a, need_b) = found(jnp.matmul, live(3, 4), live(4, 5), needs=[need])
        same(need_a, np.arange(3)[:, None] != 1 if left else True)
        same(need_b, np.arange(5) != 2 if right else True)


def test_a_dead_input_channel_dies_through_two_layers():
    """A weight's dead columns free those of the bias' consumer only where the bias is dead too."""
    w1, w2 = live(4, 6) * (channels(6, 0, 3) > 0), live(6, 2)
    two = lambda x, w1, w2: jnp.tanh(x @ w1) @ w2
    _, (_, _, need) = found(two, live(3, 4), w1, w2)
    same(need, (channels(6, 0, 3) > 0)[:, None])


# -- f(0)


@pytest.mark.parametrize(
    "fn", [jnp.tanh, jnp.sin, jnp.abs, jnp.sqrt, jax.nn.relu, jax.nn.relu6, jax.nn.gelu, jax.nn.silu, jax.nn.elu]
)
def test_f_of_zero_is_zero(fn):
    same(value_of(fn, [Z, C, L]), [Z, C, L])


@pytest.mark.parametrize("fn", [jnp.exp, jnp.cos, jax.nn.sigmoid, jax.nn.softplus, lambda x: x + 1, lambda x: x == 0])
def test_f_of_zero_is_a_constant(fn):
    same(value_of(fn, [Z, C, L]), [C, C, L])


def test_a_bias_makes_a_dead_channel_constant():
    w, b = live(4, 3) * (channels(3, 1) > 0), np.array([C, C, Z])
    same(value_of(lambda x, w, b: jax.nn.relu(x @ w + b), live(2, 4), w, b), [L, C, L])


@pytest.mark.parametrize(
    ("fn", "zero"),
    [
        (lambda x: x > 0, True), (lambda x: x >= 0, False), (lambda x: x < 0, True), (lambda x: x != 0, True),
        (lambda x: x > 0.5, True), (lambda x: x >= 0.5, True), (lambda x: x < 0.5, False), (lambda x: x > -0.5, False),
        (lambda x: jnp.maximum(x, -1), True), (lambda x: jnp.maximum(x, 1), False), (lambda x: jnp.minimum(x, 1), True),
        (lambda x: jnp.clip(x, -1, 1), True), (lambda x: jnp.clip(x, 1, 2), False), (lambda x: x**0.5, True),
        (lambda x: x**2, True), (lambda x: x**-2, False), (lambda x: x % 2, True), (lambda x: x / 3, True),
        (lambda x: 3 / x, False),
    ],
)  # fmt: skip
def test_zero_against_a_known_number(fn, zero):
    same(value_of(fn, [Z, L]), [Z if zero else C, L])


def test_zero_against_anything():
    same(value_of(lambda x, y: x * y, [Z, C, Z, L], [L, Z, Z, C]), [Z, Z, Z, L])
    same(value_of(lambda x, y: x / y, [Z, C, Z, L], [L, Z, Z, C]), [Z, C, Z, L])
    same(value_of(jnp.fmod, [Z, Z], [L, C]), [L, C])
    same(value_of(jnp.power, [Z, L], [L, Z]), L)


def test_the_partner_of_a_zero_is_not_needed():
    _, (x, y) = found(lambda x, y: x * y, [Z, L, L], [L, Z, L])
    same(x[1:], [False, True])
    same(y[[0, 2]], [False, True])
    _, (x, y) = found(lambda x, y: x / y, [Z, L], [L, Z])
    same(x, True)
    same(y, [False, True])
    _, (x, y) = found(lambda x, y: x + y, [Z, L], [L, Z])
    same(np.array([x, y]), True)


# -- known constants


def test_a_closed_over_mask_is_found():
    mask = np.array([[True, False, True], [False, True, True]])
    expected = np.where(mask, L, Z)
    closed = jnp.asarray(mask)
    same(value_of(lambda w: w * closed.astype(w.dtype), live(2, 3)), expected)
    same(value_of(lambda w: w * mask.astype(np.float32), live(2, 3)), expected)
    same(value_of(lambda w: jnp.where(closed, w, 0), live(2, 3)), expected)
    same(value_of(jax.jit(lambda w: w * closed.astype(w.dtype)), live(2, 3)), expected)


def test_a_mask_that_is_an_operand_is_found():
    outs, needs = found(lambda w, m: w * m, live(4), [C, Z, C, Z])
    same(outs[0], [L, Z, L, Z])
    same(needs[0], [True, False, True, False])


@pytest.mark.parametrize(
    "causal",
    [
        lambda s: jnp.where(jnp.tril(jnp.ones(s.shape, bool)), s, -1e9),
        lambda s: jnp.where(jax.lax.broadcasted_iota(jnp.int32, s.shape, 0) >= jnp.arange(s.shape[1]), s, -1e9),
        lambda s: jnp.where(jnp.tri(s.shape[0]) == 0, -jnp.inf, s),
        lambda s: jnp.where(jnp.cumsum(jnp.eye(s.shape[0], dtype=jnp.int32), 1).T > 0, s, -1e9),
    ],
)
def test_a_masked_score_is_not_needed(causal):
    outs, needs = found(causal, live(5, 5))
    lower = np.tri(5, dtype=bool)
    same(outs[0], np.where(lower, L, C))
    same(needs[0], lower)


def test_an_added_mask_is_zero_where_it_allows():
    bias = lambda x: (1 - jnp.tri(4)) * -1e9 + 0 * x
    same(value_of(bias, np.zeros((4, 4))), np.where(np.tri(4, dtype=bool), Z, C))


def test_the_upper_half_of_causal_attention_is_not_computed():
    shapes = (6, 2, 3), (6, 2, 3), (6, 2, 3), (2, 3, 6), (2, 4, 6)
    program, _ = trace(attention, *(jax.ShapeDtypeStruct(s, "float32") for s in shapes))
    facts = propagate(program, [Fact.live(s) for s in shapes])
    scores = next(e.outputs[0] for e in program.equations if e.name == "dot_general" and e.outputs[0].shape[-2:] == (4, 4))
    same(facts.need(scores).elements(), np.tri(4, dtype=bool))
