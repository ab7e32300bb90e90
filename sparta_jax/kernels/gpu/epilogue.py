"""The epilogue of GPU kernels, in float32, of primitives that Mosaic and Triton lower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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
"""Mosaic has no layout for `erf`."""


class Extras(NamedTuple):
    """What an epilogue takes, as arrays or as refs; None where it has none.

    Attributes:
      scale: `f32[n]`.
      bias: `f32[n]`.
      residual: `[m, n]`.
    """

    scale: Any = None
    bias: Any = None
    residual: Any = None


def finished(
    v: jax.Array, activation: str | None, extras: Extras, vector: Callable[[Any], jax.Array], residual: jax.Array | None
) -> jax.Array:
    """`activation(scale * v + bias) + residual` of a part of the result; `vector` reads what a ref of `extras` has for it."""
    if extras.scale is not None:
        v = v * vector(extras.scale)
    if extras.bias is not None:
        v = v + vector(extras.bias)
    v = ACTIVATIONS[activation](v)
    return v if residual is None else v + residual.astype(jnp.float32)
