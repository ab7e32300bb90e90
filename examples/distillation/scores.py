"""What a block is worth: by how much a product's outputs change when it dies and the others take over what they can."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from ..sentence_encoder.model import Config
from .inputs import embedded, of_layer
from .moments import ridge


def surgeon(config: Config, params: Any, ids: np.ndarray, mask: np.ndarray, block: tuple[int, int]) -> Any:
    """A tree of scores for `sj.masks.by_score`, like the params of an encoder; None beside its kernels.

    The squared error of a product's outputs when one block of its weights dies and the others are solved anew: Frantar and
    Alistarh, "Optimal Brain Compression", 2022, by blocks and all at once. They compare within a kernel.

    Args:
      ids, mask: the tokens that are looked at; kernels `[fan_in, fan_out]` need many more of them than `fan_in`.
    """
    x, run, scores = embedded(config, params, ids), jax.jit(functools.partial(of_layer, config)), {}
    for name in (f"layer_{i}" for i in range(config.layers)):
        flat = traverse_util.flatten_dict(params["encoder"][name], sep="/")
        x, met = run(flat, x, mask)
        found = dict.fromkeys(flat)
        for product, inputs in met.items():
            gram = _centred_gram(np.asarray(inputs)[mask])
            inverse = np.linalg.inv(gram + ridge(gram))
            found[f"{product}/kernel"] = _losses(inverse, np.asarray(flat[f"{product}/kernel"]), block)
        scores[name] = traverse_util.unflatten_dict(found, sep="/")
    return scores


def _centred_gram(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    return x.T @ x / len(x)


def _losses(inverse: np.ndarray, kernel: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """The root of each block's loss, at each of its elements."""
    br, bc = block
    blocks = kernel.reshape(-1, br, kernel.shape[1])
    corners = np.stack([inverse[i : i + br, i : i + br] for i in range(0, len(inverse), br)])
    losses = np.sum(blocks * np.linalg.solve(corners, blocks), 1).reshape(len(blocks), -1, bc).sum(-1)
    return np.sqrt(np.repeat(np.repeat(losses, br, 0), bc, 1)).astype(np.float32)
