"""Tables in a terminal: by `rich` where it is installed, plain otherwise."""

from __future__ import annotations

import dataclasses
import sys


@dataclasses.dataclass(frozen=True)
class Table:
    """
    Attributes:
      title: above it.
      head: the columns' names.
      rows: their cells.
      foot: lines below.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    foot: tuple[str, ...] = ()

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        line = lambda cells: "  " + "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()
        return "\n".join([self.title, line(self.head), *map(line, self.rows), *(f"  {f}" for f in self.foot)])


def show(table: Table) -> None:
    """Prints a table to the standard output."""
    try:
        import rich.console
        import rich.table
    except ImportError:
        print(table, end="\n\n")
        return
    console = rich.console.Console(file=sys.stdout)
    if not console.is_terminal:
        print(table, end="\n\n")
        return
    drawn = rich.table.Table(*table.head, title=table.title, title_justify="left", caption="\n".join(table.foot))
    for row in table.rows:
        drawn.add_row(*row)
    console.print(drawn)
