"""A BERT sentence encoder in Flax linen: token ids in, unit vectors whose dot product is the sentences' similarity out."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn


@dataclasses.dataclass(frozen=True)
class Config:
    """The sizes of a BERT encoder; the defaults are those of all-MiniLM-L6-v2."""

    vocabulary: int = 30522
    positions: int = 512
    width: int = 384
    hidden: int = 1536
    heads: int = 12
    layers: int = 6
    norm_epsilon: float = 1e-12


class Embeddings(nn.Module):
    """The sum of the token's, the position's and the segment's embedding, normalised. All tokens are of segment 0."""

    config: Config

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """`ids`: `i32[batch, seq]`. Returns `[batch, seq, width]`."""
        c = self.config
        tokens = nn.Embed(c.vocabulary, c.width, name="token")(ids)
        positions = nn.Embed(c.positions, c.width, name="position")(jnp.arange(ids.shape[-1]))
        segment = nn.Embed(2, c.width, name="segment")(jnp.int32(0))
        return nn.LayerNorm(c.norm_epsilon, name="norm")(tokens + positions + segment)


class Attention(nn.Module):
    """Multi-head self-attention in which no token looks at padding."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """`x`: `[batch, seq, width]`; `mask`: `bool[batch, seq]`, False at padding."""
        c = self.config
        heads = (*x.shape[:-1], c.heads, c.width // c.heads)
        query, key, value = (nn.Dense(c.width, name=name)(x).reshape(heads) for name in ("query", "key", "value"))
        mixed = nn.dot_product_attention(query, key, value, mask=mask[:, None, None, :])
        return nn.Dense(c.width, name="out")(mixed.reshape(x.shape))


class FeedForward(nn.Module):
    """Two layers with the exact GELU (by the error function) in between."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.gelu(nn.Dense(self.config.hidden, name="up")(x), approximate=False)
        return nn.Dense(self.config.width, name="down")(x)


class Layer(nn.Module):
    """Attention, then the feed-forward layers, each added to its input and normalised behind (post-norm)."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        c = self.config
        x = nn.LayerNorm(c.norm_epsilon, name="attention_norm")(x + Attention(c, name="attention")(x, mask))
        return nn.LayerNorm(c.norm_epsilon, name="feed_forward_norm")(x + FeedForward(c, name="feed_forward")(x))


class Encoder(nn.Module):
    """The layers, one behind the other."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        for i in range(self.config.layers):
            x = Layer(self.config, name=f"layer_{i}")(x, mask)
        return x


class SentenceEncoder(nn.Module):
    """Embeddings, encoder, the mean over the tokens that are not padding, scaled to length 1."""

    config: Config = Config()

    @nn.compact
    def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """`ids`: `i32[batch, seq]`; `mask`: `bool[batch, seq]`, False at padding. Returns `[batch, width]`."""
        x = Embeddings(self.config, name="embeddings")(ids)
        x = Encoder(self.config, name="encoder")(x, mask)
        mean = jnp.mean(x, axis=1, where=mask[..., None])
        return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)
