"""Time and bytes of every sparse product, dense against sparse."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..records import Report, SiteRecord
from .look import DEAD, LIVE, look

MOST = 40  # sites


def sites(report: Report) -> Figure:
    """Two bars a product: the dense one and what was chosen; modelled milliseconds on the left, stored bytes on the right."""
    chosen = report.sites[:MOST]
    with look():
        figure, (time, size) = plt.subplots(
            1, 2, figsize=(8, 1 + 0.28 * max(len(chosen), 2)), layout="constrained", sharey=True
        )
        measured = any(s.measured for s in chosen)
        _bars(time, [(s.dense_seconds * 1e3, s.seconds * 1e3) for s in chosen], "ms, measured" if measured else "ms, modelled")
        _bars(size, [(s.dense_bytes / 1e6, s.bytes / 1e6) for s in chosen], "MB")
        time.set_yticks(range(len(chosen)), [_title(s) for s in chosen], fontsize=6)
        time.set_ylim(len(chosen) - 0.4, -0.6)
        size.legend(fontsize=7, loc="lower right")
        if len(report.sites) > MOST:
            size.set_title(f"{len(report.sites) - MOST} more", fontsize=7)
    return figure


def _title(site: SiteRecord) -> str:
    return f"{site.name} ({site.kernel})"


def _bars(ax: Axes, pairs: list[tuple[float, float]], unit: str) -> None:
    at = np.arange(len(pairs))
    ax.barh(at - 0.19, [dense for dense, _ in pairs], 0.36, color=DEAD, label="dense")
    ax.barh(at + 0.19, [sparse for _, sparse in pairs], 0.36, color=LIVE, label="chosen")
    ax.set_xlabel(unit, fontsize=7)
    ax.tick_params(axis="x", labelsize=7)
