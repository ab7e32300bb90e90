"""Whole models in Haiku, small."""

import haiku as hk
import jax
import jax.numpy as jnp
from models.models import Model, data_of, drawn


def perceptron(x):
    return hk.nets.MLP([24, 16, 5])(x)


def recurrent(x):
    """Two layers of LSTM over `[time, batch, features]`."""
    core = hk.DeepRNN([hk.LSTM(16), jnp.tanh, hk.LSTM(8)])
    outs, _ = hk.dynamic_unroll(core, x, jax.tree.map(lambda a: a.astype(x.dtype), core.initial_state(x.shape[1])))
    return hk.Linear(5)(outs)


def vision_transformer(x):
    """Patches, a class token, two layers with norms in front."""
    x = hk.Conv2D(16, 4, 4)(x)
    x = x.reshape(x.shape[0], -1, 16)
    token = hk.get_parameter("class", (1, 1, 16), x.dtype, hk.initializers.RandomNormal(0.3))
    x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, 16)), x], 1)
    x = x + hk.get_parameter("positions", (1, 5, 16), x.dtype, hk.initializers.RandomNormal(0.3))
    scale = hk.initializers.VarianceScaling(1.0)
    for _ in range(2):
        y = norm()(x)
        x = x + hk.MultiHeadAttention(4, 4, w_init=scale, model_size=16)(y, y, y)
        x = x + hk.Linear(16)(jax.nn.gelu(hk.Linear(32)(norm()(x))))
    return hk.Linear(5)(norm()(x)[:, 0])


def norm() -> hk.LayerNorm:
    return hk.LayerNorm(-1, True, True)


def built(fn, *data) -> Model:
    init, apply = hk.without_apply_rng(hk.transform(fn))
    return Model(apply, drawn(jax.eval_shape(init, jax.random.key(0), *data)), data)


MODELS = {
    "mlp": lambda: built(perceptron, *data_of((6, 12))),
    "lstm": lambda: built(recurrent, *data_of((5, 2, 6))),
    "vit": lambda: built(vision_transformer, *data_of((2, 8, 8, 3))),
}
