"""Feed-forward networks in a program: sites one behind the other, of which what lies between is used nowhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set

from ..problem import CSR_LAYOUT, Layout
from .jaxprs import Equation, Program, Variable
from .sites import Site
from .unify import Graph


@dataclasses.dataclass(frozen=True, eq=False)
class Mlp:
    """`down(up(x))`, or `down(up(x) * gate(x))`.

    Attributes:
      up, gate, down: its products.
      multiplication: by the gate, if there is one.
    """

    up: Site
    gate: Site | None
    down: Site
    multiplication: Equation | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.up, self.down) if self.gate is None else (self.up, self.gate, self.down)

    @property
    def inside(self) -> tuple[Site | Equation, ...]:
        """The steps whose results nothing else uses."""
        return tuple(step for step in (self.up, self.gate, self.multiplication) if step is not None)


def find_mlps(program: Program, sites: Sequence[Site], dead: Set[Variable]) -> list[Mlp]:
    """The feed-forward networks among the sites; none with a variable that is `dead`, which nobody computes. Of products in a
    row each is in one with the next: `apart` chooses among them."""
    graph, by_result = Graph.of(program), {site.result: site for site in sites}
    found = []
    for down in sites:
        for mlp in _behind(down, graph, by_result):
            variables = {down.x, *(v for step in mlp.inside for v in step.outputs)}
            if _fits(mlp) and _used_once(mlp, graph) and variables.isdisjoint(dead):
                found.append(mlp)
    return found


def apart(mlps: Sequence[Mlp], layouts: Mapping[Site, Layout]) -> list[Mlp]:
    """Those of which every weight comes packed by elements, in their order; none that shares a product with one before it.
    `layouts` says how the weight of a site comes, nothing of one that must be computed or is stored turned."""
    chosen: list[Mlp] = []
    taken: set[Site] = set()
    for mlp in mlps:
        if taken.isdisjoint(mlp.sites) and all(layouts.get(site) == CSR_LAYOUT for site in mlp.sites):
            chosen.append(mlp)
            taken.update(mlp.sites)
    return chosen


def _behind(down: Site, graph: Graph, by_result: dict[Variable, Site]) -> Iterator[Mlp]:
    if not isinstance(down.x, Variable):
        return
    if (up := by_result.get(down.x)) is not None:
        yield Mlp(up, None, down)
    multiplication = graph.definition.get(down.x)
    if multiplication is None or multiplication.name != "mul" or multiplication.inputs[0] is multiplication.inputs[1]:
        return
    up, gate = (by_result.get(v) if isinstance(v, Variable) else None for v in multiplication.inputs)
    if up is not None and gate is not None:
        yield Mlp(up, gate, down, multiplication)


def _fits(mlp: Mlp) -> bool:
    """Whether each product's rows are those of the next, as they stand, and no epilogue is more than the kernel has."""
    up, down = mlp.up.normal, mlp.down.normal
    if any(s.normal.batch or s.epilogue.scale for s in mlp.sites) or any(s.epilogue.residual for s in mlp.sites[:-1]):
        return False
    if mlp.gate is not None:
        gate = mlp.gate.normal
        if mlp.gate.x is not mlp.up.x or gate.x_order != up.x_order or not gate.keeps_order or gate.columns != up.columns:
            return False
    in_order = down.x_order == tuple(range(len(down.x_order)))
    return up.keeps_order and in_order and down.keeps_order and bool(up.rows) and up.rows == down.rows and up.n == down.k


def _used_once(mlp: Mlp, graph: Graph) -> bool:
    users = {v: step for step in mlp.inside for v in step.outputs}
    for variable in users:
        by = graph.uses.get(variable, ())
        behind = mlp.multiplication if mlp.multiplication is not None and variable is not mlp.down.x else mlp.down.equation
        if by != (behind,) or variable in graph.outputs:
            return False
    return True
