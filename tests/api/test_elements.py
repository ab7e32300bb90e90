"""A weight of single live elements, end to end: packed as CSR where that is faster, exact in values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, random
from batches import of_case

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
    assert_near(fast(packed, x), jax.jit(want)(x), 1e-5)
    loss = lambda fn: lambda x: jnp.sum(fn(x) ** 2)
    assert_near(jax.grad(loss(lambda x: fast(packed, x)))(x), jax.jit(jax.grad(loss(want)))(x), 1e-5)
    np.testing.assert_array_equal(fast.unpack(packed)["w"], np.where(tesa["w"].mask, params["w"], 0))


@pytest.mark.parametrize("implementation", [None, "xla", "dense"])
def test_other_implementations_take_no_csr(setting, implementation):
    params, tesa, x = setting
    fast = sj.sparsify(apply, tesa, implementation=implementation)
    packed = fast.pack(params, x)
    if implementation is not None:
        assert not any(isinstance(w, CSR) for _, w in packed.weights())
    assert_near(fast(packed, x), jax.jit(functools.partial(masked, params, tesa))(x), 1e-5)


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
    loss = lambda fn: lambda x, values: jnp.sum(fn(x, values) ** 2)

    @functools.partial(jax.jit, static_argnums=0)
    def of(fn, xs, values):
        return {
            "value": fn(xs, values),
            "batch of x": jax.vmap(fn, (0, None))(xs, values),
            "batch of values": jax.vmap(fn)(xs, jnp.stack([values, 2 * values, 3 * values])),
            "gradients": jax.grad(loss(fn), (0, 1))(xs, values),
            "jvp": jax.jvp(fn, (xs, values), (jnp.cos(xs), jnp.cos(values))),
            "second derivative": jax.grad(lambda x: jnp.sum(jax.grad(loss(fn))(x, values) ** 2))(xs),
        }

    got, expected = of(call, xs, stored.values), of(want, xs, stored.values)
    for name in expected:
        with of_case(name):
            assert_near(got[name], expected[name], 1e-5)
    assert_near(call(xs, stored.values), expected["value"], 1e-5)
    g = random((3, 7, 40), rng)
    sampled = jnp.einsum("abk,abn->kn", xs, g, precision="highest")
    assert_near(sddmm(product, xs, g), values_at(sampled, tesa, CSR_LAYOUT), 1e-5)
