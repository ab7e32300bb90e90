"""Time and bytes of every sparse product, dense against sparse."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..records import Report, SiteRecord
from .look import DEAD, LIVE, legend_above, look, said, shortened

MOST = 40  # sites
SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
BYTES = {"GB": 1e9, "MB": 1e6, "kB": 1e3, "bytes": 1.0}


def sites(report: Report) -> Figure:
    """Two bars a product: the dense one and what was chosen; time of one call on the left, bytes of the weight on the right.

    A product that a call computes several times (a batch of weights, a loop's iterations) counts as often.
    """
    chosen = report.sites[:MOST]
    with look():
        figure, (time, size) = plt.subplots(
            1, 2, figsize=(8, 1.1 + 0.28 * max(len(chosen), 2)), layout="constrained", sharey=True
        )
        if not chosen:
            said(time, "no product has a sparse weight")
            size.set_axis_off()
            return figure
        often = [s.batch * s.times for s in chosen]
        seconds = [(n * s.dense_seconds, n * s.seconds) for n, s in zip(often, chosen, strict=True)]
        _bars(time, seconds, SECONDS, f", {report.source}")
        _bars(size, [(s.dense_bytes, s.bytes) for s in chosen], BYTES)
        time.set_yticks(range(len(chosen)), [_title(s) for s in chosen], fontsize=6)
        time.set_ylim(len(chosen) - 0.4, -0.6)
        legend_above(size, 2)
        if len(report.sites) > MOST:
            size.set_title(f"{len(report.sites) - MOST} more", fontsize=7, loc="left")
    return figure


def _title(site: SiteRecord) -> str:
    often = site.batch * site.times
    return f"{shortened(site.name, 40)} ({site.kernel}{f', {often} times' if often > 1 else ''})"


def _bars(ax: Axes, pairs: list[tuple[float, float]], units: Mapping[str, float], note: str = "") -> None:
    """Bars in the largest unit that the longest of them has one of."""
    most = max(max(pair) for pair in pairs)
    unit, scale = next(((u, s) for u, s in units.items() if most >= s), list(units.items())[-1])
    at = np.arange(len(pairs))
    ax.barh(at - 0.19, [dense / scale for dense, _ in pairs], 0.36, color=DEAD, label="dense")
    ax.barh(at + 0.19, [sparse / scale for _, sparse in pairs], 0.36, color=LIVE, label="chosen")
    ax.set_xlabel(unit + note, fontsize=7)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.tick_params(axis="x", labelsize=7)
