"""Colours that are read on light and on dark paper, and figures without a paper of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap

LIVE, DEAD, BEFORE, TEXT = "#2a83c4", "#9a9a9a", "#e08214", "#7f7f7f"
GROUPS = ("#e08214", "#2ca02c", "#d62728", "#9467bd", "#17becf", "#bcbd22", "#e377c2", "#8c564b")  # none is the live blue


def _shades() -> ListedColormap:
    """Dead to live; steep at the beginning, for that a few live elements in a hundred are seen on any paper."""
    colours = [(0.6, 0.6, 0.6, 0.14), (0.35, 0.57, 0.75, 0.6), (0.165, 0.514, 0.769, 1.0)]
    ramp = LinearSegmentedColormap.from_list("ramp", colours)
    return ListedColormap(ramp(np.linspace(0, 1, 256) ** 0.6), name="share")


SHARE = _shades()


@contextmanager
def look() -> Iterator[None]:
    """Transparent paper; text and lines in a grey that stands out from white and from black."""
    grey: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), TEXT)
    bare: Any = {"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "legend.framealpha": 0.0}
    open_box: Any = {"axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context({**grey, **bare, **open_box}):
        yield


def axes_of(ax: Axes | None, width: float, height: float) -> Any:
    """The given axes, or those of a new figure of that size in inches."""
    return ax if ax is not None else plt.subplots(figsize=(width, height), layout="constrained")[1]


def legend_above(ax: Axes, columns: int) -> None:
    """A legend on top of the axes, where it covers nothing."""
    ax.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, borderaxespad=0.2)


def said(ax: Axes, words: str) -> None:
    """Words in the place of a picture that there is nothing to draw for."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", fontsize=8)
    ax.set_axis_off()


def shortened(name: str, most: int) -> str:
    """The end of a long name, from one of its own boundaries on where there is one."""
    if len(name) <= most:
        return name
    tail = name[len(name) - most + 1 :]
    starts = [i for i, c in enumerate(tail) if c in "/[" and i <= most // 3]
    return "…" + tail[starts[0] if starts else 0 :]
