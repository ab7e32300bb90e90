"""The function that is drawn: two residual layers, one with dead channels, one with dead elements."""

import numpy as np

import sparta_jax as sj

RNG = np.random.default_rng(0)


def mlp(p, x):
    for i in range(2):
        x = x + np.tanh(1.0) * (x @ p[f"up{i}"] + p[f"bias{i}"]) @ p[f"down{i}"]
    return x


SHAPES = dict(up=(32, 64), bias=(64,), down=(64, 32))
PARAMS = {f"{n}{i}": RNG.normal(size=s).astype("float32") for i in range(2) for n, s in SHAPES.items()}
TESA = {"up0": sj.TeSA.channels(np.arange(64) % 2 == 0, 1, (32, 64)), "down1": sj.TeSA(RNG.random((64, 32)) < 0.3)}
X = RNG.normal(size=(4, 32)).astype("float32")
