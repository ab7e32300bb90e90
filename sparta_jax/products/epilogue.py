"""What is computed behind a product: the reference of every epilogue."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..problem import Epilogue

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_erf": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}


def apply_epilogue(epilogue: Epilogue, y: jax.Array, *extras: jax.Array) -> jax.Array:
    """What an epilogue means, as ordinary operations."""
    rest = list(extras)
    if epilogue.scale:
        y = y * rest.pop(0).astype(y.dtype)
    if epilogue.bias:
        y = y + rest.pop(0).astype(y.dtype)
    if epilogue.activation is not None:
        y = ACTIVATIONS[epilogue.activation](y)
    if epilogue.residual:
        y = y + rest.pop(0).astype(y.dtype)
    return y
