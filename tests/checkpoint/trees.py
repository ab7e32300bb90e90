"""A packed and a compressed tree, and the function that they belong to."""

import jax
import jax.numpy as jnp
import numpy as np
from api.programs import mask_of, random

import sparta_jax as sj

RNG = np.random.default_rng(5)
PARAMS = {
    "up": random((40, 64), RNG),
    "layers": [random((64, 64), RNG) / 8, (random((64,), RNG), None)],
    "half": random((64, 24), RNG).astype(jnp.bfloat16),
    "scale": 2.0,
}
MASKS = {"up": mask_of((40, 64), 0.3, RNG), "layers": [RNG.random((64, 64)) < 0.2, None], "half": mask_of((64, 24), 0.5, RNG)}
TESA = {"up": sj.TeSA(MASKS["up"]), "layers": [sj.TeSA(MASKS["layers"][0]), None], "half": sj.TeSA(MASKS["half"])}
X = random((6, 40), RNG)
MODEL = """
def model(params, x):
    square, (bias, _) = params["layers"]
    h = jnp.tanh(x @ params["up"]) * params["scale"]
    return (jnp.sin(h @ square + bias).astype(jnp.bfloat16) @ params["half"]).astype(jnp.float32)
"""
SCOPE = {"jnp": jnp}
exec(MODEL, SCOPE)
FAST = sj.sparsify(SCOPE["model"], TESA, implementation="xla")
PACKED, LEAN = FAST.pack(PARAMS, X), FAST.compress(PARAMS, X)


def same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
