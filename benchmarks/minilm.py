"""The demo's sentence encoder at its own sizes: abstract params, and masks of blocks, of heads and of hidden units."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sparta_jax as sj
from examples.sentence_encoder.model import Config, SentenceEncoder

CONFIG = Config()
DATA = (jax.ShapeDtypeStruct((1, 128), jnp.int32), jax.ShapeDtypeStruct((1, 128), jnp.bool_))


def encode(params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """`(params, ids i32[batch, seq], mask bool[batch, seq]) -> embeddings [batch, width]`."""
    return SentenceEncoder(CONFIG).apply({"params": params}, ids, mask)


@functools.cache
def abstract_params() -> Any:
    """The shapes of the params."""
    return jax.eval_shape(SentenceEncoder(CONFIG).init, jax.random.key(0), *DATA)["params"]


def drawn_params() -> Any:
    """Random params of these shapes."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(0.02 * rng.standard_normal(leaf.shape), leaf.dtype), abstract_params())


def blocks(density: float = 0.1) -> Any:
    """Random blocks of 32x32 of every layer's six kernels live."""
    return sj.masks.random(abstract_params(), density=density, block=(32, 32), paths=r"encoder/layer_\d+/.*kernel")


def channels(density: float = 0.5) -> Callable[[str, Any], sj.TeSA | None]:
    """Random heads and hidden units of every layer live; what makes a dead one, bias included, is masked as a whole."""
    rng = np.random.default_rng(0)
    heads = [_draw(rng, CONFIG.heads, density).repeat(CONFIG.width // CONFIG.heads) for _ in range(CONFIG.layers)]
    hidden = [_draw(rng, CONFIG.hidden, density) for _ in range(CONFIG.layers)]

    def tesa(path: str, leaf: Any) -> sj.TeSA | None:
        parts = path.split("/")
        live = {"attention": heads, "feed_forward": hidden}.get(parts[2] if len(parts) > 2 else "")
        if live is None or parts[3] not in ("query", "key", "value", "up"):
            return None
        return sj.TeSA.channels(live[int(parts[1].removeprefix("layer_"))], -1, leaf.shape)

    return tesa


def _draw(rng: np.random.Generator, size: int, density: float) -> np.ndarray:
    """`bool[size]` with that share of its entries True, at least one."""
    live = np.zeros(size, bool)
    live[rng.permutation(size)[: max(1, round(density * size))]] = True
    return live
