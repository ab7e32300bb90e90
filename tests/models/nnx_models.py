"""Whole models in Flax nnx, small."""

import jax
import jax.numpy as jnp
from flax import nnx
from models.models import Model, data_of, drawn, tokens_of


class Perceptron(nnx.Module):
    def __init__(self, rngs):
        self.up, self.down = nnx.Linear(12, 24, rngs=rngs), nnx.Linear(24, 5, rngs=rngs)
        self.norm = nnx.LayerNorm(24, rngs=rngs)

    def __call__(self, x):
        return self.down(self.norm(jax.nn.gelu(self.up(x))))


class Encoder(nnx.Module):
    """BERT: embeddings of tokens and positions, attention over the tokens that are there, norms behind the residuals."""

    def __init__(self, rngs):
        self.tokens, self.positions = nnx.Embed(13, 16, rngs=rngs), nnx.Embed(8, 16, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.layers = nnx.List([EncoderLayer(rngs) for _ in range(2)])
        self.pooler = nnx.Linear(16, 16, rngs=rngs)

    def __call__(self, tokens):
        there = (tokens > 0)[:, None, None, :]
        x = self.norm(self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1])))
        for layer in self.layers:
            x = layer(x, there)
        return jnp.tanh(self.pooler(x[:, 0]))


class EncoderLayer(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(4, 16, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)
        self.first, self.second = nnx.LayerNorm(16, rngs=rngs), nnx.LayerNorm(16, rngs=rngs)

    def __call__(self, x, mask):
        x = self.first(x + self.attention(x, mask=mask))
        return self.second(x + self.down(jax.nn.gelu(self.up(x), approximate=False)))


class Mixer(nnx.Module):
    """Products along the patches, and along the channels."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 16, (2, 2), 2, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(16, rngs=rngs) for _ in range(2)])
        self.over_patches = nnx.List([nnx.Linear(16, 24, rngs=rngs), nnx.Linear(24, 16, rngs=rngs)])
        self.over_channels = nnx.List([nnx.Linear(16, 20, rngs=rngs), nnx.Linear(20, 16, rngs=rngs)])
        self.head = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        x = x.reshape(x.shape[0], -1, 16)
        up, down = self.over_patches
        x = x + down(jax.nn.gelu(up(self.norms[0](x).swapaxes(1, 2)))).swapaxes(1, 2)
        up, down = self.over_channels
        x = x + down(jax.nn.gelu(up(self.norms[1](x))))
        return self.head(x.mean(1))


def built(module: type[nnx.Module], *data) -> Model:
    graph, params, rest = nnx.split(nnx.eval_shape(lambda: module(nnx.Rngs(0))), nnx.Param, ...)
    return Model(lambda params, *data: nnx.merge(graph, params, rest)(*data), drawn(params), data)


MODELS = {
    "mlp": lambda: built(Perceptron, *data_of((6, 12))),
    "encoder": lambda: built(Encoder, tokens_of(2, 6, high=13)),
    "mixer": lambda: built(Mixer, *data_of((2, 8, 8, 3))),
}
