"""Whole sparsified models, forward and gradient, lower for GPUs on a machine without one, with the kernels in their text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.gpu_cases import on

import sparta_jax as sj
from sparta_jax.tesa import TeSA

D, F, HEADS = 256, 512, 4
WEIGHTS = {"q": (D, D), "k": (D, D), "v": (D, D), "o": (D, D), "up": (D, F), "down": (F, D)}
TARGETS = {
    "mosaic": ("NVIDIA H200", 132, "custom_call @mosaic_gpu"),
    "triton": ("NVIDIA A100-SXM4-80GB", 108, "custom_call @__gpu$xla.gpu.triton"),
}


def params(names):
    return {name: jax.ShapeDtypeStruct(WEIGHTS[name], jnp.bfloat16) for name in names}


def tesa(names):
    """Dense enough for every row and column to have a live block, so that nothing is compacted away."""
    rng = np.random.default_rng(0)
    shapes = {name: WEIGHTS[name] for name in names}
    return {name: TeSA.blocks(rng.random((k // 32, n // 32)) < 0.6, (32, 32), (k, n)) for name, (k, n) in shapes.items()}


def norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + jnp.asarray(1e-5, x.dtype))


def mlp(p, x):
    return x + jax.nn.gelu(norm(x) @ p["up"], approximate=True) @ p["down"]


def transformer(p, x):
    heads = lambda a: a.reshape(*a.shape[:2], HEADS, -1)
    q, k, v = (heads(norm(x) @ p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k), axis=-1)
    x = x + jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ p["o"]
    return mlp(p, x)


MODELS = {"mlp": (mlp, ("up", "down")), "transformer": (transformer, tuple(WEIGHTS))}


@pytest.mark.parametrize("implementation", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_and_its_gradient_lower_for_a_gpu_with_their_kernels(name, implementation):
    (model, weights), (kind, cores, call) = MODELS[name], TARGETS[implementation]
    fast = sj.sparsify(model, tesa(weights), platform="cuda", implementation=implementation)
    loss = lambda p, x: fast(p, x).astype(jnp.float32).sum()
    x = jax.ShapeDtypeStruct((4, 128, D), jnp.bfloat16)
    # The gradient needs no result of the last product; of the operands only those that depend on a weight have gradients.
    inner = {"mlp": 1, "transformer": 3}[name]
    wanted = {fast: len(weights), jax.grad(loss): 2 * len(weights) - 1 + inner}
    for program, kernels in wanted.items():
        with on(kind, cores):
            text = jax.jit(program).trace(params(weights), x).lower(lowering_platforms=("cuda",)).as_text()
        assert text.count(call) == kernels
