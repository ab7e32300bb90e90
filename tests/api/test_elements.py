"""A weight of single live elements, end to end: packed as CSR where that is faster, exact in values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, random

import sparta_jax as sj
from sparta_jax.formats.csr import CSR
from sparta_jax.kernels import native
from sparta_jax.problem import CSR_LAYOUT
from sparta_jax.products import Product, sddmm, spmm
from sparta_jax.specialize import Chooser
from sparta_jax.stored import pack, values_at

needs_native = pytest.mark.skipif(native.why_unavailable() is not None, reason=f"native kernels: {native.why_unavailable()}")


def apply(params, x):
    return jax.nn.gelu(x @ params["w"] + params["b"], approximate=False)


def masked(params, tesa, x):
    return apply({**params, "w": jnp.where(tesa["w"].mask, params["w"], 0)}, x)


@pytest.fixture
def setting(rng):
    tesa = {"w": sj.TeSA(rng.random((512, 768)) < 0.08), "b": None}
    return {"w": random((512, 768), rng), "b": random((768,), rng)}, tesa, random((64, 512), rng)


@needs_native
def test_is_packed_as_csr_and_exact(setting):
    params, tesa, x = setting
    fast, want = sj.sparsify(apply, tesa), functools.partial(masked, params, tesa)
    packed = fast.pack(params, x)
    (weight,) = [w for _, w in packed.weights()]
    assert isinstance(weight, CSR)
    assert weight.nnz == tesa["w"].nnz
    (site,) = fast.report(packed, x).sites
    assert (site.kernel, site.layout) == ("native_csr_spmm", "csr")
    assert site.bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(weight))
    assert_near(fast(packed, x), want(x), 1e-5)
    loss = lambda fn: lambda x: jnp.sum(fn(x) ** 2)
    assert_near(jax.grad(loss(lambda x: fast(packed, x)))(x), jax.grad(loss(want))(x), 1e-5)
    np.testing.assert_array_equal(fast.unpack(packed)["w"], np.where(tesa["w"].mask, params["w"], 0))


@pytest.mark.parametrize("implementation", [None, "xla", "dense"])
def test_other_implementations_take_no_csr(setting, implementation):
    params, tesa, x = setting
    fast = sj.sparsify(apply, tesa, implementation=implementation)
    packed = fast.pack(params, x)
    if implementation is not None:
        assert not any(isinstance(w, CSR) for _, w in packed.weights())
    assert_near(fast(packed, x), masked(params, tesa, x), 1e-5)


@pytest.mark.parametrize(("density", "implementation"), [(0.0, None), (0.2, None), (1.0, None), (0.2, "dense")])
def test_products_of_csr_weights(density, implementation, rng):
    """Values, all derivatives, batches of x and of values; by the native kernels, and where there are none."""
    tesa = sj.TeSA(rng.random((24, 40)) < density)
    product = Product(tesa, CSR_LAYOUT, Chooser(implementation), np.dtype(np.float32))
    dense = jnp.where(tesa.mask, random((24, 40), rng), 0)
    stored, xs = pack(dense, tesa, CSR_LAYOUT), random((3, 7, 24), rng)
    with_values = lambda values: CSR(values, stored.indptr, stored.indices, stored.shape)
    call = lambda x, values: jnp.sin(spmm(product, x, with_values(values)))
    want = lambda x, values: jnp.sin(x @ with_values(values).to_dense())
    assert_near(call(xs, stored.values), want(xs, stored.values), 1e-5)
    assert_near(jax.vmap(call, (0, None))(xs, stored.values), want(xs, stored.values), 1e-5)
    many = jnp.stack([stored.values, 2 * stored.values, 3 * stored.values])
    assert_near(jax.vmap(call)(xs, many), jax.vmap(want)(xs, many), 1e-5)
    loss = lambda fn: lambda x, values: jnp.sum(fn(x, values) ** 2)
    assert_near(jax.jit(jax.grad(loss(call), (0, 1)))(xs, stored.values), jax.grad(loss(want), (0, 1))(xs, stored.values), 1e-5)
    moving = (xs, stored.values), (jnp.cos(xs), jnp.cos(stored.values))
    assert_near(jax.jvp(call, *moving), jax.jvp(want, *moving), 1e-5)
    twice = lambda fn: jax.grad(lambda x: jnp.sum(jax.grad(loss(fn))(x, stored.values) ** 2))(xs)
    assert_near(twice(call), twice(want), 1e-5)
    g = random((3, 7, 40), rng)
    sampled = jnp.einsum("abk,abn->kn", xs, g, precision="highest")
    assert_near(sddmm(product, xs, g), values_at(sampled, tesa, CSR_LAYOUT), 1e-5)
