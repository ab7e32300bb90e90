"""Makers by score and by budget: elements, blocks, channels, heads, layers and N:M."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..errors import SpartaTypeError, SpartaValueError
from ..tesa import TeSA, check_axis
from ..trees import Leaf
from .budgets import Scope, check_density, check_scope, live_units
from .leaves import Paths, chosen, each, scores_of, tree_of
from .units import Block, head_of, root_mean_squares, sizes_of, slice_of


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
      scope: whether every leaf keeps its share of units (`"tensor"`), or all together do: the largest of all (`"global"`), or
        more of small leaves, in proportion to `sum(shape) / prod(shape)` (`"erk"`: Evci et al., 2020).

    Returns:
      A tree like `params` with a TeSA per pruned leaf, None elsewhere (dense).

    Raises:
      SpartaValueError: names the leaves; a density outside [0, 1], a block of another rank or with a size below 1, a regex
        that hits nothing, a NaN.
      SpartaTypeError: if a pruned leaf is traced, a `ShapeDtypeStruct` or no array of numbers: its values are needed.
    """
    return by_score(params, None, density=density, block=block, paths=paths, scope=scope)


def by_score(
    params: Any, scores: Any, *, density: float, block: Block = None, paths: Paths = None, scope: Scope = "tensor"
) -> Any:
    """Keeps the units of largest score: `pruning.saliency`, `pruning.activation`, or a tree of your own.

    Args:
      params: the tree that is pruned; its values are not read, unless `scores` is None.
      scores: an array of at least 0 for every pruned leaf, of its shape and at its key path; None: magnitudes. The score of a
        unit is the root mean square of its elements'.

    The other arguments, the result and what is raised are those of `magnitude`; scores that are missing, of another shape,
    negative or NaN are a SpartaValueError.
    """
    return _keep_largest(params, paths, density, scope, _scorer(scores, params), lambda shape: sizes_of(block, shape))


def random(
    params: Any, *, density: float, seed: Any = 0, block: Block = None, paths: Paths = None, scope: Scope = "tensor"
) -> Any:
    """Keeps units at random.

    A leaf's mask depends on the seed, its path, its shape and its budget alone, so it stays when other leaves come or go. The
    leaves may be `ShapeDtypeStruct`s.

    Args:
      seed: an integer of at least 0, or a JAX random key (not traced).

    The other arguments, the result and what is raised are those of `magnitude`.
    """
    seeds = _seeds(seed)

    def score(leaf: Leaf, block: tuple[int, ...]) -> np.ndarray:
        stream = np.random.default_rng([*seeds, zlib.crc32(leaf.path.encode())])
        return stream.random([-(-n // b) for n, b in zip(leaf.shape, block, strict=True)])

    return _keep_largest(params, paths, density, scope, score, lambda shape: sizes_of(block, shape))


def channels(
    params: Any, *, density: float, axis: int, paths: Paths = None, scope: Scope = "tensor", scores: Any = None
) -> Any:
    """Keeps the slices along one axis that have the largest root mean square, and kills the others whole.

    Each leaf's are chosen alone; `pruning.structured` chooses those that must die together. Li et al., "Pruning Filters for
    Efficient ConvNets", 2017 (by another norm).

    Args:
      axis: the channels' axis in every pruned leaf; negative counts from the end.
      scores: as in `by_score`.

    The other arguments, the result and what is raised are those of `magnitude`; an axis out of range is a SpartaValueError.
    """
    return _keep_largest(params, paths, density, scope, _scorer(scores, params), lambda shape: slice_of(axis, shape))


def heads(
    params: Any,
    *,
    density: float,
    heads: int,
    axis: int = -1,
    paths: Paths = None,
    scope: Scope = "tensor",
    scores: Any = None,
) -> Any:
    """Keeps the attention heads of largest root mean square: of `heads` equal runs of slices along one axis.

    Michel et al., "Are Sixteen Heads Really Better than One?", 2019.

    Args:
      heads: how many heads lie along the axis: that of `[d, heads * width]`, or `heads` of `[d, heads, width]` with `axis=1`.
      axis: the heads' axis in every pruned leaf; negative counts from the end.
      scores: as in `by_score`.

    The other arguments, the result and what is raised are those of `magnitude`; heads that do not divide the axis are a
    SpartaValueError.
    """
    return _keep_largest(params, paths, density, scope, _scorer(scores, params), lambda shape: head_of(axis, heads, shape))


def layers(params: Any, *, density: float, paths: Paths = None, scores: Any = None) -> Any:
    """Keeps whole leaves, those of the largest root mean square: `round(density * leaves)` of them.

    The arguments, the result and what is raised are those of `by_score`.
    """
    whole = lambda shape: tuple(max(n, 1) for n in shape)
    return _keep_largest(params, paths, density, "global", _scorer(scores, params), whole)


def nm(params: Any, *, n: int, m: int, axis: int = 0, paths: Paths = None, scores: Any = None) -> Any:
    """Keeps the `n` elements of largest magnitude of every `m` neighbours along `axis`; of equal ones the first.

    Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021. Axis 0 of a `[fan_in, fan_out]` weight is what a product
    sums over, as hardware wants it.

    Args:
      scores: as in `by_score`.

    Raises:
      SpartaValueError: names the leaves; unless `0 <= n <= m`, `1 <= m`, and `m` divides the axis; or on a NaN.

    The other arguments, the result and what else is raised are those of `magnitude`.
    """
    if not all(isinstance(i, int | np.integer) for i in (n, m)) or m < 1 or not 0 <= n <= m:
        raise SpartaValueError(f"{n}:{m} sparsity does not exist: it needs integers, 0 <= n <= m and m >= 1")
    score = scores_of(scores, params)

    def tesa(leaf: Leaf) -> TeSA:
        along = check_axis(axis, leaf.shape)
        if leaf.shape[along] % m:
            raise SpartaValueError(f"{m} does not divide axis {along} of shape {leaf.shape}; leave this leaf out by `paths`")
        sizes = np.moveaxis(score(leaf), along, -1)
        groups = sizes.reshape(*sizes.shape[:-1], leaf.shape[along] // m, m)
        live = np.zeros(groups.shape, np.bool_)
        np.put_along_axis(live, np.argsort(-groups, axis=-1, kind="stable")[..., :n], True, axis=-1)
        return TeSA(np.moveaxis(live.reshape(sizes.shape), -1, along))

    return tree_of(params, paths, tesa)


Scorer = Callable[[Leaf, tuple[int, ...]], np.ndarray]


def _scorer(scores: Any, params: Any) -> Scorer:
    """The root mean square of every block's scores."""
    score = scores_of(scores, params)
    return lambda leaf, block: root_mean_squares(score(leaf), block)


def _keep_largest(
    params: Any,
    paths: Paths,
    density: float,
    scope: Scope,
    score: Scorer,
    sizes: Callable[[tuple[int, ...]], tuple[int, ...]],
) -> Any:
    """The tree of TeSAs in which the blocks of largest `score(leaf, block)` live; `sizes(shape)` is a leaf's block."""
    check_scope(scope)
    leaves = chosen(params, paths)
    pruned = [leaf for leaf in leaves if leaf is not None]
    check_density(density, pruned)
    scores = each(lambda leaf: score(leaf, sizes(leaf.shape)), pruned, "params")
    live = iter(live_units(scores, [leaf.shape for leaf in pruned], density, scope))
    tesas = [None if leaf is None else TeSA.blocks(next(live), sizes(leaf.shape), leaf.shape) for leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(params), tesas)


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
