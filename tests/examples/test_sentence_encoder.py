import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("flax", reason="the examples are written in Flax")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

from examples.sentence_encoder import pretrained
from examples.sentence_encoder.model import Config, SentenceEncoder

GOLDEN = Path(pretrained.__file__).with_name("golden.npz")
SMALL = Config(vocabulary=50, positions=12, width=24, hidden=40, heads=3, layers=2)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def directory():
    try:
        return pretrained.model_directory()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def small():
    """A small encoder and its params: `(apply, params)`."""
    model = SentenceEncoder(SMALL)
    ids = jnp.zeros((1, 5), jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(0), ids, ids == 0)
    return jax.jit(model.apply), variables


def test_tokens_are_those_of_transformers(directory, golden):
    ids, mask = pretrained.tokenize(directory, golden["sentences"].tolist(), golden["ids"].shape[1])
    np.testing.assert_array_equal(ids, golden["ids"])
    np.testing.assert_array_equal(mask, ids != 0)


def test_embeddings_are_those_of_transformers(directory, golden):
    config = pretrained.load_config(directory)
    assert config == Config()
    params = pretrained.load_params(directory, config)
    got = jax.jit(SentenceEncoder(config).apply)({"params": params}, golden["ids"], golden["ids"] != 0)
    want = golden["embeddings"].astype(np.float64)
    assert 1 - np.min(np.sum(want * got, axis=-1)) < 1e-5
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_golden_file_says_how_it_was_made(golden):
    made_with = json.loads(str(golden["made_with"]))
    assert {"script", "torch", "transformers", pretrained.PACKAGE} <= made_with.keys()
    assert (GOLDEN.parents[2] / made_with["script"]).exists()


def test_embeddings_have_length_one(small):
    apply, variables = small
    ids = np.random.default_rng(0).integers(0, 50, (4, 7), np.int32)
    out = apply(variables, ids, np.ones((4, 7), bool))
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 4, 7])
def test_padding_changes_nothing(small, length):
    apply, variables = small
    rng = np.random.default_rng(length)
    ids = rng.integers(0, 50, (3, length), np.int32)
    padded = np.concatenate([ids, rng.integers(0, 50, (3, 12 - length), np.int32)], axis=1)
    mask = np.broadcast_to(np.arange(12) < length, (3, 12))
    np.testing.assert_allclose(apply(variables, padded, mask), apply(variables, ids, mask[:, :length]), atol=1e-6)


def test_params_are_loaded_under_the_names_and_shapes_of_the_model(small):
    _, variables = small
    rng = np.random.default_rng(0)
    shapes = {f"embeddings.{name}_embeddings": (rows, 24) for name, rows in (("word", 50), ("position", 12), ("token_type", 2))}
    shapes |= {"embeddings.LayerNorm": (24,), "pooler.dense": (24, 24)}
    for i in range(SMALL.layers):
        for module in pretrained.LAYER.values():
            shape = {"intermediate.dense": (40, 24), "output.dense": (24, 40)}.get(module, (24, 24))
            shapes[f"encoder.layer.{i}.{module}"] = (24,) if "Norm" in module else shape
    checkpoint = {f"{module}.weight": rng.normal(size=shape) for module, shape in shapes.items()}
    checkpoint |= {f"{module}.bias": rng.normal(size=shape[0]) for module, shape in shapes.items()}
    params = pretrained.to_linen(checkpoint, SMALL)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, variables["params"])
    kernel = params["encoder"]["layer_1"]["feed_forward"]["up"]["kernel"]
    np.testing.assert_array_equal(kernel, checkpoint["encoder.layer.1.intermediate.dense.weight"].T)
