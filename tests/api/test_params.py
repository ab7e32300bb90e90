"""Params need not be the usual dict of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, random
from api.usage import LIVE, PARAMS, RNG, X, model, sparsify

import sparta_jax as sj

SPEC = {"w": LIVE}
W = PARAMS["fc"]["kernel"]
UNUSUAL = {
    "a list": ([W], [LIVE], lambda p, x: x @ p[0]),
    "a tuple": ((W,), (LIVE,), lambda p, x: x @ p[0]),
    "one array": (W, LIVE, lambda p, x: x @ p),
    "an array of numpy": ({"w": np.asarray(W)}, SPEC, lambda p, x: x @ p["w"]),
    "an array of numpy in float64": ({"w": np.asarray(W, np.float64)}, SPEC, lambda p, x: x @ p["w"]),
    "a mask of jax": ({"w": W}, {"w": jnp.asarray(LIVE.mask)}, lambda p, x: x @ p["w"]),
    "None among the leaves": ({"w": W, "b": None}, {"w": LIVE, "b": None}, lambda p, x: x @ p["w"]),
    "a float": ({"w": W, "s": 0.5}, SPEC, lambda p, x: x @ p["w"] * (p["s"] * 2)),
    "an integer": ({"w": W, "n": 2}, SPEC, lambda p, x: x @ p["w"] * (p["n"] // 2)),
    "a weak array": ({"w": W, "s": jnp.full((3, 1), 2.0)}, SPEC, lambda p, x: p["s"] / 2 * x @ p["w"]),
    "a random key": ({"w": W, "key": jax.random.key(0)}, SPEC, lambda p, x: x @ p["w"] + 0 * jax.random.uniform(p["key"])),
    "a dead scalar": (
        {"w": W, "s": jnp.float32(5)},
        {"w": LIVE, "s": sj.TeSA(np.array(False))},
        lambda p, x: x @ p["w"] + p["s"],
    ),
    "integers with a mask": (
        {"w": W, "n": jnp.full((16, 24), 7)},
        {"w": LIVE, "n": sj.TeSA.dead((16, 24))},
        lambda p, x: x @ (p["w"] + p["n"].astype(jnp.float32)),
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_params(name):
    params, tesa, fn = UNUSUAL[name]
    fast = sparsify(tesa, fn=fn)
    want = X @ jnp.where(LIVE.mask, W, 0)
    assert_near(fast(params, X), want)
    assert_near(fast(fast.pack(params, X), X), want)


def test_a_mask_on_a_data_argument():
    """What is known of the data, an attention mask say, is told as that of params; it may change from call to call."""
    fast = sj.sparsify(lambda w, x: x @ w, (None, sj.TeSA.channels(np.arange(16) < 8, 1, (3, 16))), argnums=(0, 1))
    w = random((16, 24), RNG)
    for x in (X, X + 1, X.at[:, 8:].set(jnp.nan)):
        assert_near(fast(w, x), x[:, :8] @ w[:8])


def test_nothing_to_prune():
    for tesa in ({}, None, {"fc": None}, lambda path, leaf: None):
        fast = sj.sparsify(model, tesa)
        assert_near(fast(PARAMS, X), model(PARAMS, X))
        assert_near(fast(fast.pack(PARAMS, X), X), model(PARAMS, X))
    empty = sj.sparsify(lambda params, x: x + 1, {})
    assert_near(empty({}, X), X + 1)
    assert_near(empty(empty.pack({}, X), X), X + 1)
