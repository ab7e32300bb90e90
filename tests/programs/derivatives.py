"""Functions with derivatives of their own, for random programs to call."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def straight(x):
    """Rounds to quarters, and passes gradients."""
    return jnp.round(x * 4) / 4


@straight.defjvp
def _straight_jvp(primals, tangents):
    return straight(*primals), tangents[0]


@jax.custom_jvp
def surrogate(x, y):
    """A gate whose derivative is steeper than it is."""
    return x * jnp.tanh(y)


@surrogate.defjvp
def _surrogate_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return surrogate(x, y), 2 * dx * jnp.tanh(y) + x * dy


@jax.custom_vjp
def clipped(x):
    """Doubles, with a clipped gradient."""
    return 2 * x


clipped.defvjp(lambda x: (clipped(x), x), lambda x, g: (jnp.tanh(g) * (1 + x * x),))


@jax.custom_vjp
def product(x, w):
    """A product whose gradient in `x` is halved."""
    return x @ w


def _product_backward(residuals, g):
    x, w = residuals
    return g @ w.T / 2, jnp.einsum("...i,...j->ij", x, g)


product.defvjp(lambda x, w: (product(x, w), (x, w)), _product_backward)
