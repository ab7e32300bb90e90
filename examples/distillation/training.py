"""Recovery: the sparse encoder learns to say, layer by layer, what the dense one says."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sparta_jax as sj

from ..sentence_encoder.model import Config, Encoder, Layer
from .inputs import embedded

Tokens = tuple[np.ndarray, np.ndarray]  # ids `i32[batch, seq]`; mask `bool[batch, seq]`, False at padding


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the sparse encoder is trained.

    Attributes:
      steps: of Adam.
      rate: its highest rate, reached after `warmup` of the steps; behind, it falls along a cosine.
      tokens: of each batch, padding included.
      lengths: that sentences are padded to, one compiled step for each; longer ones are cut.
      hidden: weight of the hidden states' relative squared error, beside one minus the embeddings' cosine.
    """

    steps: int = 2400
    rate: float = 4e-4
    warmup: float = 0.05
    tokens: int = 1024
    lengths: tuple[int, ...] = (16, 32)
    hidden: float = 1.0
    seed: int = 0


def states(config: Config, params: Any, x: jax.Array, mask: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """What each layer makes of embedded tokens `[batch, seq, width]`, and the sentences' embeddings `[batch, width]`."""
    is_layer = lambda module, _: isinstance(module, Layer)
    out, seen = Encoder(config).apply({"params": params}, x, mask, capture_intermediates=is_layer, mutable=["intermediates"])
    mean = jnp.mean(out, axis=1, where=mask[..., None])
    hidden = [seen["intermediates"][f"layer_{i}"]["__call__"][0] for i in range(config.layers)]
    return hidden, mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


def distance(config: Config, hidden_weight: float) -> Callable[..., jax.Array]:
    """The loss: `(encoder params, x, mask, the teacher's hidden states, its embeddings) -> scalar`."""

    def loss(params: Any, x: jax.Array, mask: jax.Array, hidden: Sequence[jax.Array], embeddings: jax.Array) -> jax.Array:
        mine, said = states(config, params, x, mask)
        where = mask[..., None]
        errors = [
            jnp.sum(jnp.square(a - b), where=where) / jnp.sum(jnp.square(b), where=where)
            for a, b in zip(mine, hidden, strict=True)
        ]
        cosine = jnp.mean(jnp.sum(said * embeddings, -1))
        return 1 - cosine + hidden_weight * jnp.mean(jnp.stack(errors))

    return loss


def batches(tokens: Tokens, settings: Settings) -> Iterator[Tokens]:
    """Endless batches of about equally many tokens, each of sentences that fit the same length."""
    ids, mask = tokens
    rng = np.random.default_rng(settings.seed)
    fits = np.searchsorted(settings.lengths, np.minimum(mask.sum(1), settings.lengths[-1]))
    while True:
        parts = []
        for i, length in enumerate(settings.lengths):
            rows = rng.permutation(np.flatnonzero(fits == i))
            size = settings.tokens // length
            parts += [(rows[k : k + size], length) for k in range(0, len(rows) - size + 1, size)]
        for k in rng.permutation(len(parts)):
            rows, length = parts[k]
            yield ids[rows, :length], mask[rows, :length]


def recover(
    config: Config,
    teacher: Any,
    pruned: Any,
    tesa: Any,
    tokens: Tokens,
    settings: Settings,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> tuple[Any, float]:
    """The pruned params after training, and the seconds it took; the tokens' embeddings stay as they are.

    Only what lives is kept and trained: the steps run on sparse kernels, and Adam remembers nothing of what is dead.

    Args:
      teacher, pruned: params of a `SentenceEncoder`.
      tesa: masks of its encoder's params.
      told: is told the loss of each step.
    """
    loss = distance(config, settings.hidden)
    fast = sj.sparsify(loss, tesa)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.rate, max(1, int(settings.warmup * settings.steps)), settings.steps, 0.02 * settings.rate
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    @jax.jit
    def taught(ids, mask):
        x = embedded(config, teacher, ids)
        return x, mask, *states(config, teacher["encoder"], x, mask)

    @jax.jit
    def step(live, state, lesson):
        value, grads = jax.value_and_grad(fast)(live, *lesson)
        updates, state = optimizer.update(grads, state, live)
        return optax.apply_updates(live, updates), state, value

    start = time.perf_counter()
    data = batches(tokens, settings)
    live = fast.compress(pruned["encoder"], *jax.eval_shape(taught, *next(data)))
    state = optimizer.init(live)
    for i in range(settings.steps):
        live, state, value = step(live, state, taught(*next(data)))
        told(i, float(value))
    return {**pruned, "encoder": fast.unpack(live)}, time.perf_counter() - start
