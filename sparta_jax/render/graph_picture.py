"""The program as a graph: operations in rows, what is dead greyed, dependency groups in colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle
from matplotlib.path import Path

from ..api import Propagation, VariableFact
from ..errors import SpartaValueError
from .graph_layout import Point, layout
from .look import DEAD, GROUPS, LIVE, TEXT, axes_of, look, shortened

MOST = 400  # nodes
WIDTH, HEIGHT, BAR = 0.86, 0.5, 0.09  # of a box and its bar, in columns and rows


@dataclasses.dataclass(frozen=True)
class Node:
    """One box.

    Attributes:
      fact: of the variable that it stands for.
      sources: the boxes that it reads.
    """

    fact: VariableFact
    sources: tuple[int, ...]


def graph(
    found: Propagation,
    ax: Axes | None = None,
    *,
    groups: Mapping[str, int | Sequence[int]] | None = None,
    details: bool = False,
) -> Axes:
    """Boxes from top to bottom: params and data, operations, outputs; a box's bar shows the share of its live elements.

    Args:
      found: what `propagate(fn, tesa)(*args)` returned.
      ax: where to draw; None: a new figure.
      groups: which params hold what must die together, as names to the numbers of groups: a dot of its colour per group. None:
        the dependency groups of the program, numbered as by `pruning.groups`; `{}`: no colours.
      details: every operation; else those alone whose facts differ from their operands', products, and where data meets.

    Raises:
      SpartaValueError: if there are more than 400 boxes: draw a part of the function.
    """
    nodes = _nodes(found, details)
    if len(nodes) > MOST:
        raise SpartaValueError(f"{len(nodes)} boxes are no picture; draw a part of the function, or details=False")
    numbers = found.groups if groups is None else {name: np.atleast_1d(given).tolist() for name, given in groups.items()}
    where = layout([node.sources for node in nodes])
    width, height = where.size
    with look():
        axes = axes_of(ax, 0.4 + 1.9 * width, 0.6 + 0.8 * height)
        for (source, user), way in where.ways.items():
            _line(axes, where.places[source], way, where.places[user])
        for node, (x, y) in zip(nodes, where.places, strict=True):
            _box(axes, node.fact, x, y)
            _dots(axes, numbers.get(node.fact.name, ()), x, y)
        axes.set_xlim(-0.55, width - 0.45)
        axes.set_ylim(height - 0.6, -0.45)
        axes.set_axis_off()
        _legend(axes, sorted({n for node in nodes for n in numbers.get(node.fact.name, ())}))
    return axes


def _line(ax: Axes, start: Point, way: Sequence[Point], end: Point) -> None:
    """From a box's lower edge through the gaps of the rows between to another's upper edge."""
    (x, y), half = start, HEIGHT / 2
    points, codes = [(x, y + half)], [Path.MOVETO]
    for i, (u, v) in enumerate((*way, end)):
        x, y = points[-1]
        middle = (y + v - half) / 2
        points += [(x, middle), (u, middle), (u, v - half)]
        codes += [Path.CURVE4] * 3
        if i < len(way):  # straight past the boxes of its row
            points.append((u, v + half))
            codes.append(Path.LINETO)
    style: Any = dict(arrowstyle="-|>", color=TEXT, lw=0.6, alpha=0.7, mutation_scale=7, shrinkA=0, shrinkB=0)
    ax.add_patch(FancyArrowPatch(path=Path(points, codes), zorder=1, **style))


def _dots(ax: Axes, numbers: Sequence[int], x: float, y: float) -> None:
    """A dot per dependency group along a box's upper edge."""
    for i, number in enumerate(numbers):
        ax.scatter(x + WIDTH / 2 - 0.06 - 0.08 * i, y - HEIGHT / 2, s=22, color=_colour(number), linewidths=0, zorder=3)


def _colour(group: int) -> str:
    return GROUPS[group % len(GROUPS)]


def _box(ax: Axes, fact: VariableFact, x: float, y: float) -> None:
    """Name, shape and share; below them a bar, blue as far as elements live, grey where they are dead."""
    left, top = x - WIDTH / 2, y - HEIGHT / 2
    dead = not fact.density
    colour = DEAD if dead else LIVE
    ax.add_patch(Rectangle((left, top), WIDTH, HEIGHT, fc=(*to_rgb(DEAD), 0.12) if dead else "none", ec=colour, lw=0.8))
    bottom = top + HEIGHT - BAR
    live = WIDTH * fact.density
    ax.add_patch(Rectangle((left, bottom), live, BAR, fc=LIVE, ec="none"))
    ax.add_patch(Rectangle((left + live, bottom), WIDTH - live, BAR, fc=DEAD, ec="none", alpha=0.6))
    shape = "x".join(map(str, fact.shape)) or "scalar"
    words = f"{shortened(fact.name, 30)}\n{shape}, {fact.density:.0%}" + (" live" if fact.density < 1 else "")
    ax.text(x, y - BAR / 2, words, ha="center", va="center", fontsize=6, linespacing=1.3)


def _legend(ax: Axes, groups: Sequence[int]) -> None:
    """What the colours say, below the graph."""
    handles: list[Any] = [Patch(color=LIVE, label="live"), Patch(color=DEAD, alpha=0.6, label="dead")]
    dots = [Line2D([], [], color=_colour(n), marker="o", ls="", ms=5, label=f"group {n}") for n in groups[: len(GROUPS)]]
    more = [Line2D([], [], ls="", label=f"... {len(groups)} groups")] if len(groups) > len(GROUPS) else []
    handles += [*dots, *more]
    ax.legend(handles=handles, fontsize=6, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(len(handles), 6))


def _nodes(found: Propagation, details: bool) -> list[Node]:
    """The boxes in the program's order, each with those that it reads, through what is not shown."""
    reached: dict[str, tuple[int, ...]] = {}
    nodes: list[Node] = []
    for fact, read in found.flow():
        sources = tuple(dict.fromkeys(i for name in read for i in reached.get(name, ())))
        ways = [set(reached[name]) for name in read if name in reached and not found[name].sources]
        joins = len(ways) > 1 and len(set.union(*ways)) > max(map(len, ways))  # of data: the sum of a residual stream
        if details or joins or _is_telling(fact, [found[name] for name in read], found):
            reached[fact.name] = (len(nodes),)
            nodes.append(Node(fact, sources))
        else:
            reached[fact.name] = sources
    return nodes


def _is_telling(fact: VariableFact, operands: Sequence[VariableFact], found: Propagation) -> bool:
    if not operands or fact in found.outputs:
        return not fact.is_given
    if fact.is_given or fact.sources:
        return False
    return "dot_general" in fact.name or "conv" in fact.name or all(abs(fact.density - o.density) > 1e-9 for o in operands)
