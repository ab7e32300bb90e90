"""Masks of nnx modules' kernels, and modules masked with them."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import sparta_jax as sj


def mask(shape):
    return np.random.default_rng(len(shape)).random(shape) < 0.4


KERNELS = {"kernel": lambda leaf: sj.TeSA(mask(leaf.shape))}


def masked(module):
    for path, variable in nnx.iter_graph(module):
        if isinstance(variable, nnx.Param) and path[-1] == "kernel":
            variable[...] = jnp.where(mask(variable.shape), variable[...], 0)
    return module


def assert_close(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
