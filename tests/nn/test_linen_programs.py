"""Programs that users write: whatever stands around a sparsified module, it computes what the masked one does."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparta_jax as sj
from sparta_jax.errors import SpartaTypeError
from sparta_jax.nn import linen

slow = lambda *case: pytest.param(*case, marks=pytest.mark.slow)
DRAW = np.random.default_rng(0)
X, SEQUENCE, TOKENS = DRAW.normal(size=(4, 16)).astype("float32"), DRAW.normal(size=(2, 5, 8)).astype("float32"), np.arange(6)


def mask(shape):
    return np.random.default_rng(len(shape)).random(shape) < 0.4


def masked(params, kind="kernel"):
    kill = lambda path, leaf: jnp.where(mask(leaf.shape), leaf, 0) if path[-1].key == kind else leaf
    return jax.tree_util.tree_map_with_path(kill, params)


KERNELS = {"kernel": lambda leaf: sj.TeSA(mask(leaf.shape))}


def assert_close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


class Coder(nn.Module):
    """Two methods, each with its own layer."""

    def setup(self):
        self.a, self.b = nn.Dense(8), nn.Dense(16)

    def __call__(self, x):
        return self.decode(self.encode(x))

    def encode(self, x):
        return nn.relu(self.a(x))

    def decode(self, z):
        return self.b(z)


class Whole(nn.Module):
    coder: nn.Module

    def __call__(self, x):
        return self.coder.decode(2 * self.coder.encode(x))


class Sizes(nn.Module):
    """Fields that cannot be hashed."""

    sizes: list
    scale: np.ndarray

    @nn.compact
    def __call__(self, x):
        for size in self.sizes:
            x = nn.Dense(size)(x)
        return x * self.scale


class Tied(nn.Module):
    def setup(self):
        self.table, self.dense = nn.Embed(32, 16), nn.Dense(16)

    def __call__(self, tokens):
        return self.table.attend(self.dense(self.table(tokens)))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        ones = jnp.ones(x.shape[:2])
        return nn.MultiHeadDotProductAttention(2, qkv_features=16)(x, mask=nn.make_causal_mask(ones, dtype=bool))


class Twice(nn.Module):
    """One layer under `nn.jit`, used twice."""

    @nn.compact
    def __call__(self, x):
        dense = nn.jit(nn.Dense)(16)
        return dense(nn.relu(dense(x)))


ENSEMBLE = nn.vmap(nn.Dense, in_axes=None, out_axes=0, variable_axes={"params": 0}, split_rngs={"params": True}, axis_size=3)

PROGRAMS = {
    "a sequence of layers": (nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(4)]), X),
    "fields that cannot be hashed": (Sizes([16, 8], np.arange(8, dtype="float32")), X),
    "tied embeddings": (Tied(), TOKENS),
    "attention with a mask": (Attention(), SEQUENCE),
    "a layer twice": (Twice(), X),
    "an ensemble": (ENSEMBLE(8), X),
    "recurrent": (nn.RNN(nn.LSTMCell(16)), SEQUENCE),
}
QUICK = ("fields that cannot be hashed",)


@pytest.mark.parametrize("name", [name if name in QUICK else slow(name) for name in PROGRAMS])
def test_programs(name):
    dense, x = PROGRAMS[name]
    variables = dense.init(jax.random.key(0), x)
    want = dense.apply({"params": masked(variables["params"])}, x)
    sparse = linen.sparsify(dense, KERNELS)
    assert_close(sparse.apply(variables, x), want)
    packed = sparse.pack(variables, x)
    assert sparse.report(packed, x).sites
    assert_close(sparse.apply(packed, x), want)


def test_fields_count_by_content():
    sizes = [16, 8]
    sparse = linen.sparsify(Sizes(sizes, np.ones(8, "float32")), KERNELS)
    sparse.apply(sparse.init(jax.random.key(0), X), X)
    sizes.append(8)
    assert "Dense_2" in (params := sparse.init(jax.random.key(0), X)["params"])
    want = Sizes(sizes, np.ones(8, "float32")).apply({"params": masked(params)}, X)
    assert_close(sparse.apply({"params": params}, X), want)


@pytest.fixture(scope="module")
def params():
    return Coder().init(jax.random.key(0), X)["params"]


def test_params_appear_one_method_after_the_other(params):
    whole = Whole(linen.sparsify(Coder(), {"a/kernel": KERNELS["kernel"], "b/kernel": KERNELS["kernel"]}))
    made = whole.init(jax.random.key(0), X)
    assert_close(made, Whole(Coder()).init(jax.random.key(0), X))
    assert_close(whole.apply(made, X), Whole(Coder()).apply({"params": masked(made["params"])}, X))


def test_layers_of_a_bound_module_are_masked(params):
    bound = linen.sparsify(Coder(), KERNELS).bind({"params": params})
    want = Coder().bind({"params": masked(params)})
    assert_close((bound(X), bound.encode(X), bound.a(X)), (want(X), want.encode(X), want.a(X)))


@pytest.mark.parametrize(
    "method", [lambda whole, x: whole.coder.a(x), lambda whole, x: whole.coder.encode(x) + whole.coder.a(x)]
)
def test_layers_are_not_taken_out(method, params):
    whole = Whole(linen.sparsify(Coder(), KERNELS))
    with pytest.raises(SpartaTypeError, match="a is a layer of a sparsified Coder"):
        whole.apply({"params": {"coder": params}}, X, method=method)


def test_zeros_are_found(params):
    variables = {"params": masked(params)}
    sparse = linen.sparsify(Coder(), variables=variables)
    assert len(sparse.report(variables, X).sites) == 2
    assert_close(sparse.apply(variables, X), Coder().apply(variables, X))


def test_a_tree_like_the_variables(params):
    variables = {"params": params, "cache": {"n": jnp.zeros((2, 2))}}
    sparse = linen.sparsify(Coder(), {"params": sj.masks.from_zeros(masked(params))})
    assert_close(sparse.apply(variables, X), Coder().apply({"params": masked(params)}, X))
    again = linen.sparsify(Coder(), sparse.pack(variables, X).tesa)
    assert len(again.report(variables, X).sites) == 2
    with pytest.raises(SpartaTypeError, match="TeSAs of cache"):
        linen.sparsify(Coder(), sj.masks.magnitude(variables, density=0.5))


def test_what_cannot_be_is_said(params):
    sparse = linen.sparsify(Coder(), KERNELS)
    with pytest.raises(SpartaTypeError, match=r"not bound: call it by `apply"):
        sparse(X)
    with pytest.raises(SpartaTypeError, match="needs `tesa`, or `variables`"):
        linen.sparsify(Coder())
    with pytest.raises(SpartaTypeError, match="sparsified already"):
        linen.sparsify(sparse, KERNELS)
    with pytest.raises(SpartaTypeError, match="cannot be bound"):
        sparse.bind(sparse.pack({"params": params}, X))
