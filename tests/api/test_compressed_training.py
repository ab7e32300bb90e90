"""Training compressed params equals training masked ones, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from api.masked_model import PARAMS, TOKENS, fast, masks, model
from api.programs import assert_near
from models.linen_models import MODELS
from models.models import both

RNG = np.random.default_rng(4)


def by_labels(params):
    """Labels go by path: of an array's shape only its live elements are left."""
    kind = lambda path, _: "vector" if path[-1].key in ("bias", "gain") else "matrix"
    return jax.tree_util.tree_map_with_path(kind, params)


OPTIMIZERS = {
    "adam": optax.adam(3e-3),
    "sgd with momentum": optax.sgd(1e-2, momentum=0.9),
    "adamw, clipped by the global norm": optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(3e-3, weight_decay=0.1)),
    "norms of whole params": optax.lamb(3e-3, weight_decay=0.01),
    "by labels": optax.multi_transform({"matrix": optax.adam(3e-3), "vector": optax.sgd(1e-2)}, by_labels),
    "steps of two batches": optax.MultiSteps(optax.adam(3e-3), 2),
    "without a schedule": optax.contrib.schedule_free_adamw(3e-3),
}


def trained(fn, params, optimizer, batches):
    """The params after every step, and the norms of the gradients."""

    def step(state, batch):
        params, moments = state
        grads = jax.grad(fn)(params, *batch)
        updates, moments = optimizer.update(grads, moments, params)
        params = optax.apply_updates(params, updates)
        return (params, moments), (params, optax.tree.norm(grads))

    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        return jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), batches))(params)


def objective(fn):
    return lambda params, *batch: optax.softmax_cross_entropy_with_integer_labels(fn(params, batch[0]), batch[1]).mean()


def apart(got, want) -> np.ndarray:
    """The relative distance of all params together, by step."""
    far = lambda trees: np.sqrt(sum(np.square(t.astype(np.float64)).reshape(len(t), -1).sum(1) for t in trees))
    got, want = ([np.asarray(a) for a in jax.tree.leaves(side)] for side in (got, want))
    return far([a - b for a, b in zip(got, want, strict=True)]) / far(want)


@pytest.mark.parametrize("name", [n if n.startswith("adamw") else pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS])
def test_a_hundred_steps(name):
    sparse, optimizer = fast("native"), OPTIMIZERS[name]
    batches = tuple(jnp.asarray(RNG.integers(24, size=(100, 3, 5)), jnp.int32) for _ in range(2))
    lean = sparse.compress(PARAMS, TOKENS)
    (_, moments), (path, norms) = trained(objective(sparse), lean, optimizer, batches)
    (_, dense), (wanted, wanted_norms) = trained(objective(lambda p, t: model(masks(p), t)), masks(PARAMS), optimizer, batches)
    assert_near(norms, wanted_norms)
    assert apart(jax.vmap(sparse.unpack)(path), wanted).max() <= 1e-5
    floats = lambda state: sum(a.size for a in jax.tree.leaves(state) if a.ndim)
    assert floats(moments) <= 0.75 * floats(dense)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["element", "block"])
def test_a_hundred_steps_of_a_transformer(kind):
    """Attention, norms and a tied embedding, in Flax. The gradient of a key's bias is round-off, of which Adam makes steps."""
    decoder = MODELS["decoder"]()
    with jax.numpy_dtype_promotion("standard"):
        sparse, dense = both(decoder, kind)
    lean = sparse.compress(decoder.params, *decoder.data)
    batches = tuple(jnp.asarray(RNG.integers(11, size=(100, 2, 6)), jnp.int32) for _ in range(2))
    optimizer = OPTIMIZERS["adam"]
    path, wanted = (
        trained(objective(f), p, optimizer, batches)[1][0] for f, p in ((sparse, lean), (dense, sparse.unpack(lean)))
    )
    got = jax.vmap(sparse.unpack)(path)
    assert apart(*map(without_biases_of_keys, (got, wanted))).max() <= 1e-5


def without_biases_of_keys(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [leaf for path, leaf in flat if not jax.tree_util.keystr(path).endswith("['key']['bias']")]
