"""Whole models in Equinox, small; each is of one example, mapped over a batch."""

import equinox as eqx
import jax
import jax.numpy as jnp
from models.models import Model, data_of, drawn, tokens_of


class UNet(eqx.Module):
    """Down and up again, with the way down concatenated to the way up."""

    down: list
    middle: eqx.nn.Conv2d
    up: list
    join: list
    head: eqx.nn.Conv2d

    def __init__(self, key):
        keys = iter(jax.random.split(key, 8))
        self.down = [eqx.nn.Conv2d(i, o, 3, padding=1, key=next(keys)) for i, o in ((2, 8), (8, 12))]
        self.middle = eqx.nn.Conv2d(12, 16, 3, padding=1, key=next(keys))
        self.up = [eqx.nn.ConvTranspose2d(i, o, 2, 2, key=next(keys)) for i, o in ((16, 12), (12, 8))]
        self.join = [eqx.nn.Conv2d(i, o, 3, padding=1, key=next(keys)) for i, o in ((24, 12), (16, 8))]
        self.head = eqx.nn.Conv2d(8, 2, 1, key=next(keys))

    def __call__(self, x):
        skips = []
        for layer in self.down:
            skips.append(jax.nn.relu(layer(x)))
            x = eqx.nn.MaxPool2d(2, 2)(skips[-1])
        x = jax.nn.relu(self.middle(x))
        for up, join, skip in zip(self.up, self.join, reversed(skips), strict=True):
            x = jax.nn.relu(join(jnp.concatenate([up(x), skip])))
        return self.head(x)


class Decoder(eqx.Module):
    """Causal attention without positions, a gated feed-forward, RMS norms, as in today's language models."""

    embed: eqx.nn.Embedding
    attention: eqx.nn.MultiheadAttention
    gate: eqx.nn.Linear
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    norms: list

    def __init__(self, key):
        keys = iter(jax.random.split(key, 5))
        self.embed = eqx.nn.Embedding(11, 16, key=next(keys))
        self.attention = eqx.nn.MultiheadAttention(4, 16, key=next(keys))
        self.gate, self.up = (eqx.nn.Linear(16, 24, use_bias=False, key=next(keys)) for _ in range(2))
        self.down = eqx.nn.Linear(24, 16, use_bias=False, key=next(keys))
        self.norms = [eqx.nn.RMSNorm(16) for _ in range(3)]

    def __call__(self, tokens):
        first, second, last = (jax.vmap(norm) for norm in self.norms)
        x = jax.vmap(self.embed)(tokens)
        y = first(x)
        x = x + self.attention(y, y, y, mask=jnp.tri(len(tokens), dtype=bool))
        y = second(x)
        x = x + jax.vmap(self.down)(jax.nn.silu(jax.vmap(self.gate)(y)) * jax.vmap(self.up)(y))
        return last(x) @ self.embed.weight.T


class Recurrent(eqx.Module):
    cell: eqx.nn.GRUCell
    head: eqx.nn.MLP

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.cell, self.head = eqx.nn.GRUCell(6, 16, key=first), eqx.nn.MLP(16, 5, 24, 1, key=second)

    def __call__(self, xs):
        last, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(16, xs.dtype), xs)
        return self.head(last)


def built(module: type[eqx.Module], *data) -> Model:
    shapes = eqx.filter_eval_shape(module, jax.random.key(0))
    params, rest = eqx.partition(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    apply = lambda params, *data: jax.vmap(eqx.combine(params, rest))(*data)
    return Model(apply, drawn(params), data)


MODELS = {
    "unet": lambda: built(UNet, *data_of((2, 2, 8, 8))),
    "decoder": lambda: built(Decoder, tokens_of(2, 6, high=11)),
    "gru": lambda: built(Recurrent, *data_of((3, 5, 6))),
}
