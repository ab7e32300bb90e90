"""Where attention is found in programs, where it is not, and that models with it stay exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from fused.test_attention import near

import sparta_jax as sj
from sparta_jax.fused import Grouped, Written
from sparta_jax.interpreters.fusions import find_fusions
from sparta_jax.interpreters.jaxprs import Variable, trace

Q = jnp.zeros((2, 8, 4, 16))
PADDING, BIAS = jnp.ones((2, 1, 1, 8), bool), jnp.zeros((1, 4, 8, 8))


def by_matmul(q, k, v, bias):
    q, k, v = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
    return (jax.nn.softmax(q @ k.swapaxes(-1, -2) / jnp.float32(4) + bias) @ v).transpose(0, 2, 1, 3)


def by_einsum(q, k, v, mask):
    s = jnp.where(mask, jnp.einsum("bqhd,bkhd->bhqk", q, k) * jnp.float32(0.25), -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s), v)


def weights_too(q, k, v):
    w = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    return jnp.einsum("bhqk,bkhd->bqhd", w, v), w


def plain(q, k, v):
    return weights_too(q, k, v)[0]


def over_queries(q, k, v):
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k), axis=-2), v)


dpa = jax.nn.dot_product_attention
FOUND = {
    "linen": (nn.dot_product_attention, (), Written("bqhd", "q/c")),
    "linen, mask": (
        lambda q, k, v, m: nn.dot_product_attention(q, k, v, mask=m),
        (PADDING,),
        Written("bqhd", "q/c", mask=True),
    ),
    "linen, bias": (nn.dot_product_attention, (BIAS,), Written("bqhd", "q/c", bias=True)),
    "nnx, mask": (lambda q, k, v, m: nnx.dot_product_attention(q, k, v, mask=m), (PADDING,), Grouped(0.25, mask=True)),
    "jax": (dpa, (), Grouped(0.25)),
    "jax, all": (
        lambda q, k, v, b, m: dpa(q, k, v, b, m, is_causal=True, scale=0.5),
        (BIAS, PADDING),
        Grouped(0.5, True, True, True),
    ),
    "jax, one": (lambda q, k, v: dpa(q[0], k[0], v[0]), (), Grouped(0.25)),
    "jax, groups": (lambda q, k, v: dpa(q, k[:, :, :2], v[:, :, 2:]), (), Grouped(0.25)),
    "matmul, bias": (by_matmul, (BIAS,), Written("bhqd,bhdk", "s/c", bias=True)),
    "einsum, mask": (by_einsum, (PADDING,), Written("bqhd", "s*c", mask=True)),
    "weights read elsewhere": (weights_too, (), None),
    "softmax over queries": (over_queries, (), None),
    "no scale": (plain, (), Written()),
    "of halves": (lambda *qkv: plain(*(a.astype(jnp.bfloat16) for a in qkv)), (), None),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name):
    fn, extras, want = FOUND[name]
    program, _ = trace(fn, Q, Q, Q, *extras)
    found = find_fusions(program, frozenset(), frozenset(program.constants))
    assert [f.operation for f in found] == ([] if want is None else [want])
    for fusion in found:
        masks = [a.shape for a in fusion.inputs if isinstance(a, Variable) and a.aval.dtype == bool]
        assert masks == [PADDING.shape] * len(masks)


def test_what_the_params_alone_make_is_not_hidden():
    program, _ = trace(lambda q, k, v, b: dpa(q, k, v, b), Q, Q, Q, BIAS)
    bias = program.inputs[3]
    reshaped = {v for e in program.equations if bias in e.inputs for v in e.outputs}
    assert not find_fusions(program, frozenset(), {bias, *reshaped})


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(4, name="attention")(x, mask=mask))
        return x + nn.Dense(64)(nn.gelu(nn.Dense(96)(x), approximate=False))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(4, 64, decode=False, rngs=rngs)
        self.norm, self.up = nnx.LayerNorm(64, rngs=rngs), nnx.Linear(64, 96, rngs=rngs)
        self.down = nnx.Linear(96, 64, rngs=rngs)

    def __call__(self, x, mask):
        x = self.norm(x + self.attention(x, mask=mask))
        return x + self.down(jax.nn.relu(self.up(x)))


def models():
    linen, (graph, state) = Linen(), nnx.split(Nnx(nnx.Rngs(0)))
    x, mask = jnp.zeros((1, 2, 64)), jnp.ones((1, 1, 1, 2), bool)
    return {
        "linen": (linen.apply, linen.init(jax.random.key(0), x, mask)),
        "nnx": (lambda s, *a: nnx.merge(graph, s)(*a), state),
    }


@pytest.mark.parametrize("name", [pytest.param("linen", marks=pytest.mark.slow), "nnx"])
def test_models(name, rng):
    fn, params = models()[name]
    tesa = sj.masks.magnitude(params, density=0.3, block=(16, 16), paths=r"(Dense_.|up|down)/kernel")
    x = jnp.asarray(rng.standard_normal((2, 40, 64)), jnp.float32)
    mask = jnp.asarray(np.arange(40)[None] < np.array([[40], [23]]))[:, None, None]
    fast = sj.sparsify(fn, tesa)
    masked = jax.tree.map(lambda t, p: p if t is None else jnp.where(t.mask, p, 0), tesa, params, is_leaf=lambda t: t is None)
    want = fn(masked, x, mask)
    near(fast(params, x, mask), want)
    packed = fast.pack(params, x, mask)
    near(fast(packed, x, mask), want)
    near(fast(packed, x[:1, :23], mask[:1, ..., :23]), fn(masked, x[:1, :23], mask[:1, ..., :23]))
    report = fast.report(packed, x, mask)
    assert [(f.name, f.sizes) for f in report.fused] == [("attention", "2x4 heads, 40x40, size 16")]
    assert "fused: attention" in str(report)
    assert [f.implementation for f in sj.sparsify(fn, tesa, implementation="xla").report(params, x, mask).fused] == ["dense"]


def test_a_function_without_masks_is_left_alone(rng):
    fn, params = models()["nnx"]
    x, mask = jnp.asarray(rng.standard_normal((2, 8, 64)), jnp.float32), jnp.ones((2, 1, 1, 8), bool)
    assert not sj.sparsify(fn, None).report(params, x, mask).fused
