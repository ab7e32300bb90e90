"""Who computes `x @ w`: XLA's dense product, and `sparsify` with its own choice and with each implementation forced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sparta_jax as sj

from .cases import Case

FORCED = {"cpu": ("xla", "native"), "gpu": ("xla", "mosaic", "triton")}


@dataclasses.dataclass(frozen=True)
class Contender:
    """One compiled way to compute a case.

    Attributes:
      call: computes the product `[m, n]` and returns when it is there.
      kernel: the name and config of the kernel that does it.
      layout: how the weight is stored.
    """

    call: Callable[[], jax.Array]
    kernel: str
    layout: str


def product(w: jax.Array, x: jax.Array) -> jax.Array:
    return x @ w


def contenders(case: Case, platform: str) -> tuple[dict[str, Contender], dict[str, str]]:
    """The contenders of a case by name, and of those that cannot serve it the reason.

    The names: `dense`, jitted, of the weight masked beforehand; `masked`, jitted, which masks the weight in every call;
    `params`, sparsified, the weight given as it is (what dead elements hold counts as zero, so this stands for `masked`);
    `packed`, the weight packed once; `packed-<implementation>`, likewise with that implementation forced.
    """
    x_host, w_host = case.operands()
    x, w, tesa = jnp.asarray(x_host), jnp.asarray(w_host), sj.TeSA(case.mask())
    mask = jnp.asarray(case.mask())
    dense = jax.jit(product)
    masked = jax.jit(lambda w, x, mask: product(jnp.where(mask, w, 0), x))
    fast = sj.sparsify(product, tesa)
    ways = {
        "dense": Contender(lambda: dense(w, x).block_until_ready(), "XLA", "dense"),
        "masked": Contender(lambda: masked(w, x, mask).block_until_ready(), "XLA", "dense"),
        "params": _sparse(fast, w, x),
        "packed": _sparse(fast, fast.pack(w, x), x),
    }
    refused = {}
    for implementation in FORCED.get(platform, ("xla",)):
        name = f"packed-{implementation}"
        try:
            forced = sj.sparsify(product, tesa, implementation=implementation)
            ways[name] = _sparse(forced, forced.pack(w, x), x)
        except sj.SpartaError as error:
            refused[name] = str(error)
    return ways, refused


def _sparse(fast: Any, weight: Any, x: jax.Array) -> Contender:
    """The contender that a sparsified product is when it is given this weight, packed or not."""
    call = jax.jit(fast)
    (site,) = fast.report(weight, x).sites
    return Contender(lambda: call(weight, x).block_until_ready(), f"{site.kernel} {site.config}".strip(), site.layout)


def relative_error(y: jax.Array, exact: np.ndarray) -> float:
    """The norm of the difference over the norm of the exact result (over 1 where that is 0)."""
    return float(np.linalg.norm(np.asarray(y, np.float64) - exact) / (np.linalg.norm(exact) or 1.0))
