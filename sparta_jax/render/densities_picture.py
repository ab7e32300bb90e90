"""What is live of the params and through the layers, as given and after propagation."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ..api import Propagation
from .look import BEFORE, LIVE, axes_of, legend_above, look, said

MOST = 60  # rows


def densities(found: Propagation, ax: Axes | None = None, *, layers: bool = True) -> Axes:
    """A row per param that is not live everywhere: the share that was given as live, and what propagation leaves of it.

    Args:
      found: what `propagate(fn, tesa)(*args)` returned.
      ax: where to draw; None: a new figure.
      layers: also rows for the intermediates that are not live everywhere, in the program's order.
    """
    rows = [(f.name, f.value.nonzero.nnz / max(f.value.nonzero.size, 1), f.density) for f in found.params if f.density < 1]
    if layers:
        rows += [(f.name, 1.0, f.density) for f in found.intermediates if f.density < 1 and not f.sources]
    left, rows = len(rows) - MOST, rows[:MOST]
    with look():
        axes = axes_of(ax, 7, 1 + 0.18 * max(len(rows), 3))
        if not rows:
            said(axes, "every element is live")
            return axes
        at = range(len(rows))
        axes.hlines(at, [after for *_, after in rows], [before for _, before, _ in rows], color=LIVE, alpha=0.5, linewidth=2)
        axes.scatter([before for _, before, _ in rows], at, color=BEFORE, s=34, label="as given", zorder=3)
        axes.scatter([after for *_, after in rows], at, color=LIVE, s=12, label="after propagation", zorder=4)
        axes.set_yticks(list(at), [name for name, *_ in rows], fontsize=6)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("live elements" + (f"; {left} more rows" if left > 0 else ""), fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
        legend_above(axes, 2)
    return axes
