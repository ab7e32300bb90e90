"""One step of Lyra's WaveGRU decoder from its released weights, which were pruned in training: a product by one row each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sparta_jax as sj

from .contest import AbsentError

STACKS = range(3)
LAST = 4  # samples that are fed back


def load_params() -> tuple[Any, Any, tuple[jax.Array, ...]]:
    """`(params, tesa, data)` of `step`; kernels are `[in, out]`, dead elements zero."""
    path = Path(os.environ.get("SPARTA_JAX_DATA", ""), "lyra_wavegru.npz")
    if not path.is_file():
        raise AbsentError("SPARTA_JAX_DATA names no directory with lyra_wavegru.npz")
    params, tesa = {}, {}
    with np.load(path) as z:
        for name in z["names"].tolist():
            weight = z[f"{name}_weight"]
            mask = np.unpackbits(z[f"{name}_mask"], axis=1, count=weight.shape[1]).astype(bool)
            params[name] = {"kernel": jnp.asarray(weight.T.copy()), "bias": jnp.asarray(z[f"{name}_bias"])}
            tesa[name] = {"kernel": None if mask.all() else sj.TeSA(mask.T.copy()), "bias": None}
    rng = np.random.default_rng(0)
    sizes = (len(params["conv1d"]["kernel"]), 3 * 512, LAST, 1024)
    return params, tesa, tuple(jnp.asarray(rng.standard_normal((1, size)), jnp.float32) for size in sizes)


def step(params: Any, features: jax.Array, past: jax.Array, samples: jax.Array, state: jax.Array):
    """`(features [1, 480], past [1, 1536], samples [1, 4], state [1, 1024])` to a mixture's `means, mix, scales` and the state.

    Every matrix is used once: a window of features, three dilated stages that see their own past, three transposed ones of
    which one phase goes on, the gates, the gated recurrent unit, and the parameters of a mixture of logistics."""
    dense = lambda name, x: x @ params[name]["kernel"] + params[name]["bias"]
    x = jax.nn.relu(dense("conv1d", features))
    for i in STACKS:
        x = jax.nn.relu(dense(f"conditioning_stack_{i}", jnp.concatenate([past[:, 512 * i : 512 * (i + 1)], x], axis=-1)))
    for i in STACKS:
        x = jax.nn.relu(dense(f"transpose_{i}", x))[:, :512] if i < 2 else jax.nn.relu(dense(f"transpose_{i}", x))
    x = jax.nn.relu(dense("conv_cond", x[:, :512] + x[:, 512:]))
    given = dense("conv_to_gates", x) + dense("ar_to_gates", samples)
    update, reset, new = jnp.split(given, 3, axis=-1)
    update_h, reset_h, new_h = jnp.split(dense("gru_layer", state), 3, axis=-1)
    update, reset = jax.nn.sigmoid(update + update_h), jax.nn.sigmoid(reset + reset_h)
    state = update * state + (1 - update) * jnp.tanh(new + reset * new_h)
    out = jax.nn.relu(dense("proj", state))
    return dense("means", out), dense("mix", out), dense("scales", out), state
