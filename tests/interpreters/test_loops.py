"""What propagation finds in loops and branches, exactly; the law in `test_rules` sees that it is not too much."""

import jax.numpy as jnp
import numpy as np
import pytest
from interpreters.propagated import C, L, Z, channels, found, live, same, value_of
from jax import lax

import sparta_jax.interpreters.rules.bodies as bodies


def test_a_carry_that_stays_zero_is_zero():
    same(value_of(lambda x, w: lax.scan(lambda c, w: (c * w, None), x, w)[0], channels(4, 1, 2), live(3, 4)), channels(4, 1, 2))


def test_a_carry_grows_until_nothing_changes():
    shift = lambda x, y: lax.scan(lambda c, _: (jnp.concatenate([c[:1], c[:-1]]), c), x, y)
    final, seen = found(shift, np.where(np.arange(6) < 1, L, Z), live(9))[0]
    same(final, L)
    same(seen, L)


def test_a_carry_that_grows_for_long_is_live():
    shift = lambda x: lax.fori_loop(0, 60, lambda _, c: jnp.concatenate([c[:1], c[:-1]]), x)
    same(value_of(shift, np.where(np.arange(90) < 1, L, Z)), L)


def test_no_more_iterations_than_there_are():
    shift = lambda x, y: lax.scan(lambda c, _: (jnp.concatenate([c[:1], c[:-1]]), c[-1]), x, y)
    final, last = found(shift, np.where(np.arange(6) < 1, L, Z), live(2))[0]
    same(final, [L, L, L, Z, Z, Z])
    same(last, Z)


@pytest.mark.parametrize("reverse", [False, True])
def test_slices_of_different_masks_are_joined(reverse):
    w = np.stack([channels(4, 0, 1), channels(4, 1, 2)])
    layer = lambda c, w: (c, c * w)
    (_, ys), (_, need) = found(lambda x, w: lax.scan(layer, x, w, reverse=reverse), live(4), w)
    same(ys, channels(4, 1))
    same(need, True)


def test_a_loop_without_iterations_passes_its_carry_on():
    fn = lambda x, w, y: lax.scan(lambda c, y: (c @ w + y, c), x, y)[0]
    (out,), (x, w, _) = found(fn, channels(3, 1), live(3, 3), live(0, 3), needs=[np.arange(3) > 0])
    same(out, channels(3, 1))
    same(x, np.arange(3) > 0)
    same(w, False)


def test_a_counter_does_not_depend_on_the_data():
    fn = lambda x: lax.scan(lambda c, x: (c + 1, (c, x)), 0, x)[1]
    same(value_of(fn, live(5, 2)), C)


def test_what_is_carried_has_no_known_value():
    fn = lambda x: lax.fori_loop(0, 3, lambda i, c: (c[0] + 1, jnp.where(c[0] > 0, c[1], c[2]), c[2]), (0, x, x * 2))[1]
    same(value_of(fn, channels(4, 1)), channels(4, 1))
    fn = lambda x, y: lax.fori_loop(0, 3, lambda i, c: (c[0] + 1, jnp.where(c[0] > 0, y, c[1])), (0, x))[1]
    same(value_of(fn, channels(4, 1), live(4)), L)


def test_a_dead_carry_is_not_needed():
    fn = lambda x, y: lax.scan(lambda c, y: ((c[0] * y, c[1] + y), None), (x, x * 2), y)[0][0]
    _, (x, y) = found(fn, channels(4, 2), live(3, 4))
    same(x, True)
    same(y, channels(4, 2) > 0)


def test_needs_flow_backward_through_the_iterations():
    shift = lambda x, y: lax.scan(lambda c, _: (jnp.concatenate([c[1:], c[:1]]), None), x, y)[0]
    _, (x, _) = found(shift, live(6), live(2), needs=[np.arange(6) == 0])
    same(x, np.isin(np.arange(6), (1, 2)))


def test_dead_columns_free_rows_of_the_next_layer():
    w = np.stack([live(4, 4) * (channels(4, 1) > 0)] * 3)
    _, (_, need) = found(
        lambda x, w: lax.scan(lambda c, w: (jnp.sin(c @ w), None), x, w)[0], live(2, 4) * (channels(4, 1) > 0), w
    )
    same(need, (channels(4, 1) > 0)[:, None])


# -- while


def test_a_loop_over_the_data_makes_constants_live():
    fn = lambda x, k: lax.while_loop(lambda c: c[0].sum() < 9, lambda c: (c[0] + 1, c[1] * 2, c[2]), (x, k, k))[1:]
    outs, _ = found(fn, live(4), channels(4, 1, value=C))
    same(outs[0], channels(4, 1))
    same(outs[1], channels(4, 1, value=C))


def test_a_loop_over_constants_keeps_them():
    fn = lambda x, k: lax.while_loop(lambda c: c[0] < k[0], lambda c: (c[0] + 1, c[1] * 2, c[2] + x), (0.0, k, x))[1:]
    outs, _ = found(fn, live(4), channels(4, 1, value=C))
    same(outs[0], channels(4, 1, value=C))


def test_the_condition_is_needed():
    fn = lambda x, y: lax.while_loop(lambda c: c[0][0] < 9, lambda c: (c[0] + 1, c[1] * 2), (x, y))[1]
    _, (x, y) = found(fn, live(4), live(4), needs=[np.arange(4) < 2])
    same(x, np.arange(4) < 1)
    same(y, np.arange(4) < 2)


# -- branches


def test_branches_are_joined():
    first, second = lambda x, y: x * y, lambda x, y: x
    fn = lambda i, x, y: lax.cond(i > 0, first, second, x, y)
    (out,), (i, x, y) = found(fn, np.asarray(L), channels(4, 1), channels(4, 2), dtypes=["int32", "float32", "float32"])
    same(out, channels(4, 1))
    same(i, True)
    same(x, True)
    same(y, channels(4, 1) > 0)


def test_a_choice_by_the_data_makes_constants_live():
    fn = lambda i, k: lax.cond(i > 0, lambda k: (k * 2, k), lambda k: (k, k), k)
    outs, _ = found(fn, np.asarray(L), channels(4, 1, value=C), dtypes=["int32", "float32"])
    same(outs[0], channels(4, 1))
    same(outs[1], channels(4, 1, value=C))


def test_a_known_choice_is_one_branch():
    fn = lambda x, y: lax.switch(jnp.int32(7), [lambda x, y: x, lambda x, y: x * y], x, y)
    same(value_of(fn, channels(4, 1), channels(4, 2)), channels(4, 1, 2))


def test_the_choice_between_zeros_is_not_needed():
    fn = lambda i, x: lax.cond(i > 0, lambda x: x * 2, lambda x: x, x)
    _, (i, _) = found(fn, np.asarray(L), np.full(4, Z), dtypes=["int32", "float32"])
    same(i, False)


# -- solve


def test_a_right_side_of_zeros_has_a_solution_of_zeros():
    fn = lambda a, b: lax.custom_linear_solve(lambda x: a @ x, b, lambda _, b: jnp.linalg.inv(a) @ b)
    same(value_of(fn, live(3, 3), np.full(3, Z)), Z)
    same(value_of(fn, np.full((3, 3), C), channels(3, 1, value=C)), C)
    same(value_of(fn, live(3, 3), channels(3, 1, value=C)), L)


# -- cost


def test_a_body_is_swept_a_few_times(monkeypatch):
    sweeps = []
    sweep = bodies.forward_sweep
    monkeypatch.setattr(bodies, "forward_sweep", lambda *args: sweeps.append(1) or sweep(*args))
    w = np.stack([live(4, 4)] * 32)
    found(lambda x, w: lax.scan(lambda c, w: (jnp.sin(c @ w), None), x, w)[0], channels(4, 1), w)
    assert len(sweeps) <= 3
