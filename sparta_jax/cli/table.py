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
        import rich.text
    except ImportError:
        print(table, end="\n\n")
        return
    console = rich.console.Console(file=sys.stdout)
    if not console.is_terminal:
        print(table, end="\n\n")
        return
    plain = rich.text.Text  # a path's brackets are no markup
    foot = plain("\n".join(table.foot))
    drawn = rich.table.Table(*table.head, title=plain(table.title), title_justify="left", caption=foot, caption_justify="left")
    for row in table.rows:
        drawn.add_row(*map(plain, row))
    console.print(drawn)
