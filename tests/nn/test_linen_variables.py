"""Variables as Flax has them: stacked by a scan, boxed, cached, perturbed, frozen, in a train state."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict, freeze
from flax.training.train_state import TrainState

import sparta_jax as sj
from sparta_jax.nn import linen

DRAW = np.random.default_rng(0)
X, SEQUENCE = DRAW.normal(size=(4, 16)).astype("float32"), DRAW.normal(size=(2, 3, 8)).astype("float32")
KEYS = {"dropout": jax.random.key(1), "noise": jax.random.key(2)}


def mask(shape):
    return np.random.default_rng(len(shape)).random(shape) < 0.4


def masked(variables):
    """With masked kernels, whatever they are boxed in."""
    kill = lambda path, leaf: jnp.where(mask(leaf.shape), leaf, 0) if "'kernel'" in jax.tree_util.keystr(path) else leaf
    return {**variables, "params": jax.tree_util.tree_map_with_path(kill, variables["params"])}


KERNELS = {"kernel": lambda leaf: sj.TeSA(mask(leaf.shape))}


def assert_close(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + jnp.tanh(nn.Dense(16)(nn.LayerNorm()(x))), x.sum()


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        layers = nn.scan(nn.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        return layers(name="layers")(x, None)


def test_a_scan_of_rematerialised_layers_inside():
    dense, sparse = Stack(), linen.sparsify(Stack(), KERNELS)
    variables = dense.init(jax.random.key(0), X)
    assert_close(sparse.init(jax.random.key(0), X), variables)
    value = lambda apply: jax.jit(jax.value_and_grad(lambda v: sum(y.sum() for y in apply(v, X))))(variables)
    assert_close(value(sparse.apply), value(lambda v, x: dense.apply(masked(v), x)))


class Noisy(nn.Module):
    """Statistics, a perturbation, two random streams."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(32)(x))
        x = self.perturb("middle", nn.Dropout(0.5, deterministic=not train)(x))
        if self.has_rng("noise"):
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(3)(x)


@pytest.fixture(scope="module")
def variables():
    return Noisy().init(jax.random.key(0), X)


MUTABLE = {
    "a name": "batch_stats",
    "a set": {"batch_stats"},
    "all others": nn.DenyList(("params", "perturbations")),
    "nothing": [],
    "everything": True,
}


@pytest.mark.slow
@pytest.mark.parametrize("rngs", [KEYS, jax.random.key(3)], ids=["streams", "one key"])
@pytest.mark.parametrize("name", MUTABLE)
def test_mutable_collections_and_random_streams(name, rngs, variables):
    options = dict(mutable=MUTABLE[name], rngs=rngs, train=name != "nothing")
    got = linen.sparsify(Noisy(), KERNELS).apply(variables, X, **options)
    assert_close(got, Noisy().apply(masked(variables), X, **options))


@pytest.mark.slow
def test_gradients_of_perturbations(variables):
    def gradient(apply):
        return jax.grad(lambda p: apply({**variables, "perturbations": p}, X).sum())(variables["perturbations"])

    want = gradient(lambda v, x: Noisy().apply(masked(v), x))
    assert_close(gradient(linen.sparsify(Noisy(), KERNELS).apply), want)


@pytest.mark.slow
def test_frozen_everything(variables):
    frozen = freeze(variables)
    tesa = sj.masks.from_zeros(freeze({"params": masked(variables)["params"]}))
    sparse = linen.sparsify(Noisy(), tesa)
    assert_close(sparse.apply(frozen, X), Noisy().apply(masked(variables), X))
    assert_close(sparse.apply(sparse.pack(frozen, X), X), Noisy().apply(masked(variables), X))
    assert isinstance(jax.grad(lambda v: sparse.apply(v, X).sum())(frozen), FrozenDict)
    zeros = linen.sparsify(Noisy(), variables=freeze(masked(variables)))
    assert len(zeros.report(frozen, X).sites) == 2


def test_boxed_params():
    boxed = nn.Dense(8, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out")))
    variables, sparse = boxed.init(jax.random.key(0), X), linen.sparsify(boxed, KERNELS)
    assert_close(sparse.init(jax.random.key(0), X), variables)
    for given in (variables, nn.unbox(variables)):
        assert_close(sparse.apply(given, X), boxed.apply(masked(variables), X))


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(2, qkv_features=8, decode=True)(x)


@pytest.mark.slow
def test_a_cache_goes_from_token_to_token():
    variables = Decoder().init(jax.random.key(0), SEQUENCE)
    sparse, ours, theirs = linen.sparsify(Decoder(), KERNELS), variables, masked(variables)
    for i in range(SEQUENCE.shape[1]):
        token = SEQUENCE[:, i : i + 1]
        y, cache = sparse.apply(ours, token, mutable=["cache"])
        want, wanted = Decoder().apply(theirs, token, mutable=["cache"])
        assert_close((y, cache), (want, wanted))
        ours, theirs = {**ours, **cache}, {**theirs, **wanted}


@pytest.mark.slow
def test_a_train_state(variables):
    """Under `jax.jit`, with statistics."""

    def trained(apply, params):
        state = TrainState.create(apply_fn=apply, params=params, tx=optax.adam(1e-2))

        @jax.jit
        @jax.numpy_dtype_promotion("standard")  # which optax needs
        def step(state, statistics):
            def loss(params):
                given = {"params": params, "batch_stats": statistics}
                y, new = state.apply_fn(given, X, train=True, rngs=KEYS, mutable=["batch_stats"])
                return jnp.square(y).mean(), new["batch_stats"]

            grads, statistics = jax.grad(loss, has_aux=True)(state.params)
            return state.apply_gradients(grads=grads), statistics

        statistics = variables["batch_stats"]
        for _ in range(3):
            state, statistics = step(state, statistics)
        return masked({"params": state.params})["params"], statistics

    dense = lambda v, *args, **kwargs: Noisy().apply(masked(v), *args, **kwargs)
    assert_close(*(trained(f, variables["params"]) for f in (linen.sparsify(Noisy(), KERNELS).apply, dense)))
