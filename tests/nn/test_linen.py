import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

import sparta_jax as sj
from sparta_jax.errors import SpartaTypeError, SpartaValueError
from sparta_jax.nn import linen

MASK = np.random.default_rng(1).random((16, 32)) < 0.3
RULES = {"a/kernel": lambda leaf: sj.TeSA(MASK)}
DROPOUT = jax.random.key(3)
TRAIN = dict(train=True, rngs={"dropout": DROPOUT}, mutable=["batch_stats"])


class Net(nn.Module):
    """A batch norm, a dropout, two methods."""

    width: int = 32

    def setup(self):
        self.a, self.b = nn.Dense(self.width), nn.Dense(4)
        self.norm, self.dropout = nn.BatchNorm(), nn.Dropout(0.5)

    def __call__(self, x, train: bool = False):
        return self.b(self.encode(x, train))

    def encode(self, x, train: bool = False):
        h = nn.relu(self.norm(self.a(x), use_running_average=not train))
        self.sow("intermediates", "h", h)
        return self.dropout(h, deterministic=not train)


class Outer(nn.Module):
    inner: nn.Module

    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.Dense(3)(self.inner(x, train))


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(8, 16)), jnp.float32)


@pytest.fixture(scope="module")
def variables(x):
    return Net().init(jax.random.key(0), x)


@pytest.fixture(scope="module")
def sparse():
    return linen.sparsify(Net(), RULES)


def masked(tree, mask=MASK, at="'a'"):
    kill = lambda path, leaf: (
        jnp.where(mask, leaf, 0) if at in (name := jax.tree_util.keystr(path)) and "kernel" in name else leaf
    )
    return jax.tree_util.tree_map_with_path(kill, tree)


def assert_close(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


CALLS = {
    "plain": {},
    "another method, by name": dict(method="encode"),
    "another method, of the dense class": dict(method=Net.encode),
    "a function": dict(method=lambda module, x: module.encode(x) * 2),
    "training": TRAIN,
    "intermediates": dict(mutable=["intermediates"]),
    "captured": dict(capture_intermediates=True, mutable=["intermediates"]),
    "all mutable": dict(mutable=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_apply_is_that_of_the_masked_module(name, sparse, variables, x):
    assert_close(sparse.apply(variables, x, **CALLS[name]), Net().apply(masked(variables), x, **CALLS[name]))


def test_methods_of_the_sparse_module(sparse, variables, x):
    want = Net().apply(masked(variables), x, method="encode")
    assert_close(sparse.apply(variables, x, method=sparse.encode), want)
    assert_close(sparse.apply(variables, x, method=type(sparse).encode), want)
    assert_close(sparse.bind(variables).encode(x), want)


def test_it_is_the_same_module(sparse, variables, x):
    assert isinstance(sparse, Net)
    assert sparse.width == 32
    assert type(sparse).__name__ == "Net"
    assert_close(sparse.init(jax.random.key(0), x), variables)
    assert sparse.clone(width=8).init(jax.random.key(0), x)["params"]["a"]["kernel"].shape == (16, 8)
    assert "kernel" in sparse.tabulate(jax.random.key(0), x)


def test_a_second_call_is_not_traced_again(variables, x):
    traces = []

    class Counted(Net):
        def encode(self, x, train: bool = False):
            traces.append(x)
            return super().encode(x, train)

    sparse = linen.sparsify(Counted(), RULES)
    sparse.apply(variables, x)
    first = len(traces)
    sparse.apply(variables, x + 1)
    linen_clone = sparse.clone()
    linen_clone.apply(variables, x)
    assert len(traces) == first


def test_frozen_variables(sparse, variables, x):
    assert_close(sparse.apply(freeze(variables), x), Net().apply(masked(variables), x))


def test_gradients_under_jit(sparse, variables, x):
    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: (sparse.apply(variables | {"params": p}, x, **TRAIN)[0] ** 2).sum())(params)

    dense = lambda p: (Net().apply(variables | {"params": masked(p)}, x, **TRAIN)[0] ** 2).sum()
    assert_close(gradient(variables["params"]), jax.grad(dense)(variables["params"]))


def test_packed_variables_are_the_params_and_the_statistics(sparse, variables, x):
    packed = sparse.pack(variables, x, also=[(x[:3],)])
    assert_close(sparse.apply(packed, x), Net().apply(masked(variables), x))
    assert_close(sparse.apply(packed, x[:3]), Net().apply(masked(variables), x[:3]))
    assert sparse.report(packed, x).sites
    assert sparse.verify(variables, x).ok


@pytest.mark.parametrize("call", ["plain", "training"])
@pytest.mark.parametrize("wrap", [lambda module: module, jax.jit], ids=["eager", "jit"])
def test_inside_another_module(call, wrap, x):
    dense, sparse = Outer(Net()), Outer(linen.sparsify(Net(), RULES))
    variables = dense.init(jax.random.key(0), x)
    assert_close(sparse.init(jax.random.key(0), x), variables)
    apply = wrap(lambda v, x: sparse.apply(v, x, **CALLS[call]))
    assert_close(apply(variables, x), dense.apply(masked(variables), x, **CALLS[call]))


@pytest.mark.parametrize("wrap", [lambda layer: layer, nn.remat, nn.jit], ids=["plain", "remat", "jit"])
def test_inside_a_scan(wrap, x):
    mask = np.random.default_rng(2).random((16, 16)) < 0.5

    def stack(dense):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return jnp.tanh(dense(16)(x)), None

        class Stack(nn.Module):
            @nn.compact
            def __call__(self, x):
                layers = nn.scan(wrap(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
                return layers()(x, None)[0]

        return Stack()

    dense, sparse = stack(nn.Dense), stack(linen.sparsify(nn.Dense, {"kernel": lambda leaf: sj.TeSA(mask)}))
    variables = dense.init(jax.random.key(0), x)
    assert_close(sparse.init(jax.random.key(0), x), variables)
    assert_close(sparse.apply(variables, x), dense.apply(masked(variables, mask, "kernel"), x))


def test_what_is_zero_in_given_variables(variables, x):
    pruned = masked(variables)
    sparse = linen.sparsify(Net(), sj.masks.from_zeros(pruned["params"]), pruned)
    assert_close(jax.jit(sparse.apply)(pruned, x), Net().apply(pruned, x))


def test_rules_are_logged(variables, caplog):
    with caplog.at_level(logging.INFO, "sparta_jax"):
        linen.sparsify(Net(), RULES | {"nowhere": None}, variables, allow_unused=True)
    assert "rule 'a/kernel' hits params['a']['kernel']" in caplog.text
    assert "rule 'nowhere' hits nothing" in caplog.text


def test_errors(variables, x):
    with pytest.raises(SpartaValueError, match="nowhere"):
        linen.sparsify(Net(), {"nowhere": None}).apply(variables, x)
    with pytest.raises(SpartaValueError, match="shape"):
        linen.sparsify(Net(), {"b/kernel": MASK}, variables)
    with pytest.raises(SpartaTypeError, match="linen module"):
        linen.sparsify(lambda x: x, RULES)
    with pytest.raises(SpartaTypeError, match="hashable"):
        linen.sparsify(Net(), RULES).apply(variables, x, object_without_hash())


def object_without_hash():
    class Unhashable:
        __hash__ = None

    return Unhashable()
