"""Query heads that share keys and values die with them, however the sharing is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.models import distance

import sparta_jax as sj
from sparta_jax import pruning

KV, SHARE, WIDTH = 2, 4, 8
SHAPES = {"table": (12, 16), "q": (16, 64), "k": (16, 16), "v": (16, 16), "o": (64, 16), "logits": (16, 12)}
TOKENS = np.random.default_rng(0).integers(12, size=(2, 6))


def grouped(mix, p, tokens):
    """Attention with `mix(q [b, s, heads, width], k [b, s, KV, width], v)` between an embedding and a projection."""
    x = p["table"][tokens]
    q, k, v = ((x @ p[name]).reshape(*tokens.shape, -1, WIDTH) for name in "qkv")
    y = mix(q, k, v).reshape(*tokens.shape, -1)
    return (x + y @ p["o"]) @ p["logits"]


def repeated(q, k, v):
    k, v = (jnp.repeat(y, SHARE, axis=2) for y in (k, v))
    return jnp.einsum("bhqk,bkhe->bqhe", jax.nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", q, k)), v)


def broadcast(q, k, v):
    spread = lambda y: jnp.broadcast_to(y[:, :, :, None], (2, 6, KV, SHARE, WIDTH)).reshape(2, 6, -1, WIDTH)
    return jnp.einsum("bhqk,bkhe->bqhe", jax.nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", q, spread(k))), spread(v))


def by_einsum(q, k, v):
    scores = jnp.einsum("bqhge,bkhe->bhgqk", q.reshape(2, 6, KV, SHARE, WIDTH), k)
    return jnp.einsum("bhgqk,bkhe->bqhge", jax.nn.softmax(scores), v)


def by_vmap(q, k, v):
    one = lambda q, k, v: jnp.einsum("gqk,ke->qge", jax.nn.softmax(jnp.einsum("qge,ke->gqk", q, k)), v)
    return jax.vmap(jax.vmap(one, 1, 1))(q.reshape(2, 6, KV, SHARE, WIDTH), k, v)


MIXES = {
    "repeated": repeated,
    "broadcast": broadcast,
    "by einsum": by_einsum,
    "by vmap": by_vmap,
    "jax.nn": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
}


@pytest.mark.parametrize("name", MIXES)
def test_a_group_is_one_channel(name):
    params = {k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in SHAPES.items()}
    stream, heads = pruning.groups(lambda p, t: grouped(MIXES[name], p, t), params, TOKENS)
    if stream.channels == KV:
        stream, heads = heads, stream
    assert (stream.channels, heads.channels) == (16, KV)
    assert sorted(f"{s.path} {s.axis}" for s in heads.slices) == ["k 1", "o 0", "q 1", "v 1"]
    for s in heads.slices:
        assert s.channel.tolist() == np.repeat(np.arange(KV), s.shape[s.axis] // KV).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXES)
def test_what_is_left_is_exact_and_smaller(name):
    rng = np.random.default_rng(1)
    params = {k: (rng.normal(size=s) / 4).astype(np.float32) for k, s in SHAPES.items()}
    fn = lambda p, t: grouped(MIXES[name], p, t)
    tesas = pruning.structured(fn, params, TOKENS, density=0.5)
    masked = {k: w if tesas[k] is None else w * tesas[k].mask for k, w in params.items()}
    fast = sj.sparsify(fn, tesas)
    assert distance([fast(fast.pack(params, TOKENS), TOKENS)], [fn(masked, TOKENS)]) <= 1e-5
    sizes = {name: live for name, _, live in fast.report(params, TOKENS).compaction.narrowed}
    half = lambda n: n if n == 12 else n // 2  # the vocabulary stays
    assert sizes == {f"p['{k}']": tuple(map(half, shape)) for k, shape in SHAPES.items()}
