"""What behind a product becomes its epilogue: in which order, with which operands, and what is left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparta_jax as sj

K, N, M = 32, 48, 8
TESA = {"w": sj.TeSA.blocks((np.indices((4, 6)).sum(0) % 2).astype(bool), (8, 8), (K, N)), "b": None, "s": None}
MASK = TESA["w"].mask.astype(np.float32)


def params(rng):
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    return {"w": draw(K, N), "b": draw(N), "s": draw(N)}


PROGRAMS = {
    "a number": (lambda p, x, r: jax.nn.relu(0.5 * (x @ p["w"]) + p["b"]), "scale+bias+relu"),
    "a number of the data": (lambda p, x, r: (x @ p["w"]) * x[0, 0] + p["b"], "scale+bias"),
    "a vector": (lambda p, x, r: jax.nn.silu((x @ p["w"]) * p["s"] + p["b"]) + r, "scale+bias+silu+residual"),
    "a vector written out": (lambda p, x, r: jnp.broadcast_to(p["s"], r.shape) * (x @ p["w"]) + r, "scale+residual"),
    "a vector of the data": (lambda p, x, r: jax.nn.tanh((x @ p["w"]) * r[0]), "scale+tanh"),
    "nothing behind it": (lambda p, x, r: (x @ p["w"]) * p["s"], ""),
    "behind the bias": (lambda p, x, r: (x @ p["w"] + p["b"]) * p["s"], "bias"),
    "along the rows": (lambda p, x, r: (x @ p["w"]) * x[:, :1] + p["b"], ""),
    "used twice": (lambda p, x, r: (lambda y: y * p["s"] + y)(x @ p["w"]), ""),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_scale_is_part_of_the_epilogue(name, rng):
    program, epilogue = PROGRAMS[name]
    x, r = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((M, K), (M, N)))
    given = {**params(rng), "w": params(rng)["w"] * MASK}
    fast = sj.sparsify(program, TESA, implementation="xla")
    (site,) = fast.report(given, x, r).sites
    assert site.epilogue == epilogue
    np.testing.assert_allclose(fast(given, x, r), program(given, x, r), rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_scale(rng):
    program, _ = PROGRAMS["a vector"]
    x, r = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((M, K), (M, N)))
    given = params(rng)
    fast = sj.sparsify(program, TESA, implementation="xla")
    loss = lambda f: jax.grad(lambda p, *a: (f(p, *a) ** 2).sum(), argnums=(0, 1, 2))
    masked = lambda p, *a: program({**p, "w": p["w"] * MASK}, *a)
    for got, want in zip(*(jax.tree.leaves(loss(f)(given, x, r)) for f in (fast, masked)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
