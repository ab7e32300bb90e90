"""The choice: a kernel and a config per problem, a layout per weight."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from ..formats.bsr import Pattern
from ..kernels import kernels
from ..problem import CSR_LAYOUT, DENSE, Kernel, Layout, Plan, Problem, SpMM
from .roofline import roofline

MARGIN = 0.9  # a kernel is taken only where its modelled time is below this share of dense
LAYOUT_BLOCKS = ((128, 128), (64, 64), (32, 32), (16, 16), (8, 8), (16, 1), (8, 1), (1, 8), (1, 16), (4, 4))


@dataclasses.dataclass(frozen=True)
class Chooser:
    """Chooses by modelled time; hashable, so that it can be a parameter of the products' primitives.

    Attributes:
      implementation: the one to use wherever it is able, None for the best.
    """

    implementation: str | None = None

    def plan(self, problem: Problem) -> Plan:
        return _plan(problem, self.implementation)

    def layout(self, problems: Sequence[SpMM]) -> Layout:
        """The layout of a weight that serves these problems (alike but for `m`) in the least modelled time, all together; of
        equal ones the first, and dense last."""
        candidates = [*(Layout("bsr", b) for b in layout_blocks(problems[0])), *self._by_elements(problems[0]), DENSE]
        total = lambda layout: sum(self.plan(dataclasses.replace(p, layout=layout)).seconds for p in problems)
        return min(candidates, key=total)

    def _by_elements(self, problem: SpMM) -> list[Layout]:
        """CSR, where a kernel of the wanted implementation reads it as it is."""
        kernel = self.plan(dataclasses.replace(problem, layout=CSR_LAYOUT)).kernel
        wanted = (self.implementation, kernel.implementation)[self.implementation is None]
        return [CSR_LAYOUT] if kernel.implementation == wanted != "dense" else []


def forget() -> None:
    """Has plans made anew, by the machine's table as it is now."""
    _plan.cache_clear()


def implementations() -> list[str]:
    """The names that `implementation=` takes."""
    return sorted({k.implementation for table in kernels.values() for k in table.values()})


def layout_blocks(problem: SpMM) -> list[tuple[int, int]]:
    """Blocks in which a pattern may be stored: those that would hold less than the dense weight does."""
    k, n = problem.pattern.shape
    size = lambda b: Pattern.of(problem.pattern, b).nnzb * b[0] * b[1]
    return [b for b in LAYOUT_BLOCKS if b[0] <= k and b[1] <= n and size(b) < MARGIN * k * n]


@functools.lru_cache(maxsize=4096)
def _plan(problem: Problem, implementation: str | None) -> Plan:
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
    best = _best(plans, implementation)
    refused += _slower(plans, best)
    return dataclasses.replace(best, refused=tuple(refused))


def _best(plans: list[Plan], implementation: str | None) -> Plan:
    forced = [p for p in plans if p.kernel.implementation == implementation]
    dense = [p for p in plans if p.kernel.implementation == "dense"]
    if is_empty(dense[0].problem):
        return dense[0]
    if forced:
        return min(forced, key=lambda p: p.seconds)
    best = min(plans, key=lambda p: p.seconds)
    return best if best.seconds < MARGIN * dense[0].seconds else dense[0]


def is_empty(problem: Problem) -> bool:
    """Whether there is nothing to multiply: the dense product answers, whatever is asked for."""
    return 0 in (problem.m, problem.k, problem.n)


def _slower(plans: list[Plan], best: Plan) -> list[tuple[str, str]]:
    """The kernels that could have served, with their best modelled time."""
    fastest: dict[str, float] = {}
    for p in plans:
        if p.kernel is not best.kernel:
            fastest[p.kernel.name] = min(p.seconds, fastest.get(p.kernel.name, p.seconds))
    return [(name, f"modelled {s * 1e3:.3g} ms, {best.kernel.name} {best.seconds * 1e3:.3g} ms") for name, s in fastest.items()]


def _seconds(kernel: Kernel, problem: Problem, device) -> float:
    return min(device.seconds(kernel.cost(problem, c)) for c in kernel.configs(problem))
