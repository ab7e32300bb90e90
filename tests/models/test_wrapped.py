"""Whole models through the module wrappers: outputs, gradients and packed variables are those of the masked model."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from models import linen_models, nnx_models
from models.models import distance, drawn, flat, tesa_of

from sparta_jax.nn import linen
from sparta_jax.nn import nnx as sparse_nnx

LINEN = [("decoder", "outputs"), ("lstm", "element"), ("lstm", "outputs")]
NNX = [("Perceptron", "element"), ("Perceptron", "outputs"), ("Encoder", "element")]
pytestmark = pytest.mark.slow


def masks_of(params, kind):
    """A tree of TeSAs, and the params masked by them."""
    tesa = jax.tree_util.tree_map_with_path(lambda path, leaf: tesa_of(kind)(jax.tree_util.keystr(path), leaf), params)
    kill = lambda leaf, t: leaf if t is None else jnp.where(t.mask, leaf, jnp.zeros((), leaf.dtype))
    leaves, tree = jax.tree.flatten(params)
    return tesa, lambda params: jax.tree.unflatten(tree, map(kill, jax.tree.leaves(params), tree.flatten_up_to(tesa)))


def valued(apply, data):
    """Outputs, and the gradient of a weighted sum of them."""

    def run(params):
        y, pull = jax.vjp(lambda params: apply(params, *data), params)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0]

    return jax.jit(run)


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize(("name", "kind"), LINEN)
def test_linen(name, kind):
    model = linen_models.MODELS[name]()
    dense, (params, others) = model.fn.__self__, (model.params["params"], {**model.params, "params": None})
    tesa, masked = masks_of(params, kind)
    sparse = linen.sparsify(dense, tesa)
    whole = lambda params: {**others, "params": params}
    got = valued(lambda params, *data: sparse.apply(whole(params), *data), model.data)(params)
    want = valued(lambda params, *data: dense.apply(whole(masked(params)), *data), model.data)(params)
    packed = sparse.apply(sparse.pack(whole(params), *model.data), *model.data)
    assert max(distance([got[0]], [want[0]]), distance([packed], [want[0]]), distance(flat(got[1]), flat(want[1]))) <= 1e-5


@pytest.mark.parametrize(("name", "kind"), NNX)
def test_nnx(name, kind):
    data = nnx_models.MODELS["mlp" if name == "Perceptron" else "encoder"]().data
    dense = getattr(nnx_models, name)(nnx.Rngs(0))
    nnx.update(dense, drawn(nnx.state(dense, nnx.Param)))
    tesa, masked = masks_of(nnx.state(dense, nnx.Param), kind)
    sparse = sparse_nnx.sparsify(dense, tesa)

    def pure(module):
        graph, params, rest = nnx.split(module, nnx.Param, ...)
        return params, lambda params, *data: nnx.merge(graph, params, rest)(*data)

    (params, ours), (_, theirs) = pure(sparse), pure(dense)
    got, want = valued(ours, data)(params), valued(lambda params, *data: theirs(masked(params), *data), data)(params)
    packed = sparse.pack(*data)(*data)
    assert max(distance([got[0]], [want[0]]), distance([packed], [want[0]]), distance(flat(got[1]), flat(want[1]))) <= 1e-5
    assert sparse.report(*data).sites
