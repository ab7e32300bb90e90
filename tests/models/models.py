"""What the tests of whole models share: a model as a function of its params, random masks, and the comparison."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import host
from programs.check import always_compacting, plain_products

import sparta_jax as sj

KINDS = ("element", "outputs", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("block", "inputs")))


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """`fn(params, *data)`."""

    fn: Callable
    params: Any
    data: tuple[jax.Array, ...]


def tesa_of(kind: str) -> Callable[[str, Any], sj.TeSA | None]:
    """Random masks of one kind for every floating-point leaf of two axes or more, and for some biases.

    `outputs` and `inputs` kill slices of the last axis and of the one before it."""

    def tesa(path: str, leaf: Any) -> sj.TeSA | None:
        rng, shape = np.random.default_rng(zlib.crc32(path.encode())), np.shape(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or len(shape) < 2 and (not shape or rng.random() < 0.7):
            return None
        if kind == "element":
            return sj.TeSA(rng.random(shape) < 0.4)
        if kind == "block":
            block = [1] * max(len(shape) - 2, 0) + [4] * min(len(shape), 2)
            return sj.TeSA.blocks(rng.random([-(-n // b) for n, b in zip(shape, block, strict=True)]) < 0.4, block, shape)
        axis = max(len(shape) - (1 if kind == "outputs" else 2), 0)
        return sj.TeSA.channels(rng.random(shape[axis]) < 0.6, axis, shape)

    return tesa


def data_of(*shapes: Sequence[int], seed: int = 0) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)


def tokens_of(*shape: int, high: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).integers(high, size=shape), jnp.int32)


def drawn(shapes: Any) -> Any:
    """Params of the given shapes: weights around 0, vectors (biases, scales, statistics) around 1, by their paths."""

    def draw(path, leaf):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        values = rng.normal(size=leaf.shape)
        if len(leaf.shape) < 2:
            return jnp.asarray(1 + 0.3 * np.abs(values), leaf.dtype)
        return jnp.asarray(values / np.sqrt(np.prod(leaf.shape[:-1])), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def check(build: Callable[[], Model], kind: str) -> None:
    """Outputs and gradients in the params equal those of the masked program: in float64, computed on the host."""
    with jax.enable_x64(True), plain_products(), always_compacting(), jax.numpy_dtype_promotion("standard"):
        model = build()
        wide = jax.tree.map(
            lambda a: a.astype("float64") if jnp.issubdtype(a.dtype, jnp.floating) else a, (model.params, model.data)
        )
        fast, masked = both(model, kind)
        got, want = (host.run(with_gradient(fn), *wide) for fn in (fast, masked))
    assert max(distance(a, b) for a, b in zip(got, want, strict=True)) <= 1e-10


def check_compiled(build: Callable[[], Model], kind: str) -> None:
    """The same in float32 as users run it: jitted, with the products' own kernels; packed params give the same outputs."""
    with jax.numpy_dtype_promotion("standard"):
        model = build()
        fast, masked = both(model, kind)
        got, want = (jax.jit(with_gradient(fn))(model.params, model.data) for fn in (fast, masked))
        packed = fast(fast.pack(model.params, *model.data), *model.data)
    assert max(distance(got[0], want[0]), distance(packed, want[0])) <= 1e-5
    assert distance(flat(got[1]), flat(want[1])) <= 1e-5  # of the whole gradient: single leaves are round-off in float32


def both(model: Model, kind: str) -> tuple[sj.Sparsified, Callable]:
    """The model sparsified, and of masked params."""
    masks = jax.tree_util.tree_map_with_path(functools.partial(_mask, tesa_of(kind)), model.params)
    masked = lambda params: jax.tree.map(lambda a, m: jnp.where(m, a, jnp.zeros((), a.dtype)), params, masks)
    return sj.sparsify(model.fn, jax.tree.map(sj.TeSA, masks)), lambda params, *data: model.fn(masked(params), *data)


def distance(got: Any, want: Any) -> float:
    """The largest relative error of a leaf, by norms; of leaves below a thousandth of the largest on that scale."""
    got, want = ([np.asarray(a, np.float64) for a in jax.tree.leaves(side)] for side in (got, want))
    least = 1e-3 * max(np.linalg.norm(b) for b in want)
    return max(float(np.linalg.norm(a - b) / max(np.linalg.norm(b), least)) for a, b in zip(got, want, strict=True))


def flat(tree: Any) -> np.ndarray:
    """All leaves behind one another."""
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])


def _mask(tesa: Callable, path: Any, leaf: jax.Array) -> np.ndarray:
    found = tesa(jax.tree_util.keystr(path), leaf)
    return np.ones(leaf.shape, bool) if found is None else found.mask


def with_gradient(fn: Callable) -> Callable:
    """Also the gradient, in the params, of a weighted sum of the outputs."""

    def run(params, data):
        floats, rest = _floats_of(params)
        outs, pull = jax.vjp(lambda floats: fn(rest(floats), *data), floats)
        weights = jax.tree.map(lambda y: np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype), outs)
        return outs, pull(weights)[0]

    return run


def _floats_of(params: Any):
    leaves, tree = jax.tree.flatten(params)
    moving = [i for i, a in enumerate(leaves) if jnp.issubdtype(a.dtype, jnp.floating)]

    def rest(floats):
        full = list(leaves)
        for i, value in zip(moving, floats, strict=True):
            full[i] = value
        return jax.tree.unflatten(tree, full)

    return [leaves[i] for i in moving], rest
