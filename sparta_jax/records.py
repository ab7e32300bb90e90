"""The frozen facts of a report, which print themselves."""

from __future__ import annotations

import dataclasses
import html
import re
from typing import Any


@dataclasses.dataclass(frozen=True)
class SiteRecord:
    """What was done at one product.

    Attributes:
      name: the key paths of the params its weight derives from.
      scope: the module path, `""` where the program names none.
      line: the user's source line.
      m, k, n: rows, contracted size, columns; `batch` such products.
      dtypes: of x, the weight and the result.
      density: share of live elements of the weight.
      cells: cells that the weight's mask is stored in.
      epilogue: what is fused behind.
      layout: how the weight is handed over.
      implementation, kernel, config: what was chosen.
      flops, dense_flops: executed, and of the dense product.
      bytes, dense_bytes: that the stored weight takes, and the dense one; of all `batch`.
      packing_bytes, packing_seconds: moved, and modelled, to bring the dense weight into its layout, once; of all `batch`.
      seconds, dense_seconds: modelled, of one of `batch` products, once.
      refused: `(kernel, reason)` of those that were not taken.
      times: how often a call computes it (the iterations of the loop around it, where they are known).
      measured: whether `seconds` was measured by `tune`, not modelled.
    """

    name: str
    scope: str
    line: str
    m: int
    k: int
    n: int
    batch: int
    dtypes: tuple[str, str, str]
    density: float
    cells: int
    epilogue: str
    layout: str
    implementation: str
    kernel: str
    config: str
    flops: float
    dense_flops: float
    bytes: int
    dense_bytes: int
    packing_bytes: int
    packing_seconds: float
    seconds: float
    dense_seconds: float
    refused: tuple[tuple[str, str], ...]
    times: int = 1
    measured: bool = False

    @property
    def stayed_dense(self) -> bool:
        return self.implementation == "dense"


@dataclasses.dataclass(frozen=True)
class Stayed:
    """Something that was left as it was, or taken otherwise than it stands, and why.

    Attributes:
      name: of the params it concerns, of a module or of a primitive.
      line: the user's source line.
      reason: a phrase.
    """

    name: str
    line: str
    reason: str


@dataclasses.dataclass(frozen=True)
class FusedRecord:
    """Operations between the products that are one, and what was chosen for them.

    Attributes:
      name: what it is ("attention").
      scope: the module path where it ends, `""` where the program names none.
      line: the user's source line.
      sizes: of what it works on.
      times: how often it runs.
      implementation, kernel: what was chosen; the first is `"dense"` where it stays what it was.
      seconds, dense_seconds: modelled time of one call, and of what the program says itself.
      refused: `(kernel name, reason)` of those that were not taken.
    """

    name: str
    scope: str
    line: str
    sizes: str
    times: int
    implementation: str
    kernel: str
    seconds: float
    dense_seconds: float
    refused: tuple[tuple[str, str], ...]

    def text(self) -> str:
        often = f" ({self.times} times)" if self.times > 1 else ""
        told = f"{self.kernel}{often}, modelled {self.seconds * 1e3:.3g} ms of {self.dense_seconds * 1e3:.3g}"
        reasons = [f"{kernel} {why}" for kernel, why in self.refused] if self.implementation == "dense" else []
        return "; ".join([f"{self.name} {self.sizes}: {self.scope or self.line}: {told}", *reasons])


@dataclasses.dataclass(frozen=True)
class Compaction:
    """What compaction found to leave out.

    Attributes:
      taken: whether it was left out: not where moving the rest costs more than it saves.
      flops, whole_flops: of all products of the program, compacted and whole.
      narrowed: `(key path, shape, shape of what is live)` of the params of which whole slices are dead.
    """

    taken: bool
    flops: float
    whole_flops: float
    narrowed: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def lines(self) -> list[list[str]]:
        verb = "compacted" if self.taken else "not compacted, as moving what is left costs more than it saves"
        head = [f"{verb}: {self.flops / 1e9:.3g} GFLOP of {self.whole_flops / 1e9:.3g} in all products"]
        sized = lambda sizes: "x".join(map(str, sizes))
        rows = [[f"live slices: {name}", f"{sized(now)} of {sized(shape)}"] for name, shape, now in self.narrowed]
        rows = _grouped(rows)
        more = len(rows) - MOST
        return [head, *rows[:MOST], *([[f"live slices: {more} more, in `report.compaction.narrowed`"]] if more > 0 else [])]


@dataclasses.dataclass(frozen=True)
class Report:
    """What `sparsify` does with a function at one call shape.

    Attributes:
      platform: that the plans were made for.
      sites: its sparse products.
      dense: products with a sparse weight that stay dense.
      without_rule: primitives at which facts were lost, for want of a rule.
      loops: loops over sparse stacked weights, and whether they were written out.
      weightless: softmaxes in which masked scores count as weight 0.
      compaction: dead slices, and what became of them; None where there are none.
      fused: operations between the products that are computed as one.
      estimated: why modelled times are no measurements, `""` where they are.
    """

    platform: str
    sites: tuple[SiteRecord, ...]
    dense: tuple[Stayed, ...]
    without_rule: tuple[Stayed, ...]
    loops: tuple[Stayed, ...] = ()
    weightless: tuple[Stayed, ...] = ()
    compaction: Compaction | None = None
    fused: tuple[FusedRecord, ...] = ()
    estimated: str = ""

    @property
    def totals(self) -> dict[str, float]:
        """Sums over the sites, by name of the field."""
        fields = (
            "flops",
            "dense_flops",
            "bytes",
            "dense_bytes",
            "packing_bytes",
            "packing_seconds",
            "seconds",
            "dense_seconds",
        )
        often = ("flops", "dense_flops", "seconds", "dense_seconds")
        each = lambda s, f: s.batch * s.times if f in often else 1
        return {f: sum(getattr(s, f) * each(s, f) for s in self.sites) for f in fields}

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "totals": self.totals}

    def __str__(self) -> str:
        columns = [c for c in COLUMNS if c[0] != "module"]
        rows = _grouped([[cell(s) for _, cell in columns] for s in self.sites])
        return "\n".join([self._headline(), *_table(columns, rows), *(f"  {line}" for line in (*self._left(), DOUBT))])

    def _left(self) -> list[str]:
        """What was compacted, what stayed dense and why, and where facts were lost; alike lines once."""
        lines = self.compaction.lines() if self.compaction is not None else []
        lines += [[f"dense: {s.name}: {_reasons(s)}"] for s in self.sites if s.stayed_dense]
        lines += [[f"fused: {f.text()}"] for f in self.fused]
        lines += [[f"modelled times: {self.estimated}"]] if self.estimated and self.sites else []
        kinds = {"dense": self.dense, "loop": self.loops, "no rule": self.without_rule, "softmax": self.weightless}
        for kind, stayed in kinds.items():
            lines += [[f"{kind}: {d.name}: {d.reason} ({d.line})"] for d in stayed]
        return [" ".join(cells) for cells in _grouped(lines)]

    def _headline(self) -> str:
        t = self.totals
        if not self.sites:
            return f"{self.platform}: no product has a sparse weight"
        return (
            f"{self.platform}: {len(self.sites)} products with a sparse weight, "
            f"{sum(not s.stayed_dense for s in self.sites)} on sparse kernels; "
            f"weights {t['bytes'] / 1e6:.3g} MB of {t['dense_bytes'] / 1e6:.3g}; "
            f"{t['flops'] / 1e9:.3g} GFLOP of {t['dense_flops'] / 1e9:.3g}; "
            f"modelled {t['seconds'] * 1e3:.3g} ms of {t['dense_seconds'] * 1e3:.3g} dense"
        )

    def __rich__(self) -> Any:
        """What `rich` prints in the place of the text."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text  # a path's brackets are no markup

        table = Table(*(name for name, _ in COLUMNS), title=Text(self._headline()), title_justify="left")
        for row in _grouped([[cell(s) for _, cell in COLUMNS] for s in self.sites]):
            table.add_row(*map(Text, row))
        return Group(table, *(Text(f"  {line}") for line in (*self._left(), DOUBT)))

    def _repr_html_(self) -> str:
        esc = html.escape
        head = "".join(f"<th>{esc(name)}</th>" for name, _ in COLUMNS)
        rows = "".join(
            f'<tr title="{esc(s.line)}: {esc(_reasons(s))}">'
            + "".join(f"<td>{esc(cell(s))}</td>" for _, cell in COLUMNS)
            + "</tr>"
            for s in self.sites
        )
        items = "".join(f"<li>{esc(line)}</li>" for line in self._left())
        table = f"<table><tr>{head}</tr>{rows}</table><ul>{items}</ul>"
        return f"<details open><summary>{esc(self._headline())}</summary>{table}</details>"


def _reasons(site: SiteRecord) -> str:
    return "; ".join(f"{kernel} {why}" for kernel, why in site.refused)


DOUBT = "in doubt: `verify` compares values and gradients with the masked program, and names the first variable where they part"
MOST = 12  # params that a report shows the live slices of
NUMBER = re.compile(r"(?<![.\w])\d+(?![.\w])|(?<=_)\d+")
COLUMNS = (
    ("weight", lambda s: s.name),
    ("module", lambda s: s.scope),
    ("m x k x n", lambda s: f"{s.m}x{s.k}x{s.n}" + (f" ({s.batch * s.times})" if s.batch * s.times > 1 else "")),
    ("density", lambda s: f"{s.density:.3f}"),
    ("epilogue", lambda s: s.epilogue or "-"),
    ("layout", lambda s: s.layout),
    ("kernel", lambda s: f"{s.kernel} {s.config}".strip()),
    ("GFLOP", lambda s: f"{s.flops / 1e9:.3g}/{s.dense_flops / 1e9:.3g}"),
    ("MB", lambda s: f"{s.bytes / 1e6:.3g}/{s.dense_bytes / 1e6:.3g}"),
    ("model ms", lambda s: f"{s.seconds * 1e3:.3g}/{s.dense_seconds * 1e3:.3g}{' measured' if s.measured else ''}"),
)


def _grouped(rows: list[list[str]]) -> list[list[str]]:
    """Rows that differ in the numbers of their names alone (the layers of a stack), once, with their count."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for row in rows:
        groups.setdefault((NUMBER.sub("*", row[0]), *row[1:]), []).append(row)
    return [g[0] if len(g) == 1 else [f"{key[0]} (x{len(g)})", *key[1:]] for key, g in groups.items()]


def _table(columns, rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    grid = [[name for name, _ in columns], *rows]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in grid]
