"""With channel masks the compiled program and the packed params are as small as the same model built at its live sizes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.models import distance
from numpy.typing import NDArray

import sparta_jax as sj

Params = dict[str, np.ndarray]
HEADS, WIDTH = 8, 16


def perceptron(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    h = jax.nn.relu(h @ p["w2"] + p["b2"])
    return h @ p["w3"] + p["b3"]


def norm(x, scale, bias):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5) * scale + bias


def block(p, x):
    """A transformer block; its number of heads is read off the weights."""
    split = lambda y: y.reshape(*y.shape[:-1], -1, WIDTH)
    h = norm(x, p["scale1"], p["bias1"])
    q, k, v = (split(h @ p[name]) for name in ("q", "k", "v"))
    scores = jnp.einsum("bqhe,bkhe->bhqk", q, k) * WIDTH**-0.5
    mixed = jnp.einsum("bhqk,bkhe->bqhe", jax.nn.softmax(scores), v)
    x = x + mixed.reshape(*mixed.shape[:-2], -1) @ p["o"]
    h = jax.nn.gelu(norm(x, p["scale2"], p["bias2"]) @ p["up"] + p["up_bias"])
    return x + h @ p["down"] + p["down_bias"]


def weights(rng: np.random.Generator, **shapes: tuple[int, ...]) -> Params:
    return {name: (rng.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for name, s in shapes.items()}


def perceptron_case(rng: np.random.Generator):
    """Hidden units are dead, each before the bias or behind it."""
    p = weights(rng, w1=(64, 256), b1=(256,), w2=(256, 192), b2=(192,), w3=(192, 48), b3=(48,))
    first, second = rng.random(256) < 0.5, rng.random(192) < 0.4
    live = {"w1": (None, first), "b1": (first,), "w2": (first, second), "b2": (second,), "w3": (second, None)}
    return perceptron, p, live, rng.normal(size=(32, 64)).astype(np.float32)


def block_case(rng: np.random.Generator):
    """Heads and hidden channels are dead."""
    d, e = 64, HEADS * WIDTH
    vectors = dict(scale1=(d,), bias1=(d,), scale2=(d,), bias2=(d,), up_bias=(256,), down_bias=(d,))
    p = weights(rng, q=(d, e), k=(d, e), v=(d, e), o=(e, d), up=(d, 256), down=(256, d), **vectors)
    heads, hidden = np.repeat(np.arange(HEADS) % 8 < 3, WIDTH), rng.random(256) < 0.5
    live = dict.fromkeys("qkv", (None, heads)) | {"o": (heads, None)}
    live |= {"up": (None, hidden), "up_bias": (hidden,), "down": (hidden, None)}
    return block, p, live, rng.normal(size=(2, 16, d)).astype(np.float32)


CASES: dict[str, Callable] = {"perceptron": perceptron_case, "block": block_case}


def tesa_of(shape: tuple[int, ...], live: tuple[NDArray | None, ...]) -> sj.TeSA:
    mask = np.ones(shape, bool)
    for axis, along in enumerate(live):
        if along is not None:
            mask &= along.reshape([-1 if d == axis else 1 for d in range(len(shape))])
    return sj.TeSA(mask)


def flops(fn: Callable, *args) -> float:
    return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]


def narrowed(weight: np.ndarray, live: tuple[NDArray | None, ...]) -> np.ndarray:
    return weight[np.ix_(*(np.arange(n) if a is None else np.flatnonzero(a) for n, a in zip(weight.shape, live, strict=True)))]


@pytest.mark.parametrize("name", CASES)
def test_flops_and_bytes_are_those_of_the_live_sizes(name, rng):
    fn, params, live, x = CASES[name](rng)
    small = {k: narrowed(w, live[k]) if k in live else w for k, w in params.items()}
    fast = sj.sparsify(fn, {k: tesa_of(params[k].shape, axes) for k, axes in live.items()}, implementation="xla")
    packed = fast.pack(params, x)
    assert distance([fast(packed, x)], [fn(small, x)]) <= 1e-5
    assert 0.95 <= flops(fast, packed, x) / flops(fn, small, x) <= 1.05
    assert 0.95 <= packed.nbytes / sum(w.nbytes for w in small.values()) <= 1.05
    many = jax.ShapeDtypeStruct((*x.shape[:-2], 64 * x.shape[-2], x.shape[-1]), x.dtype)  # so many that gathering params pays
    assert flops(fast, params, many) <= 1.05 * flops(fn, small, many)
