"""Small networks whose sizes are read off their weights, so that cut weights give the cut network."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Params = dict[str, np.ndarray]
WIDTH = 8  # of a head


def perceptron(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    return jnp.tanh(h @ p["w2"] + p["b2"]) @ p["w3"] + p["b3"]


def residual_perceptron(p, x):
    h = x @ p["inward"] + p["bias"]
    for i in range(2):
        h = h + jax.nn.gelu(h @ p[f"up{i}"]) @ p[f"down{i}"] + p[f"bias{i}"]
    return h @ p["outward"]


def batch_norm(p, name, x):
    scale = p[f"{name}_scale"] * lax.rsqrt(p[f"{name}_var"] + 1e-5)
    return (x - p[f"{name}_mean"]) * scale + p[f"{name}_bias"]


def conv(x, w, stride=1, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups)


def convolutional(p, x):
    """A stem, a residual block, a depthwise and a pointwise convolution, a pool, a classifier."""
    x = jax.nn.relu(batch_norm(p, "n0", conv(x, p["stem"])))
    h = jax.nn.relu(batch_norm(p, "n1", conv(x, p["c1"])))
    x = jax.nn.relu(x + batch_norm(p, "n2", conv(h, p["c2"])))
    x = jax.nn.relu(conv(x, p["depth"], 2, groups=p["depth"].shape[-1]))
    x = conv(x, p["point"]).mean((1, 2))
    return x @ p["head"] + p["head_bias"]


def rms_norm(x, scale):
    return x * lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) / 32 + 1e-5) * scale


def attention(p, x, share):
    split = lambda y: y.reshape(*y.shape[:-1], -1, WIDTH)
    q, k, v = (split(x @ p[name]) for name in "qkv")
    k, v = (jnp.repeat(y, share, axis=2) for y in (k, v))
    weights = jax.nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", q, k) * WIDTH**-0.5)
    mixed = jnp.einsum("bhqk,bkhe->bqhe", weights, v)
    return mixed.reshape(*mixed.shape[:2], -1) @ p["o"]


def block(p, x, share=1):
    """Between an embedding and a projection: its residual stream is no input and no output."""
    x = p["table"][x] + p["positions"]
    x = x + attention(p, rms_norm(x, p["scale1"]), share)
    h = rms_norm(x, p["scale2"])
    return (x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]) @ p["logits"]


def weights(**shapes: tuple[int, ...]) -> Params:
    rng = np.random.default_rng(0)
    draw = lambda s: rng.normal(size=s) / np.sqrt(np.prod(s[:-1])) if len(s) > 1 else 1 + 0.3 * rng.random(s)
    return {name: draw(s).astype(np.float32) for name, s in shapes.items()}


def norms(**sizes: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}_{what}": (n,) for name, n in sizes.items() for what in ("scale", "bias", "mean", "var")}


data = lambda *shape: np.random.default_rng(1).normal(size=shape).astype(np.float32)
TRANSFORMER = dict(table=(40, 32), positions=(8, 32), scale1=(32,), scale2=(32,), q=(32, 64), o=(64, 32), logits=(32, 40))
TRANSFORMER |= dict(gate=(32, 96), up=(32, 96), down=(96, 32))
CONVOLUTIONS = dict(stem=(3, 3, 3, 16), c1=(3, 3, 16, 24), c2=(3, 3, 24, 16), depth=(3, 3, 1, 16), point=(1, 1, 16, 32))
RESIDUAL = dict(inward=(24, 48), bias=(48,), outward=(48, 10), bias0=(48,), bias1=(48,))
RESIDUAL |= dict(up0=(48, 96), down0=(96, 48), up1=(48, 64), down1=(64, 48))
TOKENS = np.random.default_rng(2).integers(40, size=(2, 8))

# name: (fn, params, data, the groups: (channels, the slices `param axis`))
NETWORKS: dict[str, tuple[Callable, Params, np.ndarray, list[tuple[int, str]]]] = {
    "perceptron": (
        perceptron,
        weights(w1=(20, 64), b1=(64,), w2=(64, 48), b2=(48,), w3=(48, 10), b3=(10,)),
        data(32, 20),
        [(64, "b1 0, w1 1, w2 0"), (48, "b2 0, w2 1, w3 0")],
    ),
    "residual perceptron": (
        residual_perceptron,
        weights(**RESIDUAL),
        data(32, 24),
        [
            (48, "bias 0, bias0 0, bias1 0, down0 1, down1 1, inward 1, outward 0, up0 0, up1 0"),
            (96, "down0 0, up0 1"),
            (64, "down1 0, up1 1"),
        ],
    ),
    "convolutions": (
        convolutional,
        weights(**CONVOLUTIONS, head=(32, 10), head_bias=(10,), **norms(n0=16, n1=24, n2=16)),
        data(2, 8, 8, 3),
        [
            (24, "c1 3, c2 2, n1_bias 0, n1_mean 0, n1_scale 0, n1_var 0"),
            (
                16,
                "c1 2, c2 3, depth 3, n0_bias 0, n0_mean 0, n0_scale 0, n0_var 0, n2_bias 0, n2_mean 0, n2_scale 0, n2_var 0, "
                "point 2, stem 3",
            ),
            (32, "head 0, point 3"),
        ],
    ),
    "transformer": (
        block,
        weights(**TRANSFORMER, k=(32, 64), v=(32, 64)),
        TOKENS,
        [
            (96, "down 0, gate 1, up 1"),
            (32, "down 1, gate 0, k 0, logits 0, o 1, positions 1, q 0, scale1 0, scale2 0, table 1, up 0, v 0"),
            (8, "k 1, o 0, q 1, v 1"),
        ],
    ),
    "grouped queries": (
        lambda p, x: block(p, x, share=4),
        weights(**TRANSFORMER, k=(32, 16), v=(32, 16)),
        TOKENS,
        [
            (96, "down 0, gate 1, up 1"),
            (32, "down 1, gate 0, k 0, logits 0, o 1, positions 1, q 0, scale1 0, scale2 0, table 1, up 0, v 0"),
            (2, "k 1, o 0, q 1, v 1"),
        ],
    ),
}
