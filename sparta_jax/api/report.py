"""The report of one call: what was done at each product, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..fused import FeedForward, mlp_problem
from ..interpreters import Equation, Fusion, Mlp, Place, Site, apart, weight_entries
from ..kernels.gpu.costs import why_estimated
from ..problem import DENSE, Device, Problem, SpMM
from ..products import Product
from ..records import FusedRecord, Report, SiteRecord, Stayed
from ..specialize import roofline
from ..stored import layout_of, stored_bytes
from .analysis import Analysis
from .compress import problems_of

WEIGHTLESS = "scores of -1e4 or less count as weight 0; strict=True keeps them"


def report(analysis: Analysis, device: Device) -> Report:
    """The plans of one call on `device`; packed params are reported in the layouts that they have."""
    stored = {k: v for p in analysis.call.packed for k, v in p.entries.items()}
    compressed = problems_of(analysis, device)
    sites, dense, fused, dropped = [], [], [], list(analysis.source.facts.dropped)
    loops = [(analysis.source.origins, loop) for loop in analysis.loops]
    for place in analysis.places:
        origins = place.origins
        asked = {}
        for site in place.rewritten.sites:
            key = weight_entries(site, origins)[0].key
            layout = layout_of(stored[key]) if key in stored else DENSE
            asked[site] = compressed[site][0] if site in compressed else analysis.problem(site, 0, layout, device)
            sites.append(_record(analysis, place, site, asked[site]))
        if place.rewritten is analysis.rewritten:  # no weights come packed to what loops and branches run
            layouts = {site: problem.layout for site, problem in asked.items() if not problem.transposed}
            mlps = apart(place.rewritten.mlps, layouts)
            fused += [_mlp(analysis, place, mlp, [asked[s] for s in mlp.sites]) for mlp in mlps]
        fused += [_fused(analysis, place, fusion, device) for fusion in place.rewritten.fusions]
        dense += [Stayed(origins.name(u.weight), u.equation.line, u.reason) for u in place.unmatched]
        loops += [(origins, loop) for loop in place.loops]
        dropped += place.facts.dropped if place.facts is not analysis.facts else ()
    kept = [Stayed(", ".join(map(origins.name, loop.weights)), loop.equation.line, loop.fate) for origins, loop in loops]
    lost = [Stayed(e.name, e.line, "zeros of its operands are lost: taken as live") for e in dropped]
    return Report(
        device.platform,
        tuple(sites),
        tuple(dense),
        tuple(lost),
        tuple(kept),
        _weightless(analysis),
        analysis.compaction,
        tuple(fused),
        why_estimated(device) or "",
    )


def _weightless(analysis: Analysis) -> tuple[Stayed, ...]:
    freedoms = [facts.freedom for facts in (analysis.source.facts, analysis.facts) if facts.freedom is not None]
    taken = {key: e for freedom in freedoms for key, e in freedom.taken.items()}
    return tuple(Stayed(e.scope or e.name, e.line, WEIGHTLESS) for e in taken.values())


def _mlp(analysis: Analysis, place: Place, mlp: Mlp, asked: Sequence[SpMM]) -> FusedRecord:
    up, *gate, down = (
        Product(p.pattern, p.layout, analysis.chooser, p.out_dtype, p.precision, epilogue=p.epilogue) for p in asked
    )
    operation = FeedForward(up, gate[0] if gate else None, down)
    return _fused_record(analysis, place, mlp.down.equation, mlp_problem(operation, asked))


def _fused(analysis: Analysis, place: Place, fusion: Fusion, device: Device) -> FusedRecord:
    problem = fusion.operation.problem([a.aval for a in fusion.inputs], device)
    return _fused_record(analysis, place, fusion.equation, problem)


def _fused_record(analysis: Analysis, place: Place, equation: Equation, problem: Problem) -> FusedRecord:
    plan = analysis.chooser.plan(problem)
    return FusedRecord(
        name=type(problem).__name__.lower(),
        scope=equation.scope,
        line=equation.line,
        sizes=str(problem),
        times=place.times,
        implementation=plan.kernel.implementation,
        kernel=plan.kernel.name,
        seconds=plan.seconds,
        dense_seconds=plan.dense_seconds,
        refused=plan.refused,
    )


def _record(analysis: Analysis, place: Place, site: Site, problem: SpMM) -> SiteRecord:
    plan = analysis.chooser.plan(problem)
    dense_bytes = len(site.patterns) * problem.k * problem.n * problem.w_dtype.itemsize
    bytes_stored = sum(stored_bytes(p, problem.layout, problem.w_dtype.itemsize) for p in site.patterns)
    moved = 0 if problem.layout == DENSE else dense_bytes + bytes_stored
    cost = plan.kernel.cost(problem, plan.config)
    return SiteRecord(
        name=place.origins.name(site.weight),
        scope=site.equation.scope,
        line=site.equation.line,
        m=problem.m,
        k=problem.k,
        n=problem.n,
        batch=len(site.patterns),
        times=place.times,
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
        measured=plan.measured,
    )
