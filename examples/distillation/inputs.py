"""What the products of an encoder's layer read."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from flax import traverse_util

from ..sentence_encoder.model import Config, Embeddings, Layer


def embedded(config: Config, params: Any, ids: Any) -> jax.Array:
    """`[batch, seq, width]`: what the first layer of a `SentenceEncoder` reads."""
    return Embeddings(config).apply({"params": params["embeddings"]}, ids)


def of_layer(config: Config, params: dict[str, Any], x: jax.Array, mask: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A layer's output, and what each of its products reads, by name (`"attention/query"`).

    Args:
      params: of the layer, by path.
    """
    met = {}

    def watched(method, args, kwargs, context):
        if isinstance(context.module, nn.Dense):
            met["/".join(context.module.path)] = args[0]
        return method(*args, **kwargs)

    with nn.intercept_methods(watched):
        out = Layer(config).apply({"params": traverse_util.unflatten_dict(params, sep="/")}, x, mask)
    return out, met
