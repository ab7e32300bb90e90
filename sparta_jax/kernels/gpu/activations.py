"""The activations of the epilogues of GPU kernels, of primitives that Mosaic and Triton lower."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def _sigmoid(v):
    return 1.0 / (1.0 + jnp.exp(-v))


def _gelu_tanh(v):
    return 0.5 * v * (1.0 + jnp.tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)))


def _gelu_erf(v):
    """`v` times the normal distribution at `v`; the tail's relative error stays small.

    The polynomial is Abramowitz and Stegun, 7.1.26: absolute error of erf at most 1.5e-7.
    """
    a = jnp.maximum(v, -v)
    z = 0.7071067811865476 * a
    t = 1.0 / (1.0 + 0.3275911 * z)
    polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return jnp.maximum(v, 0.0) - a * 0.5 * polynomial * jnp.exp(-z * z)


ACTIVATIONS: dict[str | None, Callable[[jax.Array], jax.Array]] = {
    None: lambda v: v,
    "relu": lambda v: jnp.maximum(v, 0.0),
    "gelu_tanh": _gelu_tanh,
    "gelu_erf": _gelu_erf,
    "silu": lambda v: v * _sigmoid(v),
    "tanh": jnp.tanh,
    "sigmoid": _sigmoid,
}
"""In float32, of primitives that Mosaic lowers (it has no layout for `erf`)."""
