"""What propagation finds of movement, indexing and reductions, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
from interpreters.propagated import C, L, Z, channels, found, live, same, value_of

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
