"""What propagation finds of gradients and calls, exactly, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
from interpreters.case import gradient
from interpreters.program_cases import hidden, rounded, straight
from interpreters.propagated import C, L, Z, channels, found, live, same, value_of

from sparta_jax.grid import Grid
from sparta_jax.interpreters.facts import Fact
from sparta_jax.interpreters.jaxprs import trace
from sparta_jax.interpreters.propagate import propagate

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
