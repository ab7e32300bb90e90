"""Colours that are read on light and on dark paper, and figures without a paper of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

LIVE, DEAD, BEFORE, TEXT = "#1f77b4", "#9a9a9a", "#e08214", "#7f7f7f"
GROUPS = ("#1f77b4", "#e08214", "#2ca02c", "#d62728", "#9467bd", "#17becf", "#bcbd22", "#e377c2")
SHARE = LinearSegmentedColormap.from_list("share", [(0.6, 0.6, 0.6, 0.12), (0.12, 0.47, 0.71, 1.0)])  # dead to live


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
