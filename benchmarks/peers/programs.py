"""Contests of whole programs: the sentence encoder, one step of Lyra's WaveGRU, a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .contest import OURS, XLA, Contest, Libraries
from .race import Local, Runner

SEQ = 128


def encoder(libraries: Libraries, batch: int, block: int, density: float) -> Contest:
    """The sentence encoder with random params, the six kernels of every layer pruned at random."""
    import jax
    import jax.numpy as jnp

    import sparta_jax as sj

    from ..minilm import CONFIG, encode
    from .encoder_onnx import encoder_onnx

    params = _initial_params()
    sizes = (block, block) if block > 1 else None
    tesa = sj.masks.random(params, density=density, block=sizes, paths=r"encoder/layer_\d+/.*kernel")
    masked = _masked(tesa, params)
    ids = np.random.default_rng(0).integers(1000, CONFIG.vocabulary, (batch, SEQ))
    data = jnp.asarray(ids, jnp.int32), jnp.ones((batch, SEQ), bool)
    contest = against_xla(encode, tesa, masked, *data)
    contest.tolerance = 1e-4  # against float32, in other libraries' order of sums and with their error functions

    inputs = {"ids": ids.astype(np.int64), "mask": np.ones((batch, SEQ), np.int64)}
    model = encoder_onnx(jax.tree.map(np.asarray, masked), CONFIG, batch, SEQ)
    contest.add("ort dense", lambda: libraries.onnx_session("ort dense", model, inputs))
    contest.add("deepsparse", lambda: libraries.deepsparse([model], inputs, batch))
    return contest


def wavegru(libraries: Libraries) -> Contest:
    """One step of Lyra's decoder at batch 1, all its matrices in one jitted function."""
    from .wavegru import load_params, step

    params, tesa, data = load_params()
    return against_xla(step, tesa, params, *data)


def training(libraries: Libraries, size: int, block: int, density: float, batch: int) -> Contest:
    """Forward, dx, dw and SGD update of an MLP of two square layers, on compressed params."""
    from ..training_step import Setting, contenders

    steps, error = contenders(Setting(size=size, batch=batch, block=block, density=density))
    checked = lambda shown: lambda _: np.array([shown])  # the steps' own check stands for a comparison here
    runners = [Local(XLA, steps["dense"], checked(0.0)), Local(OURS, steps["compressed"], checked(error))]
    return Contest(list(runners), np.zeros(1))


def against_xla(fn: Callable, tesa: Any, params: Any, *data: Any) -> Contest:
    """The packed program beside XLA's on masked params, whose result counts as exact."""
    import jax

    import sparta_jax as sj

    fast = sj.sparsify(fn, tesa)
    packed = fast.pack(params, *data)
    runners = [_compiled(XLA, jax.jit(fn), params, data), _compiled(OURS, jax.jit(fast), packed, data)]
    return Contest(runners, runners[0].result().astype(np.float64))


def _compiled(name: str, fn: Any, params: Any, data: tuple) -> Runner:
    """A jitted function with its arguments; a tree that it returns is compared as one vector, one array as it is."""
    import jax

    def flat(tree: Any) -> np.ndarray:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        return leaves[0] if len(leaves) == 1 else np.concatenate([leaf.ravel() for leaf in leaves])

    compiled = fn.lower(params, *data).compile()
    return Local(name, lambda: jax.block_until_ready(compiled(params, *data)), flat)


def _initial_params() -> Any:
    """Those that the encoder begins its training with."""
    import jax

    from ..minilm import CONFIG, DATA, SentenceEncoder

    zeros = [jax.numpy.zeros(d.shape, d.dtype) for d in DATA]
    return jax.jit(SentenceEncoder(CONFIG).init)(jax.random.key(0), *zeros)["params"]


def _masked(tesa: Any, params: Any) -> Any:
    """The params with their dead elements zero."""
    import jax
    import jax.numpy as jnp

    zero = lambda t, p: p if t is None else jnp.where(t.mask, p, 0)
    return jax.tree.map(zero, tesa, params, is_leaf=lambda t: t is None)
