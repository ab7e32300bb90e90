"""A sparsified function under every transformation equals the masked program under it."""

import jax
import jax.numpy as jnp
import pytest
from api.programs import assert_near, mask_of, random

import sparta_jax as sj
from sparta_jax.kernels import native

IMPLEMENTATIONS = [None, "xla", "native"]


def model(params, x):
    h = jax.nn.relu(x @ params["w1"] + params["b1"])
    return jnp.tanh(h @ params["w2"]) + x


def loss(fn):
    return lambda params, x: jnp.sum(fn(params, x) ** 2)


def scanned(fn):
    return lambda params, xs: jax.lax.scan(lambda total, x: (total + loss(fn)(params, x), None), jnp.float32(0), xs)[0]


STACK = lambda tree: jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a]), tree)
TRANSFORMS = {
    "eager": lambda fn, p, x: fn(p, x),
    "jit": lambda fn, p, x: jax.jit(fn)(p, x),
    "one row": lambda fn, p, x: fn(p, x[0, 0]),
    "no row": lambda fn, p, x: fn(p, x[:0]),
    "grad": lambda fn, p, x: jax.grad(loss(fn), (0, 1))(p, x),
    "grad under jit": lambda fn, p, x: jax.jit(jax.grad(loss(fn), (0, 1)))(p, x),
    "jvp": lambda fn, p, x: jax.jvp(fn, (p, x), (p, x)),
    "vmap of x": lambda fn, p, x: jax.vmap(fn, (None, 0))(p, x),
    "vmap of x, last axis": lambda fn, p, x: jax.vmap(fn, (None, 2), 1)(p, x.transpose(0, 2, 1)),
    "vmap of the params": lambda fn, p, x: jax.vmap(fn, (0, None))(STACK(p), x),
    "vmap of both": lambda fn, p, x: jax.vmap(fn)(STACK(p), jnp.stack([x, x + 1, -x])),
    "gradient per example": lambda fn, p, x: jax.vmap(jax.grad(loss(fn), (0, 1)), (None, 0))(p, x),
    "hvp": lambda fn, p, x: jax.jvp(jax.grad(lambda q: loss(fn)(q, x)), (p,), (p,))[1],
    "jacfwd": lambda fn, p, x: jax.jacfwd(lambda y: fn(p, y))(x[0, :2]),
    "jacrev": lambda fn, p, x: jax.jacrev(lambda y: fn(p, y))(x[0, :2]),
    "remat": lambda fn, p, x: jax.jit(jax.grad(loss(jax.checkpoint(fn)), (0, 1)))(p, x),
    "scan": lambda fn, p, x: jax.jit(scanned(fn))(p, x),
    "grad of scan": lambda fn, p, x: jax.grad(scanned(fn))(p, x),
    "cond": lambda fn, p, x: jax.lax.cond(x[0, 0, 0] > 0, fn, lambda q, y: y, p, x),
}


@pytest.fixture(scope="module")
def setting():
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = {"w1": (40, 56), "b1": (56,), "w2": (56, 40)}
    params = {k: random(s, rng) / 6 for k, s in shapes.items()}
    tesa = {k: sj.TeSA(mask_of(shapes[k], 0.4, rng)) if k[0] == "w" else None for k in shapes}
    return params, tesa, random((4, 3, 40), rng)


def masked(tesa):
    return lambda p, x: model({k: v if tesa[k] is None else jnp.where(tesa[k].mask, v, 0) for k, v in p.items()}, x)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_equals_the_masked_program(name, implementation, setting):
    if implementation == "native" and (reason := native.why_unavailable()) is not None:
        pytest.skip(reason)
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation=implementation)
    transform = TRANSFORMS[name]
    assert_near(transform(fast, params, x), transform(masked(tesa), params, x))


@pytest.mark.parametrize("name", ["eager", "jit", "vmap of x", "scan"])
def test_packed_params(name, setting):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation="xla")
    packed = fast.pack(params, x)
    assert_near(TRANSFORMS[name](fast, packed, x), TRANSFORMS[name](masked(tesa), params, x))


def test_the_gradient_in_the_data_of_packed_params(setting):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation="xla")
    packed = fast.pack(params, x)
    assert_near(jax.grad(loss(fast), 1)(packed, x), jax.grad(loss(masked(tesa)), 1)(params, x))


def test_of_a_gradient_is_the_dense_gradient_at_the_masked_params(setting):
    params, tesa, x = setting
    fast = sj.sparsify(jax.grad(loss(model)), tesa, implementation="xla")
    at = {k: v if tesa[k] is None else jnp.where(tesa[k].mask, v, 0) for k, v in params.items()}
    assert_near(fast(params, x), jax.grad(loss(model))(at, x))


def test_the_second_call_traces_nothing(setting):
    params, tesa, x = setting
    traced = []

    def counted(params, x):
        traced.append(x.shape)
        return model(params, x)

    fast = sj.sparsify(counted, tesa)
    fast(params, x), fast(params, x), fast(params, x + 1)
    assert len(traced) == 1
