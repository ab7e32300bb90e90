"""A propagation in text and HTML: alike layers of a stack in one row, long lists cut with a count."""

from __future__ import annotations

import dataclasses
import difflib
import html
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..explanation import Finding, listed
from ..records import NUMBER

if TYPE_CHECKING:
    from .propagation import Propagation, VariableFact

ROWS, CELLS = 24, 200  # rows of a section in text, in HTML
SHARES = ("density", "zero", "const", "unneeded")
HEAD = ("name", "shape", "live", "zero", "const", "unneeded", "module", "line")


def text(found: Propagation) -> str:
    """A headline, the warnings, and the rows of each section."""
    lines = [found.headline, *_cut([f"  {w}" for w in _alike(found.warnings)], ROWS, "warnings")]
    for title, facts in _sections(found):
        rows = [_row(group) for group in _groups([f for f in facts if not (f.is_plain or f.is_given)])]
        plain, given = sum(f.is_plain for f in facts), sum(f.is_given for f in facts)
        lines += [f"{title}:", *_cut(_aligned(_with_words(rows)), ROWS, "rows")]
        lines += [
            f"  ({n} more are {what})" for n, what in ((plain, "live everywhere"), (given, "constants of the program")) if n
        ]
    return "\n".join(lines)


def page(found: Propagation) -> str:
    """The same as HTML: a table per section."""
    esc = html.escape
    items = "".join(f"<li>{esc(w)}</li>" for w in _alike(found.warnings)[:CELLS])
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    tables = ""
    for title, facts in _sections(found):
        rows = [[*_row(group), group[0].scope, group[0].line] for group in _groups(facts)]
        body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows[:CELLS])
        left = f"<p>... and {len(rows) - CELLS} more rows</p>" if len(rows) > CELLS else ""
        is_open = " open" if title != "intermediates" else ""
        tables += f"<details{is_open}><summary>{title}</summary><table><tr>{head}</tr>{body}</table>{left}</details>"
    return f"<p>{esc(found.headline)}</p><ul>{items}</ul>{tables}"


def near(wanted: str, names: Collection[str], inputs: Sequence[str]) -> str:
    """What a message says of names that come near."""
    found = [name for name in names if wanted and wanted in name][:4] or difflib.get_close_matches(wanted, names, 4)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else f"inputs are {listed(inputs)}"


def _sections(found: Propagation) -> list[tuple[str, tuple[VariableFact, ...]]]:
    return [("inputs", found.inputs), ("intermediates", found.intermediates), ("outputs", found.outputs)]


def _groups(facts: Sequence[VariableFact]) -> list[list[VariableFact]]:
    """Facts that differ in the numbers of their names alone, and in their shares."""
    groups: dict[tuple, list[VariableFact]] = {}
    for fact in facts:
        groups.setdefault((_starred(fact), fact.shape, fact.is_plain), []).append(fact)
    return list(groups.values())


def _alike(findings: Sequence[Finding]) -> list[str]:
    """The warnings, those that differ in numbers alone once, with their count."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((NUMBER.sub("*", str(dataclasses.replace(finding, line=""))), finding.line), []).append(finding)
    return [str(g[0]) + (f" (and {len(g) - 1} alike)" if len(g) > 1 else "") for g in groups.values()]


def _starred(fact: VariableFact) -> str:
    """The name with the numbers of its layer starred: those of the module path where it has one."""
    scope, _, last = fact.name.rpartition("/")
    return f"{NUMBER.sub('*', scope)}/{last}" if scope else NUMBER.sub("*", last)


def _row(group: Sequence[VariableFact]) -> list[str]:
    first = group[0]
    name = first.name if len(group) == 1 else f"{_starred(first)} (x{len(group)})"
    return [name, str(list(first.shape)), *(_range([getattr(f, share) for f in group]) for share in SHARES)]


def _with_words(rows: list[list[str]]) -> list[list[str]]:
    words = lambda shares: [f"{s} {w}" if s != "0.0%" else "" for s, w in zip(shares, HEAD[3:6], strict=True)]
    return [[f"{name} {shape}", f"{live} live", *words(shares)] for name, shape, live, *shares in rows]


def _range(shares: Sequence[float]) -> str:
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low[:-1]}-{high}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True) if w).rstrip() for row in rows]


def _cut(lines: list[str], most: int, what: str) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"  ... and {len(lines) - most} more {what}"]
