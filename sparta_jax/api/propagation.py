"""What `propagate` returns: a named fact per variable."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..grid import Grid
from ..interpreters import CONST, ZERO, Variable
from ..tesa import TeSA
from .analysis import Analysis


@dataclasses.dataclass(frozen=True)
class VariableFact:
    """The facts of one variable.

    Attributes:
      name: the key path of an input, `output[i]`, or `primitive:number` of an intermediate.
      scope: the module path, `""` where the program names none.
      line: the user's source line, `""` for an input.
      shape: of the variable.
      tesa: its live elements: neither known to be zero nor unneeded.
      zero, const, unneeded: shares of its elements that are zero, that depend on the params alone, that nobody needs.
    """

    name: str
    scope: str
    line: str
    shape: tuple[int, ...]
    tesa: TeSA
    zero: float
    const: float
    unneeded: float

    def __str__(self) -> str:
        facts = [
            f"{share:.1%} {what}"
            for share, what in ((self.zero, "zero"), (self.const, "const"), (self.unneeded, "unneeded"))
            if share
        ]
        where = " ".join(p for p in (self.scope, self.line) if p)
        return (
            f"{self.name} {list(self.shape)}: {self.tesa.density:.1%} live"
            + "".join(f", {f}" for f in facts)
            + (f"  ({where})" if where else "")
        )


@dataclasses.dataclass(frozen=True)
class Propagation:
    """The facts of a whole program.

    Attributes:
      inputs, intermediates, outputs: in the program's order.
      without_rule: names of primitives at which zeros were lost for want of a rule.
    """

    inputs: tuple[VariableFact, ...]
    intermediates: tuple[VariableFact, ...]
    outputs: tuple[VariableFact, ...]
    without_rule: tuple[str, ...]

    def __getitem__(self, name: str) -> VariableFact:
        for fact in (*self.inputs, *self.outputs, *self.intermediates):
            if fact.name == name:
                return fact
        raise KeyError(f"no variable {name!r}; inputs are {[f.name for f in self.inputs]}")

    def __str__(self) -> str:
        groups = (("inputs", self.inputs), ("intermediates", self.intermediates), ("outputs", self.outputs))
        lines = [line for title, facts in groups for line in (f"{title}:", *(f"  {f}" for f in facts))]
        return "\n".join([*lines, *(f"no rule: {name}" for name in self.without_rule)])


def propagation_of(analysis: Analysis) -> Propagation:
    """The named facts of an analysed call."""
    program, facts = analysis.rewritten.program, analysis.facts

    def fact(name: str, variable: Variable, scope: str = "", line: str = "") -> VariableFact:
        value, need = facts.value(variable).value, facts.need(variable)
        live = TeSA.of_grid(facts.live(variable))
        share = lambda grid, what: _share(grid, grid.cells == what)
        return VariableFact(
            name, scope, line, variable.shape, live, share(value, ZERO), share(value, CONST), share(need, False)
        )

    inputs = tuple(fact(n, v) for n, v in zip(analysis.call.names, program.inputs, strict=True))
    intermediates, number = [], 0
    for equation in program.equations:
        for variable in equation.outputs:
            intermediates.append(fact(f"{equation.name}:{number}", variable, equation.scope, equation.line))
            number += 1
    outputs = tuple(fact(f"output[{i}]", v) for i, v in enumerate(program.outputs) if isinstance(v, Variable))
    return Propagation(inputs, tuple(intermediates), outputs, tuple(sorted({e.name for e in facts.dropped})))


def _share(grid: Grid, cells: np.ndarray) -> float:
    return float((grid.weights * cells).sum() / grid.size) if grid.size else 0.0
