"""Spy plots: which elements of a tensor live."""

from __future__ import annotations

import math
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from jax.tree_util import keystr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import SpartaTypeError, SpartaValueError
from ..tesa import TeSA
from .look import SHARE, TEXT, axes_of, look, shortened

PIXELS = 256  # per axis, at most
FINE = 768  # per axis, at least, of what is handed to Matplotlib
COLUMNS = 4


def shares(tesa: TeSA, pixels: int = PIXELS) -> np.ndarray:
    """`[rows, columns]`, at most `pixels` each: the share of live elements in every pixel, exactly.

    Leading axes beyond the last two are averaged; a vector is one row. A pixel that cuts through a cell counts the part that
    lies in it, so the mean of all pixels, weighted by their sizes, is the density.
    """
    if tesa.ndim == 0 or 0 in tesa.shape:
        raise SpartaValueError(f"a tensor of shape {tesa.shape} has no picture")
    image = np.asarray(tesa.cells, float)
    for axis in range(tesa.ndim - 2):
        image = np.tensordot(np.diff(tesa.cuts[axis]) / tesa.shape[axis], image, axes=(0, 0))
    if tesa.ndim == 1:
        return image[None] @ _overlaps(tesa.cuts[-1], pixels).T
    return _overlaps(tesa.cuts[-2], pixels) @ image @ _overlaps(tesa.cuts[-1], pixels).T


def _overlaps(cuts: np.ndarray, pixels: int) -> np.ndarray:
    """`[pixels, cells]`: which share of a pixel each cell covers."""
    edges = np.linspace(0, cuts[-1], min(pixels, int(cuts[-1])) + 1)
    low, high = np.maximum(edges[:-1, None], cuts[None, :-1]), np.minimum(edges[1:, None], cuts[None, 1:])
    return np.clip(high - low, 0, None) / np.diff(edges)[:, None]


def spy(tesa: TeSA, ax: Axes | None = None, *, title: str = "", pixels: int = PIXELS) -> Axes:
    """One tensor: live elements dark; where elements are smaller than a pixel, its shade is the share that lives.

    Args:
      tesa: which elements live; of more than two axes the leading ones are averaged.
      ax: where to draw; None: a new figure.
      pixels: the picture's resolution along each axis.
    """
    if not isinstance(tesa, TeSA):
        raise SpartaTypeError(f"`spy` draws a TeSA, not a {type(tesa).__name__}; trees of them by `masks`")
    with look():
        axes = axes_of(ax, 3, 3)
        image = shares(tesa, pixels)
        rows, columns = (1, *tesa.shape)[-2:]
        smooth: Any = dict(interpolation="antialiased", interpolation_stage="data")  # a screen's pixel shows the mean of ours
        axes.imshow(_enlarged(image), cmap=SHARE, vmin=0, vmax=1, aspect="auto", extent=(0, columns, rows, 0), **smooth)
        axes.set_title(title, fontsize=8)
        axes.set_xlabel(f"{'x'.join(map(str, tesa.shape))}, {tesa.density:.1%} live{_grain(tesa, image)}", fontsize=7)
        axes.tick_params(labelsize=6, color=TEXT)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        if tesa.ndim == 1:
            axes.set_yticks([])
    return axes


def _enlarged(image: np.ndarray) -> np.ndarray:
    """The image, every pixel repeated until it is finer than a screen: smoothing then blurs edges by no more than its pixel."""
    rows, columns = (-(-FINE // n) for n in image.shape)
    return image.repeat(rows, 0).repeat(columns, 1)


def _grain(tesa: TeSA, image: np.ndarray) -> str:
    """What a shade stands for, where a pixel is more than one element."""
    sizes = [n / pixels for n, pixels in zip((1, *tesa.shape)[-2:], image.shape, strict=True)]
    if tesa.ndim < 3 and max(sizes) == 1:
        return ""
    return "\nshade: share of " + "x".join([*map(str, tesa.shape[:-2]), *(f"{size:.3g}" for size in sizes)]) + " elements"


def masks(tree: Any, *, pixels: int = PIXELS) -> Figure:
    """A page of spy plots, one per TeSA of a tree (leaves that are None are dense and not drawn).

    Raises:
      SpartaValueError: if there is no TeSA in the tree.
    """
    paths = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: isinstance(leaf, TeSA))[0]
    leaves = [("/".join(keystr((k,), simple=True) for k in path), tesa) for path, tesa in paths if isinstance(tesa, TeSA)]
    if not leaves:
        raise SpartaValueError("there is no TeSA in this tree")
    rows = math.ceil(len(leaves) / COLUMNS)
    with look():
        size = (2.4 * min(len(leaves), COLUMNS), 2.4 * rows)
        figure, grid = plt.subplots(rows, min(len(leaves), COLUMNS), figsize=size, squeeze=False, layout="constrained")
        for ax, (path, tesa) in zip(grid.flat, leaves, strict=False):
            spy(tesa, ax, title=shortened(path, 30), pixels=pixels)
        for ax in grid.flat[len(leaves) :]:
            ax.set_axis_off()
    return figure
