"""A small model with masks of every kind, and its masked self."""

import jax.numpy as jnp
import numpy as np
from api.programs import mask_of, random

import sparta_jax as sj

SHAPES = {"embed": (24, 32), "up": (32, 48), "bias": (48,), "heads": (48, 4, 12), "out": (4, 12, 32), "gain": (32,)}
RNG = np.random.default_rng(3)
MASKS = {
    "embed": RNG.random((24, 32)) < 0.4,
    "up": mask_of((32, 48), 0.5, RNG),
    "heads": np.broadcast_to((np.arange(4) != 2)[:, None], (48, 4, 12)),
    "out": np.broadcast_to((np.arange(4) != 2)[:, None, None], (4, 12, 32)),
    "bias": RNG.random(48) < 0.6,
}
TESA = {k: sj.TeSA(MASKS[k]) if k in MASKS else None for k in SHAPES}
PARAMS = {k: random(s, RNG) / 5 for k, s in SHAPES.items()}
TOKENS = jnp.asarray(RNG.integers(24, size=(3, 5)), jnp.int32)


def model(params, tokens):
    """A tied embedding, element, block and channel masks, a masked bias."""
    x = params["embed"][tokens]
    h = jnp.tanh(x @ params["up"] + params["bias"])
    h = jnp.einsum("btd,dhe->bthe", h, params["heads"])
    x = x + jnp.einsum("bthe,hed->btd", jnp.sin(h), params["out"]) * params["gain"]
    return x @ params["embed"].T


def masks(tree):
    return {k: jnp.where(MASKS[k], v, 0) if k in MASKS else v for k, v in tree.items()}


def loss(fn):
    return lambda params, *data: jnp.sum(jnp.cos(fn(params, *data)))


def fast(implementation=None):
    return sj.sparsify(model, TESA, implementation=implementation)
