"""Modules that users write: methods under `nnx.jit` and `nnx.remat`, recurrent cells, random streams that move."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from nn.masked_nnx import KERNELS, assert_close, masked

from sparta_jax.errors import SpartaTypeError
from sparta_jax.nn import nnx as sparse_nnx

slow = lambda *case: pytest.param(*case, marks=pytest.mark.slow)
DRAW = np.random.default_rng(0)
X, SEQUENCE = DRAW.normal(size=(4, 16)).astype("float32"), DRAW.normal(size=(2, 5, 16)).astype("float32")


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(16, 16, rngs=rngs)


class Jitted(Layer):
    @nnx.jit
    def __call__(self, x):
        return self.dense(x)


class Remat(Layer):
    def __call__(self, x):
        return nnx.remat(lambda dense, x: nnx.relu(dense(x)))(self.dense, x)


class Counting(Layer):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.calls[...] = self.calls[...] + 1
        return nnx.remat(lambda dense, x: dense(x))(self.dense, x)


class Recurrent(nnx.Module):
    """Its carry asks for random numbers, as every cell's does."""

    def __init__(self, rngs):
        self.cells = nnx.RNN(nnx.LSTMCell(16, 8, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.cells(x)


class Noisy(Layer):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.dense(x))


PROGRAMS = {
    "under nnx.jit": (Jitted, X),
    "under nnx.remat": (Remat, X),
    "recurrent": (Recurrent, SEQUENCE),
    "noisy": (Noisy, X),
}


@pytest.mark.parametrize("name", ["under nnx.remat", *map(slow, ("under nnx.jit", "recurrent", "noisy"))])
def test_programs(name):
    make, x = PROGRAMS[name]
    sparse, dense = sparse_nnx.sparsify(make(nnx.Rngs(0)), KERNELS), masked(make(nnx.Rngs(0)))
    assert_close(sparse(x), dense(x))
    served = sparse.pack(x)
    for _ in range(2):
        assert_close(served(x), dense(x))
    assert sparse.report(x).sites


def test_what_changes_is_kept():
    sparse = sparse_nnx.sparsify(Counting(nnx.Rngs(0)), KERNELS)
    for _ in range(2):
        sparse(X)
    assert int(sparse.calls[...]) == 2
    with pytest.raises(SpartaTypeError, match="changes variables"):
        sparse.pack(X)


def test_twice_is_refused():
    sparse = sparse_nnx.sparsify(Layer(nnx.Rngs(0)), KERNELS)
    with pytest.raises(SpartaTypeError, match="sparsified already"):
        sparse_nnx.sparsify(sparse, KERNELS)
