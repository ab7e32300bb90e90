"""Structured pruning of the encoder: whole attention heads and whole feed-forward channels, with their biases."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import sparta_jax as sj

from .model import Config


def heads_and_channels(params: Any, config: Config, keep: float) -> Any:
    """A tree of TeSAs like the params: in every layer the heads and the channels of the largest norm are live.

    Args:
      keep: share of the heads and of the channels that is kept.
    """
    tesa = jax.tree.map(lambda _: None, params)
    for name, layer in params["encoder"].items():
        attention, feed_forward = layer["attention"], layer["feed_forward"]
        size = config.width // config.heads
        columns = sum(_squares(attention[n]["kernel"], 1) for n in ("query", "key", "value"))
        heads = (columns + _squares(attention["out"]["kernel"], 0)).reshape(-1, size).sum(-1)
        live = np.repeat(_largest(heads, keep), size)
        channels = _largest(_squares(feed_forward["up"]["kernel"], 1) + _squares(feed_forward["down"]["kernel"], 0), keep)
        written = {"attention": ("query", "key", "value"), "feed_forward": ("up",)}
        read = {"attention": "out", "feed_forward": "down"}
        for block, lines in (("attention", live), ("feed_forward", channels)):
            for dense in written[block]:
                of = layer[block][dense]
                tesa["encoder"][name][block][dense] = {
                    "kernel": sj.TeSA.channels(lines, 1, of["kernel"].shape),
                    "bias": sj.TeSA.channels(lines, 0, of["bias"].shape),
                }
            shape = layer[block][read[block]]["kernel"].shape
            tesa["encoder"][name][block][read[block]]["kernel"] = sj.TeSA.channels(lines, 0, shape)
    return tesa


def _squares(kernel: jax.Array, axis: int) -> np.ndarray:
    """The sum of squares of each slice along an axis."""
    return np.square(np.asarray(kernel)).sum(1 - axis)


def _largest(scores: np.ndarray, keep: float) -> np.ndarray:
    live = np.zeros(len(scores), bool)
    live[np.argsort(-scores)[: max(round(keep * len(scores)), 1)]] = True
    return live
