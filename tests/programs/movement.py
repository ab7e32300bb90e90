"""How a random program may move elements: reshapes, slices, concatenations, gathers, scatters."""

from __future__ import annotations

from .elements import BINARY
from .program import Scope, Skip


def heads(s: Scope) -> object:
    """A reshape that splits an axis, or merges two neighbours."""
    v, shape = s.pick(lambda shape: len(shape) > 0)
    axis = s.rng.randrange(len(shape)) if s.chance(0.3) else len(shape) - 1
    if len(shape) > 1 and (s.chance(0.5) or len(shape) == 4):
        axis = max(axis, 1)
        new = (*shape[: axis - 1], shape[axis - 1] * shape[axis], *shape[axis + 1 :])
    else:
        inner = s.choose([n for n in (2, 3, 4) if shape[axis] % n == 0] or [1])
        new = (*shape[:axis], shape[axis] // inner, inner, *shape[axis + 1 :])
    s.let(f"{v}.reshape({new})", new)


def movement(s: Scope) -> object:
    """Transposes, broadcasts, slices, pads, rolls, repeats."""
    v, shape = s.pick(lambda shape: len(shape) > 0)
    axis = s.rng.randrange(len(shape))
    n, at = shape[axis], ":, " * axis
    resized = lambda size: (*shape[:axis], size, *shape[axis + 1 :])
    form = s.rng.randrange(9)
    if form == 0:
        order = s.order(len(shape))
        return s.let(f"{v}.transpose({order})", tuple(shape[i] for i in order))
    if form == 1:
        count = s.choose([2, 3])
        return s.let(f"jnp.broadcast_to({v}, {(count, *shape)})", (count, *shape))
    if form == 2:
        start, step = s.rng.randrange(max(n // 2, 1)), s.choose([1, 2])
        return s.let(f"{v}[{at}{start}::{step}]", resized(len(range(start, n, step))))
    if form == 3:
        low, high = s.rng.randrange(3), s.rng.randrange(3)
        widths = [(low, high, 0) if d == axis else (0, 0, 0) for d in range(len(shape))]
        widths[axis] = (low - 1, high, 1) if s.chance(0.2) and n > 1 else widths[axis]
        fill, (low, high, between) = s.choose([0.0, 0.5]), widths[axis]
        return s.let(f"lax.pad({v}, jnp.asarray({fill}, {v}.dtype), {widths})", resized(n + low + high + between * (n - 1)))
    if form == 4:
        return s.let(f"jnp.repeat({v}, 2, {axis})", resized(2 * n))
    if form == 5:
        return s.let(f"jnp.concatenate([{v}, {v}], {axis})", resized(2 * n))
    if form == 6:
        return s.let(f"jnp.expand_dims({v}, {axis})", (*shape[:axis], 1, *shape[axis:]))
    if form == 7:
        cut = s.rng.randrange(n)
        if not 0 < cut < n:
            raise Skip
        return s.let(f"jnp.split({v}, [{cut}], {axis})", resized(cut), resized(n - cut))
    if n != 1:
        raise Skip
    return s.let(f"jnp.squeeze({v}, {axis})", (*shape[:axis], *shape[axis + 1 :]))


def joined(s: Scope) -> object:
    """A concatenation or a stack of different values."""
    a, shape = s.pick(lambda shape: len(shape) > 0)
    axis = len(shape) - 1 if s.chance(0.6) else s.rng.randrange(len(shape))
    alike = lambda other: (
        len(other) == len(shape) and all(m == n for d, (m, n) in enumerate(zip(other, shape, strict=True)) if d != axis)
    )
    b, other = s.pick(alike)
    if other == shape and s.chance(0.3):
        return s.let(f"jnp.stack([{a}, {b}], {axis})", (*shape[:axis], 2, *shape[axis:]))
    out = (*shape[:axis], shape[axis] + other[axis], *shape[axis + 1 :])
    return s.let(f"jnp.concatenate([{a}, {b}], {axis})", out)


def halves(s: Scope) -> object:
    """A gated unit of the halves of an axis."""
    v, shape = s.pick(lambda shape: len(shape) > 0 and shape[-1] % 2 == 0)
    half = (*shape[:-1], shape[-1] // 2)
    a, b = s.let(f"jnp.split({v}, 2, -1)", half, half)
    s.let(s.choose(BINARY).format(a, b), half)


def indexing(s: Scope) -> object:
    """Gathers, scatters, dynamic slices: at positions that are known, or data."""
    v, shape = s.pick(lambda shape: len(shape) > 0)
    axis = s.rng.randrange(len(shape))
    n, at = shape[axis], ":, " * axis
    resized = lambda size: (*shape[:axis], size, *shape[axis + 1 :])
    form = s.rng.randrange(8)
    places = s.generator().integers(n, size=3).tolist()
    where = f"np.array({places})" if s.chance(0.5) else s.integers((3,), n)
    if form == 0:
        return s.let(f"{v}[{at}{where}]", resized(3))
    if form == 1:
        return s.let(f"jnp.take({v}, {where}, axis={axis}, mode='clip')", resized(3))
    if form == 2:
        u, _ = s.pick(lambda other: other == resized(3)) if s.chance(0.5) else ("0.5", ())
        return s.let(f"{v}.at[{at}{where}].add({u})", shape)
    if form == 3:
        place = s.rng.randrange(n) if s.chance(0.5) else s.integers((), n)
        return s.let(f"{v}.at[{at}{place}].set({s.choose(['0.0', '0.5'])})", shape)
    if form == 4:
        start, size = s.integers((), n) if s.chance(0.6) else s.rng.randrange(n), -(-n // 2)
        return s.let(f"lax.dynamic_slice_in_dim({v}, {start}, {size}, {axis})", resized(size))
    if form == 5:
        u, update = s.pick(lambda other: len(other) == len(shape) and all(m <= n for m, n in zip(other, shape, strict=True)))
        starts = [s.integers((), 3) if s.chance(0.5) else "np.int32(0)" for _ in shape]
        return s.let(f"lax.dynamic_update_slice({v}, {u}, ({', '.join(starts)},))", shape)
    if form == 6:
        table = s.integers(resized(2), n)
        return s.let(f"jnp.take_along_axis({v}, {table}, {axis})", resized(2))
    if n < 2:
        raise Skip
    top, _ = s.let(f"lax.top_k(jnp.abs({v}), 2)", (*shape[:-1], 2), (*shape[:-1], 2)) if shape[-1] > 1 else (None, None)
    if top is None:
        raise Skip
    s.values.popitem()
    return top
