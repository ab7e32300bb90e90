"""Shapes: those of a primitive's results, where they follow from its params in ways of its own, and those of a reshape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from jax.extend.core import Primitive


def result_shapes(primitive: Primitive, params: dict, *shapes: Sequence[int]) -> list[tuple[int, ...]]:
    """The shapes of the results for float operands of `shapes`."""
    operands = [jax.ShapeDtypeStruct(tuple(shape), "float32") for shape in shapes]
    return [out.shape for out in jax.tree.leaves(jax.eval_shape(lambda *xs: primitive.bind(*xs, **params), *operands))]


def reshaped_runs(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes, without those of size 1, that a reshape turns into one another."""
    groups: list[tuple[list[int], list[int]]] = []
    olds, news = ([d for d, n in enumerate(shape) if n != 1] for shape in (old, new))
    size = lambda shape, axes: math.prod(shape[d] for d in axes)
    while olds or news:
        left, right = [olds.pop(0)], [news.pop(0)]
        while (a := size(old, left)) != (b := size(new, right)):
            (left if a < b else right).append((olds if a < b else news).pop(0))
        groups.append((left, right))
    return groups
