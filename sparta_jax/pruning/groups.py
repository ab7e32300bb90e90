"""Dependency groups: the channels of a function's params, and which slices die with each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..interpreters.jaxprs import trace
from ..interpreters.links import channels_of, members
from ..trees import Leaf, leaves_of


@dataclasses.dataclass(frozen=True, eq=False)
class Slices:
    """The slices of one param along one axis.

    Attributes:
      leaf: the param's position among the leaves of the params.
      name: its key path.
      path: what regexes are searched in.
      shape: of the param.
      axis: that the slices lie along.
      channel: int `[shape[axis]]`, which channel of the group each slice belongs to; -1: to none.
    """

    leaf: int
    name: str
    path: str
    shape: tuple[int, ...]
    axis: int
    channel: np.ndarray

    def __str__(self) -> str:
        return f"{self.name} axis {self.axis}"


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels of a function that lie in the same params: hidden units, a residual stream, attention heads.

    A channel is one slice, or several, of every param of the group: they die together or not at all.

    Attributes:
      channels: how many there are.
      slices: where they lie.
    """

    channels: int
    slices: tuple[Slices, ...]

    def live(self, channels: np.ndarray, index: int) -> np.ndarray:
        """`bool[shape[axis]]`, which of `slices[index]` live if these `bool[channels]` do."""
        return np.append(channels, True)[self.slices[index].channel]

    def __str__(self) -> str:
        return f"{self.channels} channels: " + ", ".join(map(str, self.slices))

    __repr__ = __str__


def groups(fn: Callable[..., Any], params: Any, *args, **kwargs) -> list[Group]:
    """The channels of `fn(params, *args, **kwargs)` that can be pruned, those in the same params as one group.

    Slices belong together where the program lets them meet: in a sum, in a contraction, per head. So a hidden unit is a column
    of one weight, its bias and a row of the next weight; a residual stream is one group over all layers that write and read it;
    attention heads are pruned whole, and query heads that share keys and values as one. What the data or the outputs fix (input
    features, classes, vocabulary, positions) is in no group, and neither is a channel without others like it, or one that lies
    along one axis alone (rows of a table that this call does not read). Features of a grouped convolution die by whole groups.
    All layers that a `scan` goes over share their channels.

    Nothing is run: the arguments may be `ShapeDtypeStruct`s. Per-channel state (batch statistics) must be in `params`, for what
    is data stays whole.

    Returns:
      The groups, in the order of the params.
    """
    leaves, tree = jax.tree.flatten(params)
    program, _ = trace(
        lambda leaves, args, kwargs: fn(jax.tree.unflatten(tree, leaves), *args, **kwargs),
        leaves,
        args,
        kwargs,
        inline_remat=True,
    )
    inputs = program.inputs[: len(leaves)]
    channels = channels_of(program, set(inputs))
    return _grouped(leaves_of(params), [channels[v] for v in inputs])


def _grouped(leaves: Sequence[Leaf], channels: Sequence[tuple[np.ndarray, ...]]) -> list[Group]:
    """Channels are of one group if they lie along the same axes of the same params."""
    return [
        Group(len(names), tuple(_slices(leaves, channels[leaf][axis], leaf, axis, names) for leaf, axis in where))
        for where, names in members(channels).items()
    ]


def _slices(leaves: Sequence[Leaf], found: np.ndarray, leaf: int, axis: int, names: list[int]) -> Slices:
    """The slices of one param along one axis, whose channels are `found`; `names`, sorted, are those of the group."""
    known = np.array(names)
    at = np.minimum(np.searchsorted(known, found), len(known) - 1)
    numbers = np.where(known[at] == found, at, -1)
    numbers.flags.writeable = False
    return Slices(leaf, leaves[leaf].name, leaves[leaf].path, leaves[leaf].shape, axis, numbers)
