"""Rows of a report: alike ones once, columns aligned."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBER = re.compile(r"(?<![.\w])\d+(?![.\w])|(?<=_)\d+")


def grouped(rows: list[list[str]]) -> list[list[str]]:
    """Rows that differ in the numbers of their names alone (the layers of a stack), once, with their count."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for row in rows:
        groups.setdefault((NUMBER.sub("*", row[0]), *row[1:]), []).append(row)
    return [g[0] if len(g) == 1 else [f"{key[0]} (x{len(g)})", *key[1:]] for key, g in groups.items()]


def aligned(head: Sequence[str], rows: list[list[str]]) -> list[str]:
    """Lines of text, the head first; none of no rows."""
    if not rows:
        return []
    grid = [list(head), *rows]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in grid]
