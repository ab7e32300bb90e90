"""What propagation finds, exactly: neither too little (the law in `test_rules` sees that) nor too much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreters.cases import attention, gradient, hidden, rounded, straight

from sparta_jax.grid import Grid
from sparta_jax.interpreters.facts import CONST, LIVE, ZERO, Fact
from sparta_jax.interpreters.jaxprs import trace
from sparta_jax.interpreters.propagate import propagate

Z, C, L = int(ZERO), int(CONST), int(LIVE)


def found(fn, *facts, needs=None, dtypes=None):
    """The value cells of the outputs and the needs of the inputs, element by element; a fact is given as an array of cells."""
    cells = [np.asarray(f, np.uint8) for f in facts]
    dtypes = dtypes or ["float32"] * len(cells)
    shapes = [jax.ShapeDtypeStruct(c.shape, d) for c, d in zip(cells, dtypes, strict=True)]
    program, _ = trace(fn, *shapes)
    wanted = None if needs is None else [Grid.of_elements(np.asarray(n, bool)) for n in needs]
    facts = propagate(program, [Fact(Grid.of_elements(c)) for c in cells], wanted)
    outs = [facts.value(v).value.elements() for v in program.outputs]
    return outs, [facts.need(v).elements() for v in program.inputs]


def value_of(fn, *facts, **kwargs):
    (out, *_), _ = found(fn, *facts, **kwargs)
    return out


def live(*shape):
    return np.full(shape, LIVE)


def channels(n: int, *dead: int, value=LIVE) -> np.ndarray:
    return np.where(np.isin(np.arange(n), dead), ZERO, value)


def same(got, expected):
    np.testing.assert_array_equal(got, np.broadcast_to(expected, got.shape))


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


# -- movement


def test_heads_die_through_a_reshape():
    """A dead head of `[b, t, h * e]` is a dead head of `[b, h, t, e]`, and the output projection's rows are not needed."""
    heads = lambda x, w, o: (x @ w).reshape(2, 3, 4, 2).transpose(0, 2, 1, 3).transpose(0, 2, 1, 3).reshape(2, 3, 8) @ o
    split = lambda x, w: (x @ w).reshape(2, 3, 4, 2).transpose(0, 2, 1, 3)
    dead = np.isin(np.arange(8) // 2, [1, 3])
    w = np.where(dead, Z, L) * np.ones((5, 1), int)
    same(value_of(split, live(2, 3, 5), w), np.where(np.isin(np.arange(4), [1, 3]), Z, L)[:, None, None])
    _, (_, _, need) = found(heads, live(2, 3, 5), w, live(8, 6))
    same(need, ~dead[:, None])


def test_a_concatenation_keeps_its_parts():
    outs, needs = found(
        lambda x, y: jnp.concatenate([x, y], 1), [[L, Z]], [[Z, C, L]], needs=[[[True, True, False, False, True]]]
    )
    same(outs[0], [[L, Z, Z, C, L]])
    same(needs[0], [[True, True]])
    same(needs[1], [[False, False, True]])


def test_what_a_slice_leaves_is_not_needed():
    _, (need,) = found(lambda x: x[1:6:2], live(8))
    same(need, np.isin(np.arange(8), [1, 3, 5]))


def test_padding_and_shifts():
    same(value_of(lambda x: jnp.pad(x, (1, 2)), [L, Z, L]), [Z, L, Z, L, Z, Z])
    same(value_of(lambda x: jnp.pad(x, (1, 2), constant_values=3), [L, Z, L]), [C, L, Z, L, C, C])
    same(value_of(lambda x: jnp.roll(x, 1), [L, Z, C]), [C, L, Z])
    same(value_of(lambda x: x[::-1], [L, Z, C]), [C, Z, L])


def test_columns_that_nobody_reads():
    """Half of a fused projection is unread: its weight's columns are not needed."""
    _, (_, need) = found(lambda x, w: jnp.split(x @ w, 2, 1)[0], live(3, 4), live(4, 6))
    same(need, np.arange(6) < 3)


def test_a_value_is_needed_where_any_use_needs_it():
    _, (need,) = found(lambda x: (x[:2] * 2, jnp.sin(x)[3:]), live(5))
    same(need, [True, True, False, True, True])


# -- indexing


def test_dead_columns_of_a_table_stay_dead():
    table = channels(4, 1, 2)[None, :] * np.ones((6, 1), int)
    same(value_of(lambda t, i: t[i], table, live(3), dtypes=["float32", "int32"]), channels(4, 1, 2))
    same(
        value_of(lambda t, i: jnp.take(t, i, axis=0, mode="clip"), table, live(3), dtypes=["float32", "int32"]),
        channels(4, 1, 2),
    )


def test_an_index_outside_may_fill_a_dead_column():
    table = channels(4, 1, 2)[None, :] * np.ones((6, 1), int)
    same(value_of(lambda t, i: jnp.take(t, i, axis=0), table, live(3), dtypes=["float32", "int32"]), L)


def test_known_rows_are_followed():
    outs, needs = found(lambda t: t[np.array([4, 0, 4])], np.array([L, L, L, L, Z])[:, None] * np.ones((1, 2), int))
    same(outs[0], [[Z], [L], [Z]])
    same(needs[0], np.isin(np.arange(5), [0, 4])[:, None])


def test_rows_that_no_position_reads():
    positions = lambda table, x: x + table[: x.shape[0]]
    _, (need, _) = found(positions, live(8, 2), live(3, 2))
    same(need, (np.arange(8) < 3)[:, None])


def test_a_written_column_is_written():
    outs, needs = found(lambda x: x.at[:, 1].set(0), live(3, 4))
    same(outs[0], channels(4, 1))
    same(needs[0], np.arange(4) != 1)


def test_a_cache_is_updated_in_place():
    fn = lambda cache, new: jax.lax.dynamic_update_slice(cache, new, (2, 0))
    outs, needs = found(fn, np.zeros((5, 2)), live(1, 2))
    same(outs[0], np.where(np.arange(5) == 2, L, Z)[:, None])
    same(needs[0], np.arange(5)[:, None] != 2)


# -- reductions, softmax, norms


def test_reductions():
    x = np.array([[Z, Z, Z], [Z, C, Z], [L, C, Z]])
    same(value_of(lambda x: x.sum(1), x), [Z, C, L])
    same(value_of(lambda x: x.max(1), x), [Z, C, L])
    same(value_of(lambda x: x.prod(1), x), Z)
    same(value_of(lambda x: jnp.cumsum(x, 1), x), [[Z, Z, Z], [Z, C, C], [L, L, L]])
    same(value_of(lambda x: jnp.cumprod(x[:, :2], 1), x), [[Z, Z], [Z, Z], [L, L]])
    same(value_of(lambda x: jnp.sort(x, 1), x), [[Z], [C], [L]])


def test_a_softmax_counts_its_dead_inputs():
    same(value_of(jax.nn.softmax, [[Z, L, Z]]), L)
    same(value_of(jax.nn.softmax, [[Z, C, Z]]), C)


def test_a_norm_counts_its_dead_channels():
    """A dead channel is moved by the mean, not by the root mean square."""
    centred = lambda x: x - x.mean(-1, keepdims=True)
    scaled = lambda x: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    same(value_of(centred, [[Z, L]]), L)
    same(value_of(scaled, [[Z, L]]), [[Z, L]])


def test_a_dead_gate_kills_its_partner():
    gated = lambda x, w, v: jax.nn.silu(x @ w) * (x @ v)
    outs, (_, _, need) = found(gated, live(2, 3), live(3, 4) * (channels(4, 2) > 0), live(3, 4))
    same(outs[0], channels(4, 2))
    same(need, np.arange(4) != 2)


# -- gradients and calls


def test_the_gradient_of_a_relu_keeps_its_zeros():
    """relu'(0) = 0: the cotangent of a dead channel is zero, and dw with it."""
    fn = gradient(lambda w, x: jax.nn.relu(x @ w), 0)
    same(value_of(fn, live(3, 4) * (channels(4, 1) > 0), live(2, 3)), channels(4, 1))


def test_dx_meets_the_weight_again():
    fn = gradient(lambda w, x: jnp.tanh(x @ w), 1)
    w = live(3, 4) * (channels(3, 2)[:, None] > 0)
    same(value_of(fn, w, live(2, 3)), channels(3, 2))


def test_straight_through_keeps_what_its_backward_needs():
    outs, needs = found(rounded, [Z, C, L])
    same(outs[0], [Z, C, L])
    same(needs[0], True)


def test_a_hidden_gradient_keeps_its_operands():
    outs, needs = found(straight, live(3), live(3))  # the primal is zero and needs nothing
    same(outs[0], L)
    same(np.array(needs), True)


def test_straight_through_lets_go_of_what_its_backward_does_not_need():
    """The gradient is that of `x * y`: where one is dead, the other's is zero and the dead one's belongs to nobody."""
    outs, needs = found(straight, [Z, L, L], [L, L, Z])
    same(outs[0], [Z, L, Z])
    same(needs[0][2], False)
    same(needs[1][0], False)


def test_a_hidden_tangent_keeps_a_zero_alive():
    outs, needs = found(hidden, [L, L, L], [Z, C, L])
    same(outs[0], [Z, C, L])
    same(needs[1], True)


def test_an_unread_custom_call_needs_nothing():
    for fn in (rounded, jax.nn.relu, lambda x: straight(x, x), jax.checkpoint(jnp.sin)):
        _, (need,) = found(fn, live(3), needs=[[True, False, True]])
        same(need, [True, False, True])


def test_a_derivative_that_cannot_be_traced_is_live():
    @jax.custom_jvp
    def f(x):
        return x * 0

    @f.defjvp
    def f_jvp(primals, tangents):
        if float(primals[0][0]) > 0:
            raise NotImplementedError
        return f(*primals), tangents[0]

    outs, needs = found(f, [Z, L], needs=[[False, True]])
    same(outs[0], L)
    same(needs[0], True)


def test_remat_is_looked_into():
    fn = jax.checkpoint(lambda x, w: jnp.tanh(x @ w))
    same(value_of(fn, live(2, 3), live(3, 4) * (channels(4, 0) > 0)), channels(4, 0))


# -- what stays dense


def test_an_effect_needs_its_operands():
    def fn(x):
        jax.debug.print("{}", x[:2])
        return x[3:]

    _, (need,) = found(fn, live(5))
    same(need, [True, True, False, True, True])


def test_lost_zeros_are_named():
    fn = lambda x: jnp.abs(jax.pure_callback(np.sin, x, x * 2))
    program, _ = trace(fn, jax.ShapeDtypeStruct((3,), "float32"))
    facts = propagate(program, [Fact(Grid.of_elements(np.array([Z, L, L], np.uint8)))])
    assert [e.name for e in facts.dropped] == ["pure_callback"]
    same(facts.value(program.outputs[0]).value.elements(), L)


def test_without_data_everything_is_constant():
    fn = lambda x: jnp.abs(jnp.fft.fft(x * 2))
    same(value_of(fn, [Z, C, C]), C)


def test_random_numbers_of_a_fixed_key_are_constants():
    fn = lambda x: jax.random.normal(jax.random.key(0), x.shape) + 0 * x
    same(value_of(fn, [Z, Z]), C)


def test_uniform_grids_stay_small():
    """A dead channel of a large activation costs a few cells."""
    w = Fact(Grid.of_elements(channels(1024, 5)).broadcast((512, 1024), [1]))
    shapes = (64, 128, 512), (512, 1024)
    fn = lambda x, w: jax.nn.gelu(x @ w).reshape(64, 128, 16, 64)
    program, _ = trace(fn, *(jax.ShapeDtypeStruct(s, "float32") for s in shapes))
    facts = propagate(program, [Fact.live(shapes[0]), w])
    assert max(f.value.cells.size for f in facts.values.values()) <= 1024
