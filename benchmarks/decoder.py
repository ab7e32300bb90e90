"""A decoder of Llama's kind in plain JAX, its layers written out or scanned: shapes alone, to be propagated and never run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sparta_jax as sj

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Its sizes; those of Llama 3 8B unless told otherwise.

    Attributes:
      layers, width, heads, kv_heads, head, hidden, vocabulary, seq: sizes; `kv_heads` divides `heads`.
      block: of the projections' masks.
    """

    layers: int = 32
    width: int = 4096
    heads: int = 32
    kv_heads: int = 8
    head: int = 128
    hidden: int = 14336
    vocabulary: int = 128256
    seq: int = 512
    block: tuple[int, int] = (128, 128)

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Shapes of a layer's weights, `[fan_in, fan_out]`."""
        q, kv = self.heads * self.head, self.kv_heads * self.head
        attention = {"q": (self.width, q), "k": (self.width, kv), "v": (self.width, kv), "o": (q, self.width)}
        into = (self.width, self.hidden)
        return attention | {"gate": into, "up": into, "down": (self.hidden, self.width)}

    def params(self, scanned: bool) -> Params:
        """Abstract float32 params: a dict per layer, or where they are scanned one dict of weights stacked over the layers."""
        shapes = self.projections | {"attention_norm": (self.width,), "feed_forward_norm": (self.width,)}
        outside = {"embedding": (self.vocabulary, self.width), "norm": (self.width,), "logits": (self.width, self.vocabulary)}
        stacked = {name: _abstract((self.layers, *shape)) for name, shape in shapes.items()}
        each = {name: _abstract(shape) for name, shape in shapes.items()}
        layers = stacked if scanned else [each] * self.layers
        return {"layers": layers} | {name: _abstract(shape) for name, shape in outside.items()}

    def tesa(self, scanned: bool, densities: tuple[float, float] = (0.1, 0.5), seed: int = 0) -> Params:
        """Random blocks of every projection live; each weight draws its own density between the two."""
        rng = np.random.default_rng(seed)
        draw = lambda: {name: self._grid(rng, shape, densities) for name, shape in self.projections.items()}
        layers = [draw() for _ in range(self.layers)]
        norms = dict.fromkeys(("attention_norm", "feed_forward_norm"))
        if scanned:
            stacks = {name: np.stack([layer[name] for layer in layers]) for name in self.projections}
            masks = {name: self._blocks(grid, (self.layers, *self.projections[name])) for name, grid in stacks.items()} | norms
        else:
            each = lambda layer: {name: self._blocks(grid, self.projections[name]) for name, grid in layer.items()}
            masks = [each(layer) | norms for layer in layers]
        return {"layers": masks, "embedding": None, "norm": None, "logits": None}

    def _grid(self, rng: np.random.Generator, shape: tuple[int, int], densities: tuple[float, float]) -> np.ndarray:
        return rng.random([-(-n // b) for n, b in zip(shape, self.block, strict=True)]) < rng.uniform(*densities)

    def _blocks(self, grid: np.ndarray, shape: tuple[int, ...]) -> sj.TeSA:
        return sj.TeSA.blocks(grid, (1,) * (len(shape) - 2) + self.block, shape)

    def apply(self, scanned: bool) -> Callable[[Params, jax.Array], jax.Array]:
        """`(params, tokens i32[batch, seq]) -> logits [batch, seq, vocabulary]`."""

        def run(params: Params, tokens: jax.Array) -> jax.Array:
            x = jnp.take(params["embedding"], tokens, axis=0, mode="clip")
            if scanned:
                x, _ = jax.lax.scan(lambda x, layer: (self.layer(layer, x), None), x, params["layers"])
            else:
                for layer in params["layers"]:
                    x = self.layer(layer, x)
            return rms_norm(x, params["norm"]) @ params["logits"]

        return run

    def layer(self, p: Params, x: jax.Array) -> jax.Array:
        """Attention with shared keys and values, then a gated feed-forward, each around a residual."""
        x = x + self.attention(p, rms_norm(x, p["attention_norm"]))
        h = rms_norm(x, p["feed_forward_norm"])
        return x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]

    def attention(self, p: Params, x: jax.Array) -> jax.Array:
        """Causal; `heads / kv_heads` queries share a key and a value."""
        split = lambda name, heads: (x @ p[name]).reshape(*x.shape[:2], heads, self.head)
        q, k, v = rotary(split("q", self.heads)), rotary(split("k", self.kv_heads)), split("v", self.kv_heads)
        q = q.reshape(*q.shape[:2], self.kv_heads, self.heads // self.kv_heads, self.head)
        scores = jnp.einsum("bqhgd,bkhd->bhgqk", q, k) / self.head**0.5
        causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9), axis=-1)
        return jnp.einsum("bhgqk,bkhd->bqhgd", weights, v).reshape(*x.shape[:2], -1) @ p["o"]


def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5) * scale


def rotary(x: jax.Array) -> jax.Array:
    """Rotary position embedding of `[batch, seq, heads, head]`: pairs of features from the two halves of a head."""
    half = x.shape[-1] // 2
    positions, features = (jnp.arange(n, dtype=x.dtype) for n in (x.shape[1], half))
    angles = positions[:, None] * 500000.0 ** (-features / half)
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _abstract(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
