"""A sparsified function under every transformation equals the masked program under it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, mask_of, random
from batches import batches, of_case, together

import sparta_jax as sj
from tests.kernels.native_cases import need_native

IMPLEMENTATIONS = [None, "xla", pytest.param("native", marks=need_native())]


def model(params, x):
    h = jax.nn.relu(x @ params["w1"] + params["b1"])
    return jnp.tanh(h @ params["w2"]) + x


def loss(fn):
    return lambda params, x: jnp.sum(fn(params, x) ** 2)


def scanned(fn):
    return lambda params, xs: jax.lax.scan(lambda total, x: (total + loss(fn)(params, x), None), jnp.float32(0), xs)[0]


STACK = lambda tree: jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a]), tree)
TRANSFORMS = {
    "call": lambda fn, p, x: fn(p, x),
    "one row": lambda fn, p, x: fn(p, x[0, 0]),
    "no row": lambda fn, p, x: fn(p, x[:0]),
    "grad": lambda fn, p, x: jax.grad(loss(fn), (0, 1))(p, x),
    "jvp": lambda fn, p, x: jax.jvp(fn, (p, x), (p, x)),
    "vmap of x": lambda fn, p, x: jax.vmap(fn, (None, 0))(p, x),
    "vmap of x, last axis": lambda fn, p, x: jax.vmap(fn, (None, 2), 1)(p, x.transpose(0, 2, 1)),
    "vmap of the params": lambda fn, p, x: jax.vmap(fn, (0, None))(STACK(p), x),
    "vmap of both": lambda fn, p, x: jax.vmap(fn)(STACK(p), jnp.stack([x, x + 1, -x])),
    "gradient per example": lambda fn, p, x: jax.vmap(jax.grad(loss(fn), (0, 1)), (None, 0))(p, x),
    "hvp": lambda fn, p, x: jax.jvp(jax.grad(lambda q: loss(fn)(q, x)), (p,), (p,))[1],
    "jacfwd": lambda fn, p, x: jax.jacfwd(lambda y: fn(p, y))(x[0, :2]),
    "jacrev": lambda fn, p, x: jax.jacrev(lambda y: fn(p, y))(x[0, :2]),
    "remat": lambda fn, p, x: jax.grad(loss(jax.checkpoint(fn)), (0, 1))(p, x),
    "scan": lambda fn, p, x: scanned(fn)(p, x),
    "grad of scan": lambda fn, p, x: jax.grad(scanned(fn))(p, x),
    "cond": lambda fn, p, x: jax.lax.cond(x[0, 0, 0] > 0, fn, lambda q, y: y, p, x),
}


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(0)
    shapes = {"w1": (40, 56), "b1": (56,), "w2": (56, 40)}
    params = {k: random(s, rng) / 6 for k, s in shapes.items()}
    tesa = {k: sj.TeSA(mask_of(shapes[k], 0.4, rng)) if k[0] == "w" else None for k in shapes}
    return params, tesa, random((4, 3, 40), rng)


def masked(tesa):
    return lambda p, x: model({k: v if tesa[k] is None else jnp.where(tesa[k].mask, v, 0) for k, v in p.items()}, x)


@pytest.fixture(scope="module")
def wanted(setting):
    """By transform: its result, of the masked program."""
    params, tesa, x = setting
    return jax.jit(lambda p, x: {name: transform(masked(tesa), p, x) for name, transform in TRANSFORMS.items()})(params, x)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("names", batches(TRANSFORMS, 6))
def test_equals_the_masked_program(names, implementation, setting, wanted):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation=implementation)
    assert_all_near(names, fast, params, x, wanted)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ["call", "grad", "vmap of x", "cond"])
def test_outside_jit(name, implementation, setting, wanted):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation=implementation)
    assert_near(TRANSFORMS[name](fast, params, x), wanted[name])


def test_packed_params(setting, wanted):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation="xla")
    packed = fast.pack(params, x)
    assert_near(fast(packed, x), wanted["call"])
    assert_all_near(["call", "vmap of x", "scan"], fast, packed, x, wanted)


def assert_all_near(names, fast, params, x, wanted):
    """In one compiled program."""
    run = together({name: functools.partial(TRANSFORMS[name], fast) for name in names})
    for name, got in zip(names, run([(params, x)] * len(names)), strict=True):
        with of_case(name):
            assert_near(got, wanted[name])


def test_the_gradient_in_the_data_of_packed_params(setting, wanted):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation="xla")
    packed = fast.pack(params, x)
    assert_near(jax.grad(loss(fast), 1)(packed, x), wanted["grad"][1])


def test_of_a_gradient_is_the_dense_gradient_at_the_masked_params(setting):
    params, tesa, x = setting
    fast = sj.sparsify(jax.grad(loss(model)), tesa, implementation="xla")
    at = {k: v if tesa[k] is None else jnp.where(tesa[k].mask, v, 0) for k, v in params.items()}
    assert_near(fast(params, x), jax.jit(jax.grad(loss(model)))(at, x))


def test_the_second_call_traces_nothing(setting):
    params, tesa, x = setting
    traced = []

    def counted(params, x):
        traced.append(x.shape)
        return model(params, x)

    fast = sj.sparsify(counted, tesa)
    fast(params, x), fast(params, x), fast(params, x + 1)
    assert len(traced) == 1
