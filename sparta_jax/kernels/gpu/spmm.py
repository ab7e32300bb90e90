"""What the products of both GPU backends have in common: which problems they solve, and what stands around a kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from ...formats.bsr import BSR
from ...problem import DENSE, Epilogue, SpMM
from ...products import apply_epilogue
from .epilogue import ACTIVATIONS, Extras
from .sizes import padded, padding_bytes, parts, whole
from .steps import Steps, of_layout, sides
from .tile import Tile


def why_not(problem: SpMM, readable: Sequence[int]) -> str | None:
    """A phrase where the layout's blocks have sides that are not `readable`, or the epilogue is not to be had."""
    layout, activation = problem.layout, problem.epilogue.activation
    if layout != DENSE and (layout.format != "bsr" or layout.block is None):
        return f"reads dense and bsr weights, not {layout}"
    if layout.block is not None and any(side not in readable for side in layout.block):
        return f"reads blocks with sides {', '.join(map(str, readable))}, not {layout.block}"
    if activation not in ACTIVATIONS:
        return f"has no activation {activation}"
    return None


def blocks(
    problem: SpMM, dense: Sequence[tuple[int, int]], depths: tuple[int, ...], cols: tuple[int, ...]
) -> list[tuple[int, int]]:
    """The candidates for `(depth, cols)`: `dense` for a dense weight, else `depths` and `cols` that divide a packed block."""
    if problem.layout.block is None:
        return list(dense)
    contracted, out = sides(problem.layout.block, problem.transposed)
    return list(itertools.product(parts(contracted, depths), parts(out, cols)))


def rows(m: int, heights: Sequence[int]) -> list[int]:
    """The candidates for the rows of a tile: the two tallest that `m` rows fill."""
    return [height for height in heights if height <= whole(max(m, 1), heights[0])][-2:]


def steps_of(problem: SpMM, config: Tile) -> Steps:
    return of_layout(problem.pattern, problem.layout.block, problem.transposed, (config.depth, config.cols))


def whole_sizes(problem: SpMM, config: Tile) -> tuple[int, int, int]:
    """The padded `m, k, n`: whole tiles, and whole blocks of a packed weight."""
    block = problem.layout.block
    depth, cols = sides(block, problem.transposed) if block else (config.depth, config.cols)
    return whole(problem.m, config.rows), whole(problem.k, depth), whole(problem.n, cols)


def is_zero(problem: SpMM, steps: Steps) -> bool:
    """Whether nothing is to be multiplied: Pallas takes neither empty lists nor empty results."""
    return problem.m == 0 or steps.count == 0


def flops(problem: SpMM, config: Tile) -> float:
    """Of the blocks that are read, on whole tiles."""
    return 2.0 * whole_sizes(problem, config)[0] * steps_of(problem, config).count * config.depth * config.cols


def written_bytes(problem: SpMM, fused: bool = False) -> int:
    """Of the result, and of a residual that is added to it: in the kernel, or after it."""
    return problem.m * problem.n * problem.out_dtype.itemsize * ((2 if fused else 4) if problem.epilogue.residual else 1)


def fuses_residual(problem: SpMM, config: Tile) -> bool:
    """Whether a residual is added in the kernel: of whole tiles, which no copy pads."""
    return (problem.m, problem.n) == whole_sizes(problem, config)[::2]


def moved_bytes(problem: SpMM, config: Tile, fused: bool) -> int:
    """What goes to and from memory, copies that pad included; `fused`: whether a residual is added in the kernel."""
    m, k, n = whole_sizes(problem, config)
    itemsize, out_itemsize = problem.x_dtype.itemsize, problem.out_dtype.itemsize
    moved = (m * k + steps_of(problem, config).count * config.depth * config.cols) * itemsize
    moved += written_bytes(problem, fused)
    moved += padding_bytes((problem.m, problem.k), (m, k), itemsize)
    moved += padding_bytes((problem.m, problem.n), (m, n), out_itemsize)
    return moved + (padding_bytes((problem.k, problem.n), (k, n), itemsize) if problem.layout == DENSE else 0)


def run(
    problem: SpMM,
    config: Tile,
    fused: bool,
    kernel: Callable[[jax.Array, jax.Array, Extras], jax.Array],
    x: jax.Array,
    weight: jax.Array | BSR,
    extras: Sequence[jax.Array],
) -> jax.Array:
    """The product by `kernel(x, w, extras)`, which is called on whole tiles, if there is anything to multiply; `fused`: whether
    a residual is added in it."""
    epilogue, rest = problem.epilogue, list(extras)
    if is_zero(problem, steps_of(problem, config)):
        return apply_epilogue(epilogue, jnp.zeros((problem.m, problem.n), problem.out_dtype), *extras)
    m, k, n = whole_sizes(problem, config)
    stored = (n, k) if problem.transposed else (k, n)
    w = weight.blocks if isinstance(weight, BSR) else padded(weight, stored)
    vector = lambda: padded(rest.pop(0).astype(jnp.float32), (n,))
    given = Extras(vector() if epilogue.scale else None, vector() if epilogue.bias else None)
    if epilogue.residual and fused:
        return kernel(padded(x, (m, k)), w, given._replace(residual=rest.pop(0)))
    y = kernel(padded(x, (m, k)), w, given)
    return apply_epilogue(Epilogue(residual=epilogue.residual), y[: problem.m, : problem.n], *rest)
