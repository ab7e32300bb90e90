"""Sparse matrices of other libraries become dense params with TeSAs."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

import sparta_jax as sj


def scipy_like(dense):
    """What a CSC matrix offers: its elements by column."""
    columns, rows = np.nonzero(dense.T)
    listed = types.SimpleNamespace(data=dense[rows, columns], row=rows, col=columns, shape=dense.shape)
    return types.SimpleNamespace(tocoo=lambda: listed)


@pytest.mark.parametrize("source", [sparse.BCOO.fromdense, sparse.BCSR.fromdense, scipy_like])
def test_a_tree_with_sparse_leaves(source, rng):
    dense = np.where(rng.random((20, 30)) < 0.2, rng.standard_normal((20, 30)), 0).astype(np.float32)
    params, tesa = sj.from_sparse({"w": source(dense), "b": jnp.ones(30)})
    np.testing.assert_array_equal(params["w"], dense)
    np.testing.assert_array_equal(tesa["w"].mask, dense != 0)
    assert tesa["b"] is None
    x = jnp.asarray(rng.standard_normal((4, 20)), jnp.float32)
    fast = sj.sparsify(lambda p, x: x @ p["w"] + p["b"], tesa)
    np.testing.assert_allclose(fast(fast.pack(params, x), x), x @ dense + 1, rtol=1e-5, atol=1e-5)


def test_stored_elements_are_live_and_summed():
    indices = jnp.array([[0, 1], [0, 1], [2, 0], [3, 2]])  # one twice, one of value zero, one behind the edge
    source = sparse.BCOO((jnp.array([1.0, 2.0, 0.0, 9.0]), indices), shape=(3, 2))
    params, tesa = sj.from_sparse(source)
    np.testing.assert_array_equal(params, [[0, 3], [0, 0], [0, 0]])
    np.testing.assert_array_equal(tesa.mask, [[False, True], [False, False], [True, False]])


def test_other_formats_are_refused():
    with pytest.raises(sj.SpartaError, match="BCOO"):
        sj.from_sparse([sparse.COO.fromdense(jax.numpy.eye(3))])
