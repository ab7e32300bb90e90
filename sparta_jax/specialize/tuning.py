"""Tuning: the best few candidates of every problem by the model, timed, and the times kept in the chooser."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..kernels import native
from ..problem import DENSE, SDDMM, Plan, SpMM
from ..progress import announced
from . import tuned
from .choose import Chooser, is_empty
from .timing import Call, call_of, interleaved
from .tuned import Candidate, candidate

FEW = 2  # sparse candidates of a problem that are timed
LAYOUTS = 3  # layouts of a weight, likewise
HOPELESS = 2.0  # times modelled dense, above which nothing is timed
ALONE = ("dense", "alone")  # the dense product without the masking
SHORTEST = 0.01  # times dense, that a difference of measured times may come to
SAMPLE_SECONDS, BUDGET_SECONDS, ROUNDS = 1e-3, 0.15, (3, 11)


def tune(chooser: Chooser, problems: Sequence[SpMM | SDDMM], cached: bool) -> Chooser:
    """The chooser that knows what the best candidates of these problems take.

    Of a weight that comes dense, the best layouts are timed too: the problem as it is once the weight is packed.

    Args:
      chooser: whose model names the candidates.
      problems: of the sites, for this process' own device.
      cached: whether to take from the cache directory what was timed before, and to store there what is timed now.
    """
    wanted = dict.fromkeys(form for p in dict.fromkeys(problems) if not is_empty(p) for form in forms(chooser, p))
    threads = problems[0].device.cores if problems else 1
    known = tuned.load(list(wanted), native.isa(), threads) if cached else {}
    fresh = [problem for problem in wanted if problem not in known]
    with announced(f"timing the kernels of {len(fresh)} products"):
        measured = {problem: measure(candidates(chooser, problem)) for problem in fresh}
    if cached and measured:
        tuned.store(measured, native.isa(), threads)
    return dataclasses.replace(chooser, tuned=chooser.tuned.with_({**known, **measured}))


def forms(chooser: Chooser, problem: SpMM | SDDMM) -> Sequence[SpMM | SDDMM]:
    """The problem, and where its weight comes dense also with it in the layouts that are modelled best.

    Not of a gradient's products: weights are packed for those of calls."""
    if problem.layout != DENSE or isinstance(problem, SDDMM) or problem.transposed:
        return [problem]
    packed = [dataclasses.replace(problem, layout=layout) for layout in chooser.layouts([problem]) if layout != DENSE]
    packed = [p for p in packed if chooser.plan(p).kernel.implementation != "dense"]
    return [problem, *sorted(packed, key=lambda p: chooser.plan(p).seconds)[:LAYOUTS]]


def candidates(chooser: Chooser, problem: SpMM | SDDMM) -> list[Plan]:
    """What is timed for a problem: the best few sparse plans by the model, and dense."""
    plans = sorted(chooser.plans(problem), key=lambda plan: plan.seconds)
    dense = [plan for plan in plans if plan.kernel.implementation == "dense"]
    able = [plan for plan in plans if plan.kernel.implementation == (chooser.implementation or plan.kernel.implementation)]
    sparse = [p for p in able if p not in dense and (chooser.implementation or p.seconds < HOPELESS * p.dense_seconds)]
    worth_unpacking = problem.layout == DENSE or not sparse or dense[0].seconds < HOPELESS * sparse[0].seconds
    return [p for p in sparse[:FEW] if p.seconds < HOPELESS * sparse[0].seconds] + (dense if worth_unpacking else [])


def measure(plans: Sequence[Plan]) -> dict[Candidate, float]:
    """The least seconds of each plan, compiled, on random operands, in interleaved rounds; the final is played twice.

    A weight that comes dense was masked a moment ago, by whatever thread: then a sparse plan takes what the masked product with
    it takes more, or less, than the masked dense one."""
    calls = {candidate(plan): call_of(plan.problem, plan.kernel, plan.config) for plan in plans}
    dense = next((name for name in calls if name[0].startswith("dense")), None)
    if dense is None or len(plans) == 1 or isinstance(plans[0].problem, SDDMM) or plans[0].problem.layout != DENSE:
        return _least(calls)
    inside = {candidate(plan): call_of(plan.problem, plan.kernel, plan.config, masking=True) for plan in plans}
    seconds = _least(inside | {ALONE: calls[dense]})
    alone, beside = seconds.pop(ALONE), seconds[dense]
    return {name: max(alone + s - beside, SHORTEST * alone) for name, s in seconds.items()}


def _least(calls: Mapping[Candidate, Call]) -> dict[Candidate, float]:
    first = interleaved(calls, SAMPLE_SECONDS, BUDGET_SECONDS, ROUNDS)
    best = min((name for name in first if not name[0].startswith("dense")), key=lambda name: first[name], default=None)
    final = {name: call for name, call in calls.items() if name == best or name[0].startswith("dense")}
    again = interleaved(final, SAMPLE_SECONDS, BUDGET_SECONDS, ROUNDS)
    return {name: min(seconds, again.get(name, seconds)) for name, seconds in first.items()}
