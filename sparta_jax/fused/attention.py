"""Softmax attention as programs write it: two families of references, and what a kernel is told of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..problem import Attention as Attention
from ..problem import Device
from .primitive import Operand

# By name: the einsum of the scores, that of the result, and how q, k, v lie beside [batch, length, heads, size].
LAYOUTS = {
    "bqhd": ("...qhd,...khd->...hqk", "...hqk,...khd->...qhd", (0, 1, 2, 3), (0, 1, 2, 3)),
    "bhqd": ("...qd,...kd->...qk", "...qk,...kd->...qd", (0, 2, 1, 3), (0, 2, 1, 3)),
    "bhqd,bhdk": ("...qd,...dk->...qk", "...qk,...kd->...qd", (0, 2, 1, 3), (0, 3, 1, 2)),
}
SCALINGS = (None, "q/c", "q*c", "s*c", "s/c")


class Parts(NamedTuple):
    """What a kernel computes with: `score = where(mask, (q * before) . k * after + bias, fill)`.

    `q`, `k`, `v` are `[batch, length, heads, size]`, bias and mask `[batch, heads, queries, keys]` or of size 1 along some of
    these axes."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    bias: jax.Array | None
    mask: jax.Array | None
    before: jax.Array | float
    after: jax.Array | float
    fill: jax.Array | float


@dataclasses.dataclass(frozen=True)
class Written:
    """Attention by einsums or matrix products, a scale, a bias, a mask and `jax.nn.softmax`: Flax linen, Haiku, and by hand.

    Attributes:
      layout: a key of `LAYOUTS`.
      scaling: which of `SCALINGS`.
      bias, mask: whether there is one. The operands are q, k, v, then the scale, the bias, the mask and what it is filled with.
    """

    layout: str = "bqhd"
    scaling: str | None = None
    bias: bool = False
    mask: bool = False

    @property
    def operands(self) -> tuple[Operand, ...]:
        scale, scores = [Operand.SHARED] * bool(self.scaling), Operand.MAYBE
        return (*[Operand.BATCH] * 3, *scale, *[scores] * self.bias, *[scores, Operand.SHARED] * self.mask)

    def split(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """`(scale, bias, mask, fill)`, each None where there is none."""
        rest = list(operands[3:])
        take = lambda there: rest.pop(0) if there else None
        return take(bool(self.scaling)), take(self.bias), take(self.mask), take(self.mask)

    def reference(self, *operands: jax.Array) -> jax.Array:
        (q, k, v), (scale, bias, mask, fill) = operands[:3], self.split(operands)
        scores, mixed, _, _ = LAYOUTS[self.layout]
        q = q / scale if self.scaling == "q/c" else q * scale if self.scaling == "q*c" else q
        s = jnp.einsum(scores, q, k)
        s = s / scale if self.scaling == "s/c" else s * scale if self.scaling == "s*c" else s
        s = s if bias is None else s + bias
        s = s if mask is None else jnp.where(mask, s, fill)
        return jnp.einsum(mixed, jax.nn.softmax(s, axis=-1), v)

    def parts(self, *operands: jax.Array) -> Parts:
        (q, k, v), (scale, bias, mask, fill) = operands[:3], self.split(operands)
        _, _, order, k_order = LAYOUTS[self.layout]
        factor = 1.0 if scale is None else scale if self.scaling in ("q*c", "s*c") else 1 / scale
        before, after = (factor, 1.0) if self.scaling in ("q*c", "q/c") else (1.0, factor)
        fill = 0.0 if fill is None else fill
        return Parts(q.transpose(order), k.transpose(k_order), v.transpose(order), bias, mask, before, after, fill)

    def result(self, y: jax.Array) -> jax.Array:
        """The reference's result, from `[batch, length, heads, size]`."""
        return y.transpose(LAYOUTS[self.layout][2])

    def factors(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[str, ...], ...]:
        q, k, v = {
            "bqhd": ("B q H d", "B k H e", "B k H f"),
            "bhqd": ("B H q d", "B H k e", "B H k f"),
            "bhqd,bhdk": ("B H q d", "B H e k", "B H k f"),
        }[self.layout]
        scale, bias, mask, fill = self.split(shapes)
        given = [(scale, ()), (bias, _scores_factors(bias, 0)), (mask, _scores_factors(mask, 1)), (fill, ())]
        extras = [names for shape, names in given if shape is not None]
        result = q.replace("d", "f")
        return (*(tuple(x.split()) for x in (q, k, v)), *extras, tuple(result.split()))

    def problem(self, avals: Sequence[Any], device: Device) -> Attention:
        return attention_problem(self, avals, device)


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Attention as `jax.nn.dot_product_attention` writes it; Flax nnx calls that.

    Attributes:
      scale: of the scores.
      bias, mask: whether there is one. The operands are q, k, v, then the bias and the mask.
      causal: whether queries see no later keys.
    """

    scale: float
    bias: bool = False
    mask: bool = False
    causal: bool = False

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (*[Operand.BATCH] * 3, *[Operand.MAYBE] * (self.bias + self.mask))

    def split(self, operands: Sequence[Any]) -> tuple[Any, Any]:
        """`(bias, mask)`, each None where there is none."""
        rest = list(operands[3:])
        return rest.pop(0) if self.bias else None, rest.pop(0) if self.mask else None

    def reference(self, *operands: jax.Array) -> jax.Array:
        (q, k, v), (bias, mask) = operands[:3], self.split(operands)
        return jax.nn.dot_product_attention(q, k, v, bias, mask, scale=self.scale, is_causal=self.causal, implementation="xla")

    def parts(self, *operands: jax.Array) -> Parts:
        (q, k, v), (bias, mask) = operands[:3], self.split(operands)
        if self.causal:
            seen = jnp.tril(jnp.ones((1, 1, q.shape[1], k.shape[1]), bool))
            mask = seen if mask is None else mask & seen
        return Parts(q, k, v, bias, mask, 1.0, self.scale, _lowest(q.dtype))

    def result(self, y: jax.Array) -> jax.Array:
        return y

    def factors(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[str, ...], ...]:
        head = "H" if shapes[0][2] == shapes[1][2] else "h"
        keys = "H" if head == "H" else "g"
        scores = [_scores_factors(s, i, head) for i, s in enumerate(shapes[3:])]
        return (("B", "q", head, "d"), ("B", "k", keys, "e"), ("B", "k", keys, "f"), *scores, ("B", "q", head, "f"))

    def problem(self, avals: Sequence[Any], device: Device) -> Attention:
        return attention_problem(self, avals, device)


def attention_problem(operation: Written | Grouped, avals: Sequence[Any], device: Device) -> Attention:
    """The problem that stands behind an operation on operands like these."""
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
    parts = jax.eval_shape(operation.parts, *structs)
    (batch, queries, heads, size), (_, keys, kv_heads, _) = parts.q.shape, parts.k.shape
    shape = lambda a: None if a is None else a.shape
    return Attention(
        operation=operation,
        batch=batch,
        queries=queries,
        keys=keys,
        heads=heads,
        kv_heads=kv_heads,
        size=size,
        v_size=parts.v.shape[3],
        bias=shape(parts.bias),
        mask=shape(parts.mask),
        dtypes=tuple(np.dtype(a.dtype) for a in avals),
        device=device,
    )


def _scores_factors(shape: tuple[int, ...] | None, place: int, head: str = "H") -> tuple[str, ...]:
    """Names for the axes of a bias or a mask: those of size 1 have their own."""
    if shape is None:
        return ()
    return tuple(
        f"one{place}{i}" if n == 1 else name for i, (n, name) in enumerate(zip(shape, ("B", head, "q", "k"), strict=True))
    )


@functools.cache
def _lowest(dtype) -> float:
    """What `jax.nn.dot_product_attention` puts in the place of masked scores."""
    return float(-0.7 * np.finfo(dtype).max)
