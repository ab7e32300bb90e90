"""Makers of TeSA trees: which elements of which params are live, by score, at random, or as given."""

from __future__ import annotations

import math
import numbers
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .errors import SpartaTypeError, SpartaValueError
from .tesa import TeSA, check_axis, check_block
from .trees import Leaf, leaves_of, match, raise_all, selected

Paths = str | Sequence[str] | None
Block = Sequence[int | None] | None
Scope = Literal["tensor", "global"]


def magnitude(params: Any, *, density: float, block: Block = None, paths: Paths = None, scope: Scope = "tensor") -> Any:
    """Keeps the units of largest magnitude: single elements, or blocks by their root mean square.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015; by block: Narang et al.,
    "Block-Sparse Recurrent Neural Networks", 2017.

    Args:
      params: the tree of arrays that is pruned.
      density: share of units that live, in [0, 1]: exactly `round(density * units)`; of equal ones the first.
      block: elements per block along each axis, one entry per axis, None for the whole axis; None alone: single elements. The
        last block of an axis may be smaller; what hangs over the edge counts as zero.
      paths: one or several regexes, searched in the paths `a/b/c`: all leaves that they hit are pruned, whatever their rank.
        None: floating-point leaves of two axes or more.
      scope: whether every leaf keeps its share of units (`"tensor"`) or all together do (`"global"`).

    Returns:
      A tree like `params` with a TeSA per pruned leaf, None elsewhere (dense).

    Raises:
      SpartaValueError: names the leaves; a density outside [0, 1], a block of another rank or with a size below 1, a regex
        that hits nothing, a NaN.
      SpartaTypeError: if a pruned leaf is traced, a `ShapeDtypeStruct` or no array of numbers: its values are needed.
    """
    score = lambda leaf, block: _root_mean_squares(_magnitudes(leaf), block)
    return _keep_largest(params, paths, density, scope, score, lambda shape: _sizes(block, shape))


def random(
    params: Any, *, density: float, seed: Any = 0, block: Block = None, paths: Paths = None, scope: Scope = "tensor"
) -> Any:
    """Keeps units at random.

    A leaf's mask depends on the seed, its path and its shape alone, so it stays when other leaves come or go. The leaves may be
    `ShapeDtypeStruct`s.

    Args:
      seed: an integer of at least 0, or a JAX random key (not traced).

    The other arguments, the result and what is raised are those of `magnitude`.
    """
    seeds = _seeds(seed)

    def score(leaf: Leaf, block: tuple[int, ...]) -> np.ndarray:
        stream = np.random.default_rng([*seeds, zlib.crc32(leaf.path.encode())])
        return stream.random([-(-n // b) for n, b in zip(leaf.shape, block, strict=True)])

    return _keep_largest(params, paths, density, scope, score, lambda shape: _sizes(block, shape))


def channels(params: Any, *, density: float, axis: int, paths: Paths = None, scope: Scope = "tensor") -> Any:
    """Keeps the slices along one axis that have the largest root mean square, and kills the others whole.

    Li et al., "Pruning Filters for Efficient ConvNets", 2017 (by another norm).

    Args:
      axis: the channels' axis in every pruned leaf; negative counts from the end.

    The other arguments, the result and what is raised are those of `magnitude`; an axis out of range is a SpartaValueError.
    """

    def sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
        along = check_axis(axis, shape)
        return tuple(1 if d == along else max(n, 1) for d, n in enumerate(shape))

    score = lambda leaf, block: _root_mean_squares(_magnitudes(leaf), block)
    return _keep_largest(params, paths, density, scope, score, sizes)


def nm(params: Any, *, n: int, m: int, axis: int = 0, paths: Paths = None) -> Any:
    """Keeps the `n` elements of largest magnitude of every `m` neighbours along `axis`; of equal ones the first.

    Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021. Axis 0 of a `[fan_in, fan_out]` weight is what a product
    sums over, as hardware wants it.

    Raises:
      SpartaValueError: names the leaves; unless `0 <= n <= m`, `1 <= m`, and `m` divides the axis; or on a NaN.

    The other arguments, the result and what else is raised are those of `magnitude`.
    """
    if not all(isinstance(i, int | np.integer) for i in (n, m)) or m < 1 or not 0 <= n <= m:
        raise SpartaValueError(f"{n}:{m} sparsity does not exist: it needs integers, 0 <= n <= m and m >= 1")

    def tesa(leaf: Leaf) -> TeSA:
        along = check_axis(axis, leaf.shape)
        if leaf.shape[along] % m:
            raise SpartaValueError(f"{m} does not divide axis {along} of shape {leaf.shape}; leave this leaf out by `paths`")
        sizes = np.moveaxis(_magnitudes(leaf), along, -1)
        groups = sizes.reshape(*sizes.shape[:-1], leaf.shape[along] // m, m)
        live = np.zeros(groups.shape, np.bool_)
        np.put_along_axis(live, np.argsort(-groups, axis=-1, kind="stable")[..., :n], True, axis=-1)
        return TeSA(np.moveaxis(live.reshape(sizes.shape), -1, along))

    return _tree(params, paths, tesa)


def from_zeros(params: Any, *, block: Block = None, paths: Paths = None) -> Any:
    """What is exactly zero already is dead; with `block`, blocks that are zero throughout. A leaf without any is None (dense).

    The arguments, and what is raised, are those of `magnitude`; NaN is not zero.
    """

    def tesa(leaf: Leaf) -> TeSA | None:
        live = TeSA(_values(leaf) != 0)
        return _sparse(live if block is None else live.coarsen(_sizes(block, leaf.shape)))

    return _tree(params, paths, tesa)


def from_masks(masks: Any, params: Any = None) -> Any:
    """The TeSAs of a tree of masks; a mask without a dead element is None (dense), and so is None.

    Args:
      masks: a tree of boolean arrays, or of numbers that are 0 and 1 as jaxpruner keeps them (`uint8`); or an object with such
        a tree as its attribute `masks` (jaxpruner's `SparseState`).
      params: if given, the result is like `params`, every mask must have its parameter's shape, and `masks` may be whatever
        `sparsify` takes: a prefix tree, other containers, regexes.

    Raises:
      SpartaValueError: names the masks that have other values than 0 and 1, or do not fit `params`.
      SpartaTypeError: if a mask is traced or no array of numbers.
    """
    tree = getattr(masks, "masks", masks) if not isinstance(masks, Mapping) else masks
    leaves = leaves_of(tree, "masks")
    tesas = jax.tree.unflatten(jax.tree.structure(tree), _each(_live, leaves, "masks"))
    if params is None:
        return tesas
    return jax.tree.unflatten(jax.tree.structure(params), match(tesas, params))


# -- which leaves


def _chosen(params: Any, paths: Paths) -> list[Leaf | None]:
    """The leaves that are pruned; None in the place of the others."""
    leaves = leaves_of(params)
    hit = [_is_weight(leaf) for leaf in leaves] if paths is None else selected(paths, leaves)
    return [leaf if is_hit else None for leaf, is_hit in zip(leaves, hit, strict=True)]


def _is_weight(leaf: Leaf) -> bool:
    return len(leaf.shape) >= 2 and jnp.issubdtype(leaf.value.dtype, jnp.floating)


def _tree(params: Any, paths: Paths, make: Callable[[Leaf], TeSA | None]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(params), _each(make, _chosen(params, paths), "params"))


def _each(make: Callable[[Leaf], Any], leaves: Sequence[Leaf | None], what: str) -> list[Any]:
    """`make` of every leaf; what goes wrong is raised at once, with the leaves' names."""
    made, faults = [], []
    for leaf in leaves:
        if leaf is None:
            made.append(None)
            continue
        try:
            made.append(make(leaf))
        except (SpartaTypeError, SpartaValueError) as fault:
            faults.append(type(fault)(f"{leaf.name}: {fault}"))
    raise_all(faults, what)
    return made


# -- values


def _values(leaf: Leaf) -> np.ndarray:
    """The leaf on the host, in a type that numpy computes in."""
    if isinstance(leaf.value, Tracer):
        raise SpartaTypeError("is traced, its values are needed; make masks outside `jit`, `grad` and `vmap`")
    if isinstance(leaf.value, jax.ShapeDtypeStruct):
        raise SpartaTypeError("is a ShapeDtypeStruct, its values are needed; give the array itself")
    dtype = leaf.value.dtype if hasattr(leaf.value, "dtype") else np.asarray(leaf.value).dtype
    if not jnp.issubdtype(dtype, jnp.number) and dtype != np.bool_:
        raise SpartaTypeError(f"has dtype {dtype}, which is no number; leave this leaf out by `paths`")
    values = np.asarray(leaf.value)
    if dtype == np.bool_ or jnp.issubdtype(dtype, jnp.integer):
        return values.astype(np.float64)  # the magnitude of -128 is no int8
    return values if values.dtype.kind in "fc" and values.itemsize > 2 else values.astype(np.float32)


def _magnitudes(leaf: Leaf) -> np.ndarray:
    sizes = np.abs(_values(leaf))
    if np.isnan(sizes).any():
        raise SpartaValueError(f"has {np.isnan(sizes).sum()} NaNs, which have no magnitude; replace them first")
    return sizes


def _live(leaf: Leaf) -> TeSA | None:
    """The TeSA of a mask of zeros and ones."""
    values = _values(leaf)
    live = values != 0
    if not np.array_equal(values, live):
        raise SpartaValueError(f"a mask of dtype {np.asarray(leaf.value).dtype} has values other than 0 and 1 (bits packed?)")
    return _sparse(TeSA(live))


def _sparse(tesa: TeSA) -> TeSA | None:
    return None if tesa.is_dense else tesa


# -- units, their scores, and which of them live


def _sizes(block: Block, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Elements per block along each axis."""
    if block is None:
        return (1,) * len(shape)
    sizes: Any = block
    if isinstance(block, Sequence) and len(block) == len(shape):
        sizes = tuple(max(n, 1) if b is None else b for b, n in zip(block, shape, strict=True))
    check_block(sizes, shape)
    return sizes


def _root_mean_squares(sizes: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """One entry per block: the root of the mean of the squares, with zeros behind the edges."""
    if all(b == 1 for b in block):
        return sizes
    rows = block[0] * max(1, 2**20 // max(1, block[0] * math.prod(sizes.shape[1:])))  # a slab's squares stay in the cache
    slabs = [_sums_of_squares(sizes[i : i + rows], block) for i in range(0, max(len(sizes), 1), rows)]
    return np.sqrt(np.concatenate(slabs) / math.prod(block))


def _sums_of_squares(sizes: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    sums = np.square(sizes, dtype=np.float64)
    for axis in reversed(range(sums.ndim)):
        if block[axis] > 1 and sums.shape[axis]:
            sums = np.add.reduceat(sums, np.arange(0, sums.shape[axis], block[axis]), axis)
    return sums


def _keep_largest(
    params: Any,
    paths: Paths,
    density: float,
    scope: Scope,
    score: Callable[[Leaf, tuple[int, ...]], np.ndarray],
    sizes: Callable[[tuple[int, ...]], tuple[int, ...]],
) -> Any:
    """The tree of TeSAs in which the blocks of largest `score(leaf, block)` live; `sizes(shape)` is a leaf's block."""
    if scope not in ("tensor", "global"):
        raise SpartaValueError(f"scope={scope!r} is unknown; there are 'tensor' and 'global'")
    leaves = _chosen(params, paths)
    pruned = [leaf for leaf in leaves if leaf is not None]
    _check_density(density, pruned)
    scores = _each(lambda leaf: score(leaf, sizes(leaf.shape)), pruned, "params")
    live = iter(_largest_of_all(scores, density) if scope == "global" else [_largest(s, density) for s in scores])
    tesas = [None if leaf is None else TeSA.blocks(next(live), sizes(leaf.shape), leaf.shape) for leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(params), tesas)


def _check_density(density: float, leaves: Sequence[Leaf]) -> None:
    names = ", ".join(leaf.name for leaf in leaves[:4]) + (f", ... ({len(leaves)} in all)" if len(leaves) > 4 else "")
    if isinstance(density, bool) or not isinstance(density, numbers.Real):
        raise SpartaTypeError(f"{names}: density {density!r} is no number")
    if not 0 <= density <= 1:
        raise SpartaValueError(f"{names}: density {density} is outside [0, 1]; it is the share that lives")


def _largest(scores: np.ndarray, density: float) -> np.ndarray:
    """True at the `round(density * size)` largest scores, of equal ones the first."""
    flat = scores.ravel()
    count = round(density * flat.size)
    if count in (0, flat.size):
        return np.full(scores.shape, count > 0)
    least = np.partition(flat, flat.size - count)[flat.size - count]
    live = flat > least
    live[np.flatnonzero(flat == least)[: count - np.count_nonzero(live)]] = True
    return live.reshape(scores.shape)


def _largest_of_all(scores: Sequence[np.ndarray], density: float) -> list[np.ndarray]:
    if not scores:
        return []
    together = _largest(np.concatenate([s.ravel() for s in scores]), density)
    ends = np.cumsum([s.size for s in scores])
    return [part.reshape(s.shape) for part, s in zip(np.split(together, ends[:-1]), scores, strict=True)]


def _seeds(seed: Any) -> list[int]:
    """What numpy's generator starts from."""
    if isinstance(seed, Tracer):
        raise SpartaTypeError("the seed is traced; make masks outside `jit`, `grad` and `vmap`")
    if isinstance(seed, jax.Array):
        seed = jax.random.key_data(seed) if jnp.issubdtype(seed.dtype, jax.dtypes.prng_key) else seed
    words = np.ravel(np.asarray(seed))
    if words.dtype.kind not in "iu" or not words.size:
        raise SpartaTypeError(f"the seed {seed!r} is neither an integer nor a JAX random key")
    if (words < 0).any():
        raise SpartaValueError(f"the seed {seed} is negative")
    return words.tolist()
