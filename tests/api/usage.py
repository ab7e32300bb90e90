"""One small model with TeSAs, as a user has it, and a look at what is said where it is used wrongly."""

import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import random

import sparta_jax as sj
from sparta_jax.errors import SpartaError

RNG = np.random.default_rng(0)
PARAMS = {"fc": {"bias": random((24,), RNG), "kernel": random((16, 24), RNG)}, "scale": jnp.float32(2)}
X = random((3, 16), RNG)
LIVE = sj.TeSA.blocks(RNG.random((2, 3)) < 0.5, (8, 8), (16, 24))
TESA = {"fc": {"kernel": LIVE}}
OTHER = sj.TeSA(~LIVE.mask)
KERNEL = r"params\['fc'\]\['kernel'\]"


def model(params, x):
    return params["scale"] * (x @ params["fc"]["kernel"]) + params["fc"]["bias"]


def powers(params, x, n=1, *, bias=0.0):
    return model(params, x) ** len(n) + bias if isinstance(n, str) else model(params, x) * n + bias


def sparsify(tesa=None, fn=model, **options):
    return sj.sparsify(fn, TESA if tesa is None else tesa, **options)


def packed():
    return sparsify().pack(PARAMS, X)


def refused(act, kind, *messages):
    """Exactly this error of ours is raised, and says all that."""
    with pytest.raises(kind) as error:
        act()
    assert type(error.value) is kind
    assert isinstance(error.value, SpartaError)
    for message in messages:
        assert error.match(message)
