"""The program as a graph: operations in layers, what is dead greyed, dependency groups in colours."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from ..api import Propagation, VariableFact
from ..errors import SpartaValueError
from .look import DEAD, GROUPS, LIVE, TEXT, axes_of, look

MOST = 400  # nodes


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
    """Boxes from top to bottom: params and data, operations, outputs; a box's fill shows the share of its live elements.

    Args:
      found: what `propagate(fn, tesa)(*args)` returned.
      ax: where to draw; None: a new figure.
      groups: which params hold what must die together, as names to the numbers of groups: a dot of its colour per group. None:
        the dependency groups of the program, numbered as by `pruning.groups`; `{}`: no colours.
      details: every operation; else those alone whose facts differ from their operands', and products.

    Raises:
      SpartaValueError: if there are more than 400 boxes: draw a part of the function.
    """
    nodes = _nodes(found, details)
    if len(nodes) > MOST:
        raise SpartaValueError(f"{len(nodes)} boxes are no picture; draw a part of the function, or details=False")
    numbers = found.groups if groups is None else {name: np.atleast_1d(given).tolist() for name, given in groups.items()}
    places = _places(nodes)
    width, height = (max(p[i] for p in places) + 1 for i in (0, 1))
    with look():
        axes = axes_of(ax, 1.5 + 1.7 * width, 0.8 + 0.55 * height)
        for node, (x, y) in zip(nodes, places, strict=True):
            for source in node.sources:
                _arrow(axes, places[source], (x, y))
            _box(axes, node, x, y)
            _dots(axes, numbers.get(node.fact.name, ()), x, y)
        axes.set_xlim(-0.6, width - 0.4)
        axes.set_ylim(height - 0.4, -0.6)
        axes.set_axis_off()
    return axes


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    (u, v), (x, y) = start, end
    bend = 0.25 if y - v > 1 and u == x else 0.0  # around the boxes between
    style = dict(arrowstyle="-|>", color=TEXT, lw=0.5, alpha=0.6, connectionstyle=f"arc3,rad={bend}")
    ax.annotate("", (x, y - 0.3), (u, v + 0.3), arrowprops=style, zorder=1)


def _dots(ax: Axes, numbers: Sequence[int], x: float, y: float) -> None:
    """A dot per dependency group along a box's upper edge."""
    for i, number in enumerate(numbers):
        ax.scatter(x + 0.36 - 0.1 * i, y - 0.26, s=16, color=GROUPS[number % len(GROUPS)], linewidths=0, zorder=3)


def _box(ax: Axes, node: Node, x: float, y: float) -> None:
    fact = node.fact
    colour = LIVE if fact.density else DEAD
    outline: dict[str, Any] = dict(boxstyle="round,pad=0.02", mutation_aspect=0.5)
    ax.add_patch(FancyBboxPatch((x - 0.42, y - 0.26), 0.84, 0.52, fc="none", ec=colour, lw=0.8, **outline))
    if fact.density:
        filled = FancyBboxPatch((x - 0.42, y - 0.26), 0.84 * fact.density, 0.52, fc=colour, ec="none", alpha=0.3, **outline)
        ax.add_patch(filled)
    shown = fact.name if len(fact.name) <= 24 else "..." + fact.name[-21:]
    shape = "x".join(map(str, fact.shape)) or "scalar"
    ax.text(x, y, f"{shown}\n{shape}, {fact.density:.0%}", ha="center", va="center", fontsize=5)


def _nodes(found: Propagation, details: bool) -> list[Node]:
    """The boxes in the program's order, each with those that it reads, through what is not shown."""
    shown: dict[str, int] = {}
    reached: dict[str, tuple[int, ...]] = {}
    nodes: list[Node] = []
    for fact, read in found.flow():
        sources = tuple(dict.fromkeys(i for name in read for i in reached.get(name, ())))
        if details or _is_telling(fact, [found[name] for name in read], found):
            reached[fact.name] = (len(nodes),)
            shown[fact.name] = len(nodes)
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


def _places(nodes: Sequence[Node]) -> list[tuple[float, float]]:
    """Column and row of each box: below all that it reads, near them."""
    rows: list[int] = []
    for node in nodes:
        rows.append(1 + max((rows[i] for i in node.sources), default=-1))
    users = collections.defaultdict(list)
    for i, node in enumerate(nodes):
        for source in node.sources:
            users[source].append(i)
    for i, node in enumerate(nodes):  # what is read late stands late
        if not node.sources and users[i]:
            rows[i] = min(rows[u] for u in users[i]) - 1
    taken: dict[int, set[int]] = collections.defaultdict(set)
    columns: list[int] = []
    for i, node in enumerate(nodes):
        wanted = round(sum(columns[s] for s in node.sources) / len(node.sources)) if node.sources else 0
        column = next(
            c for step in range(len(nodes) + 1) for c in (wanted + step, wanted - step) if c >= 0 and c not in taken[rows[i]]
        )
        taken[rows[i]].add(column)
        columns.append(column)
    return [(float(c), float(r)) for c, r in zip(columns, rows, strict=True)]
