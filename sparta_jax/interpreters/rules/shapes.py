"""The shapes of a primitive's results, where they follow from its params in ways of its own."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.extend.core import Primitive


def result_shapes(primitive: Primitive, params: dict, *shapes: Sequence[int]) -> list[tuple[int, ...]]:
    """The shapes of the results for float operands of `shapes`."""
    operands = [jax.ShapeDtypeStruct(tuple(shape), "float32") for shape in shapes]
    return [out.shape for out in jax.tree.leaves(jax.eval_shape(lambda *xs: primitive.bind(*xs, **params), *operands))]
