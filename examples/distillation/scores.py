"""What a block is worth: how late it is taken away, where the one that is missed the least goes first."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ..sentence_encoder.model import Config
from .inputs import embedded, of_layer

ROUNDS = 16  # at least, less than twice as many, where there are as many blocks
DAMPING = 1e-2  # of the mean of the diagonal: 32-bit updates of an inverse need more than least squares do


def surgeon(config: Config, params: Any, ids: np.ndarray, mask: np.ndarray, block: tuple[int, int], density: float) -> Any:
    """A tree of scores for `sj.masks.by_score`, like the params of an encoder; None beside its kernels.

    From every kernel's columns of blocks, blocks are taken away until `density` of them are left: in each round those whose
    loss adds the least squared error to the product's outputs if all others are solved anew, as they then are. Frantar and
    Alistarh, "Optimal Brain Compression", 2022, by blocks and some at once. So of blocks that say the same one stays. All
    columns of blocks of a kernel keep equally many.

    Args:
      ids, mask: the tokens that are looked at; kernels `[fan_in, fan_out]` need many more of them than `fan_in`.
    """
    x, run, scores = embedded(config, params, ids), jax.jit(functools.partial(of_layer, config)), {}
    for name in (f"layer_{i}" for i in range(config.layers)):
        flat = traverse_util.flatten_dict(params["encoder"][name], sep="/")
        x, met = run(flat, x, mask)
        found = dict.fromkeys(flat)
        for product, inputs in met.items():
            kernel = jnp.asarray(flat[f"{product}/kernel"])
            rounds = rounds_survived(inverse(np.asarray(inputs)[mask]), kernel, block, density)
            found[f"{product}/kernel"] = np.repeat(np.repeat(rounds, block[0], 0), block[1], 1)
        scores[name] = traverse_util.unflatten_dict(found, sep="/")
    return scores


def inverse(x: np.ndarray) -> np.ndarray:
    """Of the damped second moments of centred inputs `x [tokens, fan_in]`."""
    x = x - x.mean(0)
    gram = (x.T @ x / len(x)).astype(np.float64)
    return np.linalg.inv(gram + DAMPING * np.trace(gram) / len(gram) * np.eye(len(gram))).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(2, 3))
def rounds_survived(moments: jax.Array, kernel: jax.Array, block: tuple[int, int], density: float) -> jax.Array:
    """`[rows of blocks, columns of blocks]`: the round in which each block is taken away, more for what stays; `moments` as
    `inverse` gives them."""
    (br, bc), count = block, len(kernel) // block[0]
    gone = count - round(density * count)
    at_once = max(1, gone // ROUNDS)
    rounds, rest = divmod(gone, at_once)
    eye = jnp.eye(br, dtype=kernel.dtype)

    def one_round(i, carry, at_once=at_once):
        inverse, weights, alive, survived = carry
        blocks = weights.reshape(count, br, bc)
        corners = inverse.reshape(count, br, count, br)[jnp.arange(count), :, jnp.arange(count)]
        corners = jnp.where(alive[:, None, None], corners, eye)
        losses = jnp.where(alive, jnp.sum(blocks * jnp.linalg.solve(corners, blocks), (1, 2)), jnp.inf)
        taken = jnp.argsort(losses)[:at_once]
        rows = (taken[:, None] * br + jnp.arange(br)).reshape(-1)
        beside = jnp.concatenate([inverse, weights], 1)
        beside -= inverse[:, rows] @ jnp.linalg.solve(inverse[rows][:, rows], beside[rows])
        inverse, weights = jnp.split(beside, [len(kernel)], 1)
        inverse = inverse.at[rows].set(0).at[:, rows].set(0)
        return inverse, weights.at[rows].set(0), alive.at[taken].set(False), survived.at[taken].set(i)

    def of_columns(weights):
        carry = moments, weights, jnp.ones(count, bool), jnp.full(count, rounds + 1)
        carry = jax.lax.fori_loop(0, rounds, one_round, carry)
        return (one_round(rounds, carry, rest) if rest else carry)[-1]

    return jax.lax.map(of_columns, kernel.reshape(len(kernel), -1, bc).transpose(1, 0, 2)).T
