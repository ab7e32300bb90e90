"""Attention on CPUs by the native library: the scores of a few queries at a time, which never leave the cache."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ..problem import Attention, Cost
from . import native
from .dense import Whole
from .dense_attention import attention_bytes
from .table import register

CALL_SECONDS = 4e-6  # dispatch of one foreign call, threads woken
SCORE = 55.0  # operations' worth of time that a score's scale, mask and exponential take (measured with AVX-512)
PACKED = 26.0  # the same for an element of k or v, packed once per head


@dataclasses.dataclass(frozen=True)
class NativeAttention:
    """Panels of queries times a head's packed keys, softmax, times its values; always full float32."""

    name: str = "native_attention"
    implementation: str = "native"
    problem: type = Attention

    def why_not(self, problem: Attention) -> str | None:
        if (why := native.why_not_device(problem.device)) is not None:
            return why
        numbers = [d for d in problem.dtypes if d != np.bool_]
        if any(d != np.float32 for d in numbers):
            return "needs float32 operands, got " + ", ".join(map(str, dict.fromkeys(numbers)))
        return None

    def configs(self, problem: Attention) -> list[Whole]:
        return [Whole()]

    def cost(self, problem: Attention, config: Whole) -> Cost:
        scores = float(problem.m * problem.keys)
        packed = float(problem.batch * problem.heads * problem.keys * (problem.size + problem.v_size))
        few = 4 / min(problem.queries, 4)  # too few sums at once to hide the latency of a multiply-add
        flops = 2.0 * scores * (problem.size + problem.v_size) * few + SCORE * scores + PACKED * packed
        return Cost(flops, attention_bytes(problem), seconds=CALL_SECONDS)

    def run(self, problem: Attention, config: Whole, *operands: jax.Array) -> jax.Array:
        return problem.operation.result(attention(*problem.operation.parts(*operands)))


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    before: jax.Array | float = 1.0,
    after: jax.Array | float = 1.0,
    fill: jax.Array | float = 0.0,
) -> jax.Array:
    """`softmax(where(mask, (q * before) . k * after + bias, fill)) @ v`, per batch and head.

    Args:
      q: `f32[batch, queries, heads, size]`.
      k: `f32[batch, keys, kv_heads, size]`; `kv_heads` divides `heads`.
      v: `f32[batch, keys, kv_heads, v_size]`.
      bias: `f32[batch, heads, queries, keys]`, or of size 1 along some axes.
      mask: `bool`, alike.
      before, after, fill: scalars.

    Returns:
      `f32[batch, queries, heads, v_size]`.
    """
    batch, queries, heads, _ = q.shape
    scalars = jnp.stack([jnp.asarray(s, jnp.float32).reshape(()) for s in (before, after, fill)])
    call = jax.ffi.ffi_call("sparta_attention", jax.ShapeDtypeStruct((batch, queries, heads, v.shape[3]), jnp.float32))
    return call(
        q,
        k,
        v,
        jnp.zeros((0,), jnp.float32) if bias is None else bias,
        jnp.zeros((0,), jnp.bool_) if mask is None else mask,
        scalars,
        isa=native.forced_isa(),
    )


register(NativeAttention())
