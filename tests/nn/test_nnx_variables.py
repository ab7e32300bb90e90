"""Variables as nnx has them: as params of plain functions, stacked by `nnx.vmap`, cached, in an optimizer that moves masks."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from nn.masked_nnx import KERNELS, assert_close, mask, masked

import sparta_jax as sj
from sparta_jax import training
from sparta_jax.nn import nnx as sparse_nnx

DRAW = np.random.default_rng(0)
X, SEQUENCE = DRAW.normal(size=(4, 16)).astype("float32"), DRAW.normal(size=(2, 3, 8)).astype("float32")


def test_params_of_a_plain_function():
    """Gradients, packed and compressed ones: of `nnx.Param`s as of arrays."""
    params = {"w": nnx.Param(jnp.asarray(DRAW.normal(size=(16, 8)), jnp.float32)), "b": nnx.Param(jnp.ones(8))}
    dense, live = lambda p, x: x @ p["w"][...] + p["b"][...], mask((16, 8))
    fast = sj.sparsify(dense, {"w": live})
    kill = lambda w: {**params, "w": nnx.Param(jnp.where(live, w[...], 0))}
    want = dense(kill(params["w"]), X)
    lean = fast.compress(params)
    for given in (params, fast.pack(params, X), lean):
        assert_close(fast(given, X), want)
    unpacked, gradient = fast.unpack(lean), jax.grad(lambda p: fast(p, X).sum())(params)
    assert_close((unpacked, gradient["w"]), (kill(params["w"]), live * X.sum(0)[:, None]))
    assert all(isinstance(tree["w"], nnx.Param) for tree in (unpacked, gradient))


def test_rules_are_logged(caplog):
    with caplog.at_level(logging.INFO, "sparta_jax"):
        sparse_nnx.sparsify(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), KERNELS | {"nowhere": None}, allow_unused=True)
    assert "rule 'kernel' hits params['kernel'].value" in caplog.text
    assert "rule 'nowhere' hits nothing" in caplog.text


class Cell(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.norm = nnx.Linear(16, 16, rngs=rngs), nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, x):
        return x + self.dropout(jnp.tanh(self.norm(self.dense(x))))


class Stack(nnx.Module):
    """Layers made by `nnx.vmap`, gone over by `nnx.scan`."""

    def __init__(self, rngs):
        self.layers = nnx.split_rngs(splits=3)(nnx.vmap(Cell, in_axes=(0,), out_axes=0))(rngs)
        self.head = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        run = nnx.scan(lambda layer, x: layer(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        return self.head(run(self.layers, x))


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.a, self.b = nnx.Linear(16, 16, rngs=rngs), nnx.Linear(16, 16, rngs=rngs)
        self.b.kernel = self.a.kernel

    def __call__(self, x):
        return self.b(jnp.tanh(self.a(x)))


class Adapted(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.LoRALinear(16, 16, lora_rank=2, rngs=rngs)

    def __call__(self, x):
        return self.a(x)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Stack, Tied, Adapted])
def test_modules(make):
    sparse, dense = sparse_nnx.sparsify(make(nnx.Rngs(0)), KERNELS), masked(make(nnx.Rngs(0)))
    assert_close(sparse(X), dense(X))
    others = lambda module: nnx.state(module, nnx.Not(nnx.Param))
    assert_close(others(sparse), others(dense))
    sparse.eval(), dense.eval()
    assert_close(sparse.pack(X)(X), dense(X))
    over_rows = nnx.vmap(lambda module, x: module(x), in_axes=(None, 0))
    assert_close(over_rows(sparse, X[:, None]), over_rows(dense, X[:, None]))


@pytest.mark.slow
def test_a_cache_goes_from_token_to_token():
    def made():
        module = nnx.MultiHeadAttention(2, 8, 16, decode=True, rngs=nnx.Rngs(0))
        module.init_cache((2, 3, 8))
        return module

    sparse, dense = sparse_nnx.sparsify(made(), KERNELS), masked(made())
    for i in range(SEQUENCE.shape[1]):
        assert_close(sparse(SEQUENCE[:, i : i + 1]), dense(SEQUENCE[:, i : i + 1]))


@pytest.mark.slow
def test_an_optimizer_that_moves_masks():
    """RigL in an `nnx.Optimizer`; then the module is sparsified with the masks that it has come to."""
    module = Cell(nnx.Rngs(0))
    module.dropout.deterministic = True
    params = lambda: nnx.state(module, nnx.Param)
    first = sj.masks.random(params(), density=0.25)
    rigl = training.rigl(optax.adam(1e-2), first, training.periodic(every=2, end=8), fraction=0.5)
    optimizer = nnx.Optimizer(module, rigl, wrt=nnx.Param)

    @nnx.jit
    @jax.numpy_dtype_promotion("standard")  # which optax needs
    def step(module, optimizer, x):
        optimizer.update(module, nnx.grad(lambda module: jnp.square(module(x)).mean())(module))

    for _ in range(5):
        step(module, optimizer, X)
        tesa = training.tesa_of(optimizer.opt_state, params())
        (found,) = jax.tree.leaves(tesa)
        assert found.nnz == 64
        assert not np.asarray(module.dense.kernel[...])[~found.mask].any()
        moments = [np.asarray(a) for a in jax.tree.leaves(optimizer.opt_state) if jnp.shape(a) == (16, 16)]
        assert not any(memory[~found.mask].any() for memory in moments)
    assert found != jax.tree.leaves(first)[0]
    module.eval()
    sparse = sparse_nnx.sparsify(module, tesa)
    assert sparse.report(X).sites
    assert_close(sparse(X), module(X))
