"""The report of a function at one call shape, which prints itself."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

from .compactions import Compaction
from .rows import aligned, grouped
from .sites import FusedRecord, SiteRecord, Stayed

DOUBT = "in doubt: `verify` compares values and gradients with the masked program, and names the first variable where they part"
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
    def source(self) -> str:
        """Where the times of the products come from: measured by `tune`, or modelled."""
        measured = sum(s.measured for s in self.sites)
        if not measured:
            return "modelled"
        return "measured" if measured == len(self.sites) else f"modelled ({measured} of {len(self.sites)} measured)"

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
        columns = {name: cell for name, cell in COLUMNS if name != "module"}
        rows = grouped([[cell(s) for cell in columns.values()] for s in self.sites])
        return "\n".join([self._headline(), *aligned([*columns], rows), *(f"  {line}" for line in (*self._left(), DOUBT))])

    __repr__ = __str__

    def _left(self) -> list[str]:
        """What was compacted, what stayed dense and why, and where facts were lost; alike lines once."""
        lines = self.compaction.lines() if self.compaction is not None else []
        lines += [[f"dense: {s.name}: {_reasons(s)}"] for s in self.sites if s.stayed_dense]
        lines += [[f"fused: {f.text()}"] for f in self.fused]
        lines += [[f"modelled times: {self.estimated}"]] if self.estimated and self.sites else []
        kinds = {"dense": self.dense, "loop": self.loops, "no rule": self.without_rule, "softmax": self.weightless}
        for kind, stayed in kinds.items():
            lines += [[f"{kind}: {d.name}: {d.reason} ({d.line})"] for d in stayed]
        return [" ".join(cells) for cells in grouped(lines)]

    def _headline(self) -> str:
        t = self.totals
        if not self.sites:
            return f"{self.platform}: no product has a sparse weight"
        return (
            f"{self.platform}: {len(self.sites)} products with a sparse weight, "
            f"{sum(not s.stayed_dense for s in self.sites)} on sparse kernels; "
            f"weights {t['bytes'] / 1e6:.3g} MB of {t['dense_bytes'] / 1e6:.3g}; "
            f"{t['flops'] / 1e9:.3g} GFLOP of {t['dense_flops'] / 1e9:.3g}; "
            f"{self.source} {t['seconds'] * 1e3:.3g} ms of {t['dense_seconds'] * 1e3:.3g} dense"
        )

    def __rich__(self) -> Any:
        """What `rich` prints in the place of the text."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text  # a path's brackets are no markup

        table = Table(*(name for name, _ in COLUMNS), title=Text(self._headline()), title_justify="left")
        for row in grouped([[cell(s) for _, cell in COLUMNS] for s in self.sites]):
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
