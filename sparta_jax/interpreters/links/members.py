"""Channels that lie in the same places, as groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..jaxprs import Program
from .labels import PINNED
from .sweep import channels_of

Place = tuple[int, int]  # a param's position, and an axis of it


def members(channels: Sequence[tuple[np.ndarray, ...]]) -> dict[tuple[Place, ...], list[int]]:
    """The channels of each group: those that lie along the same axes of the same params, two places or more, and two channels.

    Args:
      channels: per param and axis, the channel of each position.
    """
    places: dict[int, list[Place]] = {}
    for param, axes in enumerate(channels):
        for axis, names in enumerate(axes):
            for name in np.unique(names[names != PINNED]).tolist():
                places.setdefault(name, []).append((param, axis))
    groups: dict[tuple[Place, ...], list[int]] = {}
    for name in sorted(places):
        groups.setdefault(tuple(places[name]), []).append(name)
    return {where: names for where, names in groups.items() if len(where) > 1 and len(names) > 1}


def numbers_of(program: Program, params: Sequence[Any]) -> list[tuple[int, ...]]:
    """Of each param the numbers of the groups that lie in it, increasing."""
    channels = channels_of(program, set(params))
    groups = [{param for param, _ in places} for places in members([channels[v] for v in params])]
    return [tuple(i for i, group in enumerate(groups) if param in group) for param in range(len(params))]
