"""The choice: a kernel and a config per problem, a layout per weight."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from ..kernels import kernels
from ..kernels.curves import live_in
from ..problem import CSR_LAYOUT, DENSE, SDDMM, Kernel, Layout, Plan, Problem, SpMM
from .roofline import roofline
from .tuned import NOTHING, Candidate, Tuned, candidate

MARGIN = 0.9  # a kernel is taken only where its modelled time is below this share of dense
MEASURED_MARGIN = 0.97  # the same, where both were measured
DOUBTED_MARGIN = 0.85  # the same, where the model says otherwise: a disturbed measurement is likelier
LAYOUT_BLOCKS = ((128, 128), (64, 64), (32, 32), (16, 16), (8, 8), (16, 1), (8, 1), (1, 8), (1, 16), (4, 4))


@dataclasses.dataclass(frozen=True)
class Chooser:
    """Chooses by modelled time; hashable, so that it can be a parameter of the products' primitives.

    Attributes:
      implementation: the one to use wherever it is able, None for the best.
      tuned: what candidates were measured to take, which then counts.
    """

    implementation: str | None = None
    tuned: Tuned = NOTHING

    def plan(self, problem: Problem) -> Plan:
        return _plan(problem, self.implementation, self.tuned)

    def plans(self, problem: Problem) -> list[Plan]:
        """Every kernel and config that serves a problem and may be taken, with its modelled time."""
        return _candidates(_plans(problem)[0], self.implementation)[0]

    def layout(self, problems: Sequence[SpMM]) -> Layout:
        """The layout of a weight that serves these problems (alike but for `m`) in the least time, all together; of equal ones
        the first, and dense unless another one is clearly faster. Where layouts were measured, the best of these."""
        packed = lambda layout: [dataclasses.replace(p, layout=layout) for p in problems]
        total = lambda layout: sum(self.plan(p).seconds for p in packed(layout))
        sparse = [layout for layout in self.layouts(problems) if layout != DENSE]
        timed = [layout for layout in sparse if all(map(self.tuned.has, packed(layout)))]
        if not sparse:
            return DENSE
        best = min(timed or sparse, key=total)
        if all(self.plan(p).kernel.implementation != "dense" for p in packed(DENSE)):
            # What would be packed in every call is better packed once, but for blocks that would hold nearly all of the weight.
            modelled = lambda layout: sum(Chooser(self.implementation).plan(p).seconds for p in packed(layout))
            return best if modelled(best) <= modelled(DENSE) else DENSE
        margin = 1.0 if self.implementation else self._margin(packed(best), bool(timed))
        return best if total(best) <= margin * total(DENSE) else DENSE

    def _margin(self, packed: list[SpMM], measured: bool) -> float:
        if not measured:
            return MARGIN
        modelled = [Chooser(self.implementation).plan(p) for p in packed]
        doubted = sum(p.seconds for p in modelled) >= sum(p.dense_seconds for p in modelled)
        return DOUBTED_MARGIN if doubted else MEASURED_MARGIN

    def layouts(self, problems: Sequence[SpMM]) -> list[Layout]:
        """Those in which the weight of these problems may be stored."""
        return [*(Layout("bsr", b) for b in layout_blocks(problems[0])), *self._by_elements(problems[0]), DENSE]

    def _by_elements(self, problem: SpMM) -> list[Layout]:
        """CSR, where a kernel of the wanted implementation reads it as it is."""
        kernel = self.plan(dataclasses.replace(problem, layout=CSR_LAYOUT)).kernel
        wanted = (self.implementation, kernel.implementation)[self.implementation is None]
        return [CSR_LAYOUT] if kernel.implementation == wanted != "dense" else []


def forget() -> None:
    """Has plans made anew, by the machine's table as it is now."""
    _plan.cache_clear()
    _plans.cache_clear()


def implementations() -> list[str]:
    """The names that `implementation=` takes."""
    return sorted({k.implementation for table in kernels.values() for k in table.values()})


def layout_blocks(problem: SpMM) -> list[tuple[int, int]]:
    """Blocks in which a pattern may be stored: those that would hold less than the dense weight does."""
    k, n = problem.pattern.shape
    return [b for b in LAYOUT_BLOCKS if b[0] <= k and b[1] <= n and live_in(problem.pattern, b) < MARGIN * k * n]


@functools.lru_cache(maxsize=4096)
def _plan(problem: Problem, implementation: str | None, tuned: Tuned) -> Plan:
    able, refused = _plans(problem)
    modelled, beaten = _candidates(able, implementation)
    doubted = frozenset(candidate(p) for p in modelled if p.seconds >= p.dense_seconds)
    plans = _measured(modelled, tuned)
    best = _best(plans, implementation, doubted)
    return dataclasses.replace(best, refused=(*refused, *beaten, *_slower(plans, best, doubted)))


@functools.lru_cache(maxsize=4096)
def _plans(problem: Problem) -> tuple[list[Plan], list[tuple[str, str]]]:
    """Every way to solve a problem, with its modelled time; and the kernels that cannot, with the reason."""
    table, device = kernels[type(problem)], roofline(problem.device)
    plans: list[Plan] = []
    refused: list[tuple[str, str]] = []
    as_dense = dataclasses.replace(problem, layout=DENSE)
    dense_seconds = min(_seconds(k, as_dense, device) for k in table.values() if k.implementation == "dense")
    for kernel in table.values():
        if (reason := kernel.why_not(problem)) is not None:
            refused.append((kernel.name, reason))
            continue
        for config in kernel.configs(problem):
            seconds = device.seconds(kernel.cost(problem, config))
            plans.append(Plan(problem, kernel, config, seconds, dense_seconds))
    return plans, refused


def _measured(plans: list[Plan], tuned: Tuned) -> list[Plan]:
    """The plans that were timed, where their problem was tuned; measured and modelled times are never compared."""
    if not tuned.has(plans[0].problem):
        return plans
    as_dense = tuned.seconds.get(dataclasses.replace(plans[0].problem, layout=DENSE), {})
    dense = min((s for (kernel, _), s in as_dense.items() if kernel.startswith("dense")), default=plans[0].dense_seconds)
    timed = ((plan, tuned.of(plan)) for plan in plans)
    known = [dataclasses.replace(p, seconds=s, dense_seconds=dense, measured=True) for p, s in timed if s is not None]
    return known or plans


def _candidates(plans: list[Plan], implementation: str | None) -> tuple[list[Plan], list[tuple[str, str]]]:
    """The plans that may be taken, and why others may not: unless it is forced, XLA's form of a sparse product is none where
    there is a native kernel. A calibration does not measure it, and wherever both were measured it was slower."""
    kernel_of = {p.kernel.implementation: p.kernel for p in plans}
    if implementation is not None or "native" not in kernel_of:
        return plans, []
    beaten = dict.fromkeys(p.kernel.name for p in plans if p.kernel.implementation == "xla")
    reason = f"slower than {kernel_of['native'].name} wherever both were measured"
    return [p for p in plans if p.kernel.name not in beaten], [(name, reason) for name in beaten]


def _best(plans: list[Plan], implementation: str | None, doubted: frozenset[Candidate]) -> Plan:
    """The fastest, where it is clearly faster than dense; `doubted` are those that the model holds for slower than that."""
    forced = [p for p in plans if p.kernel.implementation == implementation]
    dense = [p for p in plans if p.kernel.implementation == "dense"]
    if dense and is_empty(dense[0].problem):
        return dense[0]
    if forced:
        return min(forced, key=lambda p: p.seconds)
    if implementation is not None and dense and not isinstance(dense[0].problem, SpMM | SDDMM):
        return dense[0]  # what stands between the products is left alone where the implementation has no kernel for it
    if dense and is_full(dense[0].problem):
        return dense[0]
    faster = [p for p in plans if not dense or p.seconds < _margin(p, doubted) * dense[0].seconds]
    return min(faster or dense, key=lambda p: p.seconds)


def _margin(plan: Plan, doubted: frozenset[Candidate]) -> float:
    """The share of the dense product's time below which a plan is taken."""
    if not plan.measured:
        return MARGIN
    return DOUBTED_MARGIN if candidate(plan) in doubted else MEASURED_MARGIN


def is_empty(problem: Problem) -> bool:
    """Whether there is nothing to multiply: the dense product answers, whatever is asked for."""
    return 0 in (problem.m, problem.k, problem.n)


def is_full(problem: Problem) -> bool:
    """Whether no element of the weight is dead: then the dense product is taken, whatever the model says of sparse ones."""
    return isinstance(problem, SpMM | SDDMM) and problem.pattern.nnz == problem.k * problem.n


def _slower(plans: list[Plan], best: Plan, doubted: frozenset[Candidate]) -> list[tuple[str, str]]:
    """The kernels that could have served, with their best time."""
    fastest: dict[str, Plan] = {}
    for p in plans:
        if p.kernel is not best.kernel:
            fastest[p.kernel.name] = min(p, fastest.get(p.kernel.name, p), key=lambda p: p.seconds)
    told = lambda p: f"{'measured' if p.measured else 'modelled'} {p.seconds * 1e3:.3g} ms"
    least = lambda p: f" (taken below {_margin(p, doubted):g} of that)" if p.seconds < best.seconds else ""
    return [(name, f"{told(p)}, {best.kernel.name} {best.seconds * 1e3:.3g} ms{least(p)}") for name, p in fastest.items()]


def _seconds(kernel: Kernel, problem: Problem, device) -> float:
    return min(device.seconds(kernel.cost(problem, c)) for c in kernel.configs(problem))
