"""Small programs around a sparse weight, in every layout that users write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from batches import of_case, together

import sparta_jax as sj


@dataclasses.dataclass(frozen=True)
class Case:
    """`fn(w, x)` with a sparse `w`."""

    fn: Callable
    w: tuple[int, ...]
    x: tuple[int, ...]
    sites: int = 1


LAYOUTS = {
    "x @ W": Case(lambda w, x: x @ w, (40, 48), (6, 40)),
    "W @ x": Case(lambda w, x: w @ x, (48, 40), (40, 6)),
    "x @ W.T": Case(lambda w, x: x @ w.T, (48, 40), (6, 40)),
    "vector @ W": Case(lambda w, x: x @ w, (40, 48), (40,)),
    "W @ vector": Case(lambda w, x: w @ x, (48, 40), (40,)),
    "vector @ vector": Case(lambda w, x: w @ x, (40,), (40,)),
    "leading axes": Case(lambda w, x: x @ w, (40, 48), (2, 3, 40)),
    "heads out": Case(lambda w, x: jnp.einsum("btd,dhe->bthe", x, w), (40, 4, 12), (2, 3, 40)),
    "heads first": Case(lambda w, x: jnp.einsum("btd,dhe->bhte", x, w), (40, 4, 12), (2, 3, 40)),
    "heads in": Case(lambda w, x: jnp.einsum("bthe,hed->btd", x, w), (4, 12, 40), (2, 3, 4, 12)),
    "contracted apart": Case(lambda w, x: jnp.einsum("ehbt,hde->btd", x, w), (4, 40, 12), (12, 4, 2, 3)),
    "batched weight": Case(lambda w, x: jnp.einsum("bmk,bkn->bmn", x, w), (3, 40, 16), (3, 5, 40)),
    "vmapped ensemble": Case(jax.vmap(lambda w, x: x @ w, (0, None)), (3, 40, 16), (5, 40)),
    "cast before": Case(lambda w, x: (x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(jnp.float32), (40, 48), (6, 40)),
    "reshaped weight": Case(lambda w, x: x @ w.reshape(40, 48), (40, 4, 12), (6, 40)),
    "preferred type": Case(
        lambda w, x: jax.lax.dot(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32),
        (40, 48),
        (6, 40),
    ),
    "precision": Case(lambda w, x: jnp.dot(x, w, precision="highest"), (40, 48), (6, 40)),
    "two readers": Case(lambda w, x: (x @ w) @ w.T, (40, 48), (6, 40), sites=2),
    "split weight": Case(lambda w, x: jnp.sin(x @ w[:, :24]) * (x @ w[:, 24:]), (40, 48), (6, 40), sites=2),
    "inner jit": Case(lambda w, x: jax.jit(lambda w: x @ w)(w), (40, 48), (6, 40)),
    "remat": Case(lambda w, x: jax.checkpoint(lambda w, x: jnp.sin(x @ w) @ w.T)(w, x), (40, 48), (6, 40), sites=2),
}


def mask_of(shape: tuple[int, ...], density: float, rng: np.random.Generator) -> np.ndarray:
    """Blocks of 8 along the first and last axis, with a ragged edge."""
    grid = rng.random([-(-n // 8) if d in (0, len(shape) - 1) and n > 12 else n for d, n in enumerate(shape)]) < density
    for axis, n in enumerate(shape):
        if grid.shape[axis] != n:
            grid = np.repeat(grid, 8, axis)
    return grid[tuple(slice(n) for n in shape)]


def random(shape: tuple[int, ...], rng: np.random.Generator) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def masked(fn: Callable, tesa: sj.TeSA) -> Callable:
    """The reference: `fn` of the masked weight."""
    return lambda w, *args: fn(jnp.where(tesa.mask, w, 0), *args)


def assert_near(got, want, tolerance: float = 1e-5) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        assert np.linalg.norm(a - b) <= tolerance * max(np.linalg.norm(b), 1e-6)


def assert_sides_near(sides: dict[str, Callable], args: dict[str, tuple], tolerance: Callable = lambda name: 1e-5) -> None:
    """By case: `sides[name](*args[name])` gives what was computed and what is expected. One compiled program of all of them."""
    results = together(sides)([args[name] for name in sides])
    for name, (got, want) in zip(sides, results, strict=True):
        with of_case(name):
            assert_near(got, want, tolerance(name))
