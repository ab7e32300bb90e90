"""Pruning layer by layer: what the live weights must be so that each product's outputs stay what they were."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from ..sentence_encoder.model import Config
from .inputs import embedded, of_layer
from .moments import Moments

STAGES = (
    ("attention/query", "attention/key", "attention/value"),
    ("attention/out",),
    ("feed_forward/up",),
    ("feed_forward/down",),
)
# These are added to what another product read: whatever is wrong with that, they can mend.
BESIDE = {"attention/out": "attention/query", "feed_forward/down": "feed_forward/up"}


def reconstruct(config: Config, params: Any, tesa: Any, ids: np.ndarray, mask: np.ndarray) -> Any:
    """The params of a `SentenceEncoder` whose encoder is masked, and its live weights and biases solved anew.

    Layer by layer, product by product: the inputs are those that the pruned layers before give, the targets those of the dense
    model, so each product mends what it can of the errors before it. Frantar and Alistarh, "SparseGPT", 2023, in this order.

    Args:
      tesa: masks of the encoder's kernels.
      ids, mask: the tokens that are looked at; kernels `[fan_in, fan_out]` need many more of them than `fan_in`.
    """
    dense = sparse = embedded(config, params, ids)
    run, encoder = jax.jit(functools.partial(of_layer, config)), {}
    for name in (f"layer_{i}" for i in range(config.layers)):
        teacher = traverse_util.flatten_dict(params["encoder"][name], sep="/")
        masks = traverse_util.flatten_dict(tesa[name], sep="/")
        student = dict(teacher)
        target, wanted = run(teacher, dense, mask)
        wanted = jax.device_get(wanted)
        for stage in STAGES:
            met = jax.device_get(run(student, sparse, mask)[1])
            for product in stage:
                kernel, bias = (np.asarray(teacher[f"{product}/{key}"]) for key in ("kernel", "bias"))
                y = wanted[product][mask] @ kernel + bias
                if product in BESIDE:
                    y += (wanted[BESIDE[product]] - met[BESIDE[product]])[mask]
                solved = Moments.of(met[product][mask], y, kernel).solve(masks[f"{product}/kernel"])
                student |= {f"{product}/{key}": value for key, value in solved.items()}
        dense, sparse = target, run(student, sparse, mask)[0]
        encoder[name] = traverse_util.unflatten_dict(student, sep="/")
    return {**params, "encoder": encoder}
