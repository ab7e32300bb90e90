"""Whole models in Flax linen, small."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from models.models import Model, data_of, drawn, tokens_of


class ResNet(nn.Module):
    """A stem and two blocks; the second one strides."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(self.norm()(nn.Conv(8, (3, 3), use_bias=False)(x)))
        for features, stride in ((8, 1), (16, 2)):
            y = nn.relu(self.norm()(nn.Conv(features, (3, 3), stride, use_bias=False)(x)))
            y = self.norm()(nn.Conv(features, (3, 3), use_bias=False)(y))
            if y.shape != x.shape:
                x = self.norm()(nn.Conv(features, (1, 1), stride, use_bias=False)(x))
            x = nn.relu(x + y)
        return nn.Dense(5)(x.mean((1, 2)))

    @staticmethod
    def norm() -> nn.BatchNorm:
        return nn.BatchNorm(use_running_average=True)


class MobileNet(nn.Module):
    """Depthwise and pointwise convolutions, each behind a batch norm and `relu6`."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), 2)(x)
        for features, stride in ((16, 1), (16, 2)):
            c = x.shape[-1]
            x = nn.relu6(ResNet.norm()(nn.Conv(c, (3, 3), stride, feature_group_count=c, use_bias=False)(x)))
            x = nn.relu6(ResNet.norm()(nn.Conv(features, (1, 1), use_bias=False)(x)))
        return nn.Dense(5)(nn.avg_pool(x, (2, 2)).mean((1, 2)))


class Decoder(nn.Module):
    """Causal attention, a tied embedding."""

    layers: int = 2

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(11, 16)
        x = embed(tokens) + self.param("position", nn.initializers.normal(0.3), (8, 16))[: tokens.shape[1]]
        for _ in range(self.layers):
            x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x), mask=nn.make_causal_mask(tokens))
            x = x + nn.Dense(16)(nn.gelu(nn.Dense(32)(nn.LayerNorm()(x))))
        return embed.attend(nn.LayerNorm()(x))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.RNN(nn.OptimizedLSTMCell(16, param_dtype=x.dtype))(x)
        return nn.Dense(5)(nn.RNN(nn.LSTMCell(8, param_dtype=x.dtype))(x))


def built(module: nn.Module, *data) -> Model:
    return Model(module.apply, drawn(jax.eval_shape(module.init, jax.random.key(0), *data)), data)


MODELS = {
    "resnet": lambda: built(ResNet(), *data_of((2, 8, 8, 3))),
    "mobilenet": lambda: built(MobileNet(), *data_of((2, 8, 8, 3))),
    "decoder": lambda: built(Decoder(), tokens_of(2, 6, high=11)),
    "lstm": lambda: built(Recurrent(), *data_of((2, 5, 6))),
}


def shallow_decoder() -> Model:
    """A decoder of one layer."""
    return built(Decoder(layers=1), tokens_of(2, 6, high=11))


def stacked_decoder(layers: int = 2):
    """A decoder block scanned over its stacked params."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
            return x + nn.Dense(16)(nn.relu(nn.Dense(24)(nn.LayerNorm()(x)))), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=layers)
            return jnp.tanh(scanned()(x, None)[0])

    return built(Stack(), *data_of((2, 4, 16)))


MODELS["scanned"] = stacked_decoder
