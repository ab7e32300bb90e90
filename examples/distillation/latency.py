"""What a pruned encoder costs: the dense program, the same program on pruned weights, and the sparse one, in turns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

import sparta_jax as sj
from benchmarks.timing import interleave

Encode = Callable[..., jax.Array]


def latencies(
    encode: Encode, dense: Any, sparse: Mapping[str, Any], tesa: Any, workloads: Sequence[tuple], rounds: int
) -> list[dict[str, Any]]:
    """Median seconds of a call per workload: of `encode` on the dense params and on pruned ones, and of the sparse program.

    Args:
      encode: `(params, ids, mask) -> embeddings`.
      sparse: pruned params by name, all with the masks `tesa`; each is packed once, before it is timed.
    """
    dense, sparse = jax.device_put((dense, dict(sparse)))  # NumPy arrays would be copied in every call
    fast, found = sj.sparsify(encode, tesa), []
    for data in workloads:
        program = jax.jit(encode).lower(dense, *data).compile()
        calls = {"dense": functools.partial(program, dense, *data)}
        for name, params in sparse.items():
            packed = fast.pack(params, *data)
            calls[f"masked {name}"] = functools.partial(program, params, *data)
            calls[f"packed {name}"] = functools.partial(jax.jit(fast).lower(packed, *data).compile(), packed, *data)
        waiting = {name: functools.partial(_wait, call) for name, call in calls.items()}
        timings = interleave(waiting, rounds=rounds)
        batch, seq = data[0].shape
        found.append({"batch": batch, "seq": seq} | {name: timing.median for name, timing in timings.items()})
    return found


def _wait(call: Callable[[], jax.Array]) -> None:
    jax.block_until_ready(call())
