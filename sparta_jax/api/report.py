"""The report of one call: what was done at each product, and why."""

from __future__ import annotations

import math

from ..formats.bsr import Pattern
from ..interpreters import Entry, weight_entries
from ..problem import DENSE, Device, Layout, SpMM
from ..records import Report, SiteRecord, Stayed
from ..specialize import roofline
from .analysis import Analysis, layout_of


def report(analysis: Analysis, device: Device) -> Report:
    """The plans of one call on `device`; packed params are reported in the layouts that they have."""
    stored = {k: v for p in analysis.call.packed for k, v in p.entries.items()}
    sites = []
    for site in analysis.sites:
        entries = weight_entries(site, analysis.origins)
        layout = layout_of(stored[entries[0].key]) if entries[0].key in stored else DENSE
        problem = analysis.problem(site, 0, layout, device)
        sites.append(_record(analysis, entries, problem))
    dense = [Stayed(", ".join(analysis.origins.sources(u.weight)), u.equation.line, u.reason) for u in analysis.unmatched]
    lost = [Stayed(e.name, e.line, "zeros of its operands are lost: taken as live") for e in analysis.facts.dropped]
    return Report(device.platform, tuple(sites), tuple(dense), tuple(lost))


def _record(analysis: Analysis, entries: list[Entry], problem: SpMM) -> SiteRecord:
    site = entries[0].site
    assert site is not None
    plan = analysis.chooser.plan(problem)
    dense_bytes = problem.k * problem.n * problem.w_dtype.itemsize
    bytes_stored = sum(stored_bytes(problem.layout, p, problem.w_dtype.itemsize) for p in site.patterns)
    moved = 0 if problem.layout == DENSE else dense_bytes + bytes_stored
    cost = plan.kernel.cost(problem, plan.config)
    return SiteRecord(
        name=", ".join(entries[0].sources),
        scope=site.equation.scope,
        line=site.equation.line,
        m=problem.m,
        k=problem.k,
        n=problem.n,
        batch=len(site.patterns),
        dtypes=(str(problem.x_dtype), str(problem.w_dtype), str(problem.out_dtype)),
        density=sum(p.density for p in site.patterns) / len(site.patterns),
        cells=sum(math.prod(p.cells.shape) for p in site.patterns),
        epilogue=str(site.epilogue),
        layout=str(problem.layout),
        implementation=plan.kernel.implementation,
        kernel=plan.kernel.name,
        config=str(plan.config),
        flops=cost.flops,
        dense_flops=2.0 * problem.m * problem.k * problem.n,
        bytes=bytes_stored,
        dense_bytes=dense_bytes,
        packing_bytes=moved,
        packing_seconds=moved / roofline(problem.device).bytes_per_s,
        seconds=plan.seconds,
        dense_seconds=plan.dense_seconds,
        refused=plan.refused,
    )


def stored_bytes(layout: Layout, pattern, itemsize: int) -> int:
    """Bytes of a weight in a layout, index tables included."""
    if layout.block is None:
        return math.prod(pattern.shape) * itemsize
    table = Pattern.of(pattern, layout.block)
    return table.nnzb * math.prod(layout.block) * itemsize + 4 * (len(table.indptr) + len(table.indices))
