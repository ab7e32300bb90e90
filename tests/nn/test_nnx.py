import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sparta_jax as sj
from sparta_jax.errors import SpartaTypeError, SpartaValueError
from sparta_jax.nn import nnx as sparse_nnx

MASK = np.random.default_rng(1).random((16, 32)) < 0.3
RULES = {"a/kernel": lambda leaf: sj.TeSA(MASK)}


class Net(nnx.Module):
    """A batch norm, a dropout, a list of layers, methods that change variables."""

    def __init__(self, rngs: nnx.Rngs):
        self.a, self.b = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 4, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(32, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(32, 32, rngs=rngs) for _ in range(2)])
        self.flag = 0

    def __call__(self, x, scale: bool = False):
        return self.b(self.encode(x)) * (2 if scale else 1)

    def encode(self, x):
        x = self.dropout(nnx.relu(self.norm(self.a(x))))
        for layer in self.layers:
            x = x + nnx.relu(layer(x))
        return x

    def shift(self, x):
        self.a.bias[...] = self.a.bias[...] + 1
        return x

    def mark(self, x):
        self.flag += 1
        return x


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(8, 16)), jnp.float32)


@pytest.fixture
def sparse():
    return sparse_nnx.sparsify(Net(nnx.Rngs(0)), RULES)


@pytest.fixture
def masked():
    net = Net(nnx.Rngs(0))
    net.a.kernel[...] = jnp.where(MASK, net.a.kernel[...], 0)
    return net


def assert_close(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_calls_and_state(sparse, masked, x):
    for _ in range(2):
        assert_close(sparse(x), masked(x))
    others = lambda module: nnx.state(module, nnx.Not(nnx.Param))
    assert nnx.to_flat_state(others(sparse))
    assert_close(others(sparse), others(masked))
    sparse.eval(), masked.eval()
    assert_close(sparse(x, scale=True), masked(x, scale=True))
    assert_close(sparse.encode(x), masked.encode(x))


def test_it_is_the_same_module(x):
    net = Net(nnx.Rngs(0))
    sparse = sparse_nnx.sparsify(net, RULES)
    assert isinstance(sparse, Net)
    assert sparse.a is net.a
    assert [p for p, _ in nnx.to_flat_state(nnx.state(sparse))] == [p for p, _ in nnx.to_flat_state(nnx.state(net))]
    merged = nnx.merge(*nnx.split(sparse))
    assert type(merged) is type(sparse)
    net.eval(), merged.eval()
    assert_close(merged(x), sparse(x))


def test_zeros_are_found(masked, x):
    sparse = sparse_nnx.sparsify(masked)
    (site,) = sparse.report(x).sites
    assert site.density == pytest.approx(MASK.mean())


class Sowing(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.a = nnx.Linear(16, 32, rngs=rngs)

    def __call__(self, x):
        self.sow(nnx.Intermediate, "h", h := self.a(x))
        return h.sum()


def test_captured_intermediates(x):
    dense = Sowing(nnx.Rngs(0))
    sparse = sparse_nnx.sparsify(Sowing(nnx.Rngs(0)), RULES)
    dense.a.kernel[...] = jnp.where(MASK, dense.a.kernel[...], 0)
    want, got = (nnx.capture(module, nnx.Intermediate)(x) for module in (dense, sparse))
    assert_close(got, want)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
def test_new_variables_appear(x):
    sparse = sparse_nnx.sparsify(Sowing(nnx.Rngs(0)), RULES)
    total = sparse(x)
    np.testing.assert_allclose(sparse.h[0].sum(), total, rtol=1e-5)


@pytest.mark.parametrize("wrap", [jax.jit, nnx.jit], ids=["jax.jit", "nnx.jit"])
def test_under_jit(wrap, sparse, masked, x):
    sparse.eval(), masked.eval()
    call = wrap(lambda x: sparse(x)) if wrap is jax.jit else lambda x: wrap(lambda module, x: module(x))(sparse, x)
    assert_close(call(x), masked(x))


def test_training(sparse, masked, x):
    loss = lambda module, x: (module(x) ** 2).mean()
    optimizers = [nnx.Optimizer(module, optax.adam(1e-2), wrt=nnx.Param) for module in (sparse, masked)]

    @nnx.jit
    @jax.numpy_dtype_promotion("standard")  # which optax needs
    def step(module, optimizer, x):
        value, gradient = nnx.value_and_grad(loss)(module, x)
        gradient["a"]["kernel"][...] = jnp.where(MASK, gradient["a"]["kernel"][...], 0)
        optimizer.update(module, gradient)
        return value

    for _ in range(5):
        ours, theirs = (step(module, optimizer, x) for module, optimizer in zip((sparse, masked), optimizers, strict=True))
        assert_close(ours, theirs)
    live = lambda module: jnp.where(MASK, module.a.kernel[...], 0)
    assert_close(live(sparse), live(masked))


def test_served(sparse, masked, x):
    sparse.eval(), masked.eval()
    served = sparse.pack(x, also=[(x[:3],)])
    assert_close(served(x), masked(x))
    assert_close(nnx.jit(lambda module, x: module(x))(served, x[:3]), masked(x[:3]))
    assert_close(sparse.pack(x, method="encode")(x), masked.encode(x))
    assert sparse.verify(x).ok


def test_nested_ones_keep_their_masks(x):
    net = Net(nnx.Rngs(0))
    net.eval()
    net.layers[0] = sparse_nnx.sparsify(net.layers[0], {"kernel": np.eye(32, dtype=bool)})
    outer = sparse_nnx.sparsify(net, RULES)
    want = Net(nnx.Rngs(0))
    want.eval()
    want.a.kernel[...] = jnp.where(MASK, want.a.kernel[...], 0)
    want.layers[0].kernel[...] = want.layers[0].kernel[...] * jnp.eye(32)
    assert_close(outer(x), want(x))


@pytest.mark.parametrize(
    ("method", "message"), [("shift", "changes params"), ("mark", "changes attributes"), ("pack", "module.eval")]
)
def test_what_cannot_be_is_said(method, message, sparse, x):
    with pytest.raises(SpartaTypeError, match=message):
        getattr(sparse, method)(x)


def test_methods_that_are_left_out(x):
    sparse = sparse_nnx.sparsify(Net(nnx.Rngs(0)), RULES, methods=["__call__"])
    sparse.mark(x)
    assert sparse.flag == 1


def test_errors():
    with pytest.raises(SpartaTypeError, match="nnx module"):
        sparse_nnx.sparsify(lambda x: x, RULES)
    with pytest.raises(SpartaValueError, match="nowhere"):
        sparse_nnx.sparsify(Net(nnx.Rngs(0)), {"nowhere": None})
