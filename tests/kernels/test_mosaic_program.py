"""A sparsified program lowers for CUDA, on a machine without a GPU, with the Mosaic kernels in its text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparta_jax as sj

PARAMS = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16), "b": jax.ShapeDtypeStruct((1024,), jnp.bfloat16)}
X = jax.ShapeDtypeStruct((8192, 1024), jnp.bfloat16)
TESA = {"w": sj.TeSA.blocks(np.eye(8, dtype=bool), (128, 128), (1024, 1024)), "b": None}


def layer(params, x):
    return jax.nn.gelu(x @ params["w"] + params["b"], approximate=True)


chosen = sj.sparsify(layer, TESA, platform="cuda")
forced = sj.sparsify(layer, TESA, platform="cuda", implementation="mosaic")


def loss(params, x):
    return forced(params, x).astype(jnp.float32).sum()


PROGRAMS = {
    "forward": (chosen, 1),
    "gradient of the parameters": (jax.grad(loss), 2),  # the product again, and the sampled one
    "gradient of both": (jax.grad(loss, argnums=(0, 1)), 3),  # and the transposed one
    "vmap over x": (jax.vmap(chosen, (None, 0)), 1),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_sparsified_program_lowers_for_cuda_with_its_kernels(name):
    program, kernels = PROGRAMS[name]
    x = jax.ShapeDtypeStruct((4, *X.shape), X.dtype) if "vmap" in name else X
    text = jax.jit(program).trace(PARAMS, x).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("custom_call @mosaic_gpu") == kernels


def test_a_packed_program_lowers_for_cuda_with_its_kernels():
    packed = forced.pack(jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), PARAMS), X)
    text = jax.jit(forced).trace(packed, X).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("custom_call @mosaic_gpu") == 1
