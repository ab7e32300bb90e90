"""What `propagate` returns: a named fact per variable, why it holds, and what is worth a warning."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from ..errors import SpartaKeyError, SpartaWarning
from ..explanation import Explanation, Finding
from ..grid import Grid, combine
from ..interpreters import CONST, LIVE, ZERO, Atom, Constant, Equation, Fact, Need, Variable, uniform_axes
from ..interpreters.links import numbers_of
from ..tesa import TeSA
from .analysis import Analysis
from .explain import Teller
from .names import Names
from .tables import near, page, text


@dataclasses.dataclass(frozen=True, eq=False)
class VariableFact:
    """The facts of one variable.

    Attributes:
      name: the key path of an input or of an output (`output['logits']`); of an intermediate its module path, operation and
        number: `encoder/layer_0/dot_general:3`.
      atom: the variable.
      value: of each element whether it is zero, const (depends on the params alone) or live.
      need: of each element whether an output needs it.
      sources: key paths of the params that it derives from, where it derives from params alone.
      is_given: whether it depends neither on data nor on params: a constant of the program.
    """

    name: str
    atom: Atom = dataclasses.field(repr=False)
    value: Fact = dataclasses.field(repr=False)
    need: Need = dataclasses.field(repr=False)
    sources: tuple[str, ...] = ()
    is_given: bool = False
    equation: Equation | None = dataclasses.field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.atom.shape)

    @property
    def scope(self) -> str:
        """The module path, `""` where the program names none."""
        return self.equation.scope if self.equation else ""

    @functools.cached_property
    def line(self) -> str:
        """The user's source line, `""` for an input."""
        return self.equation.line if self.equation else ""

    @functools.cached_property
    def tesa(self) -> TeSA:
        """Its live elements: neither known to be zero nor unneeded."""
        return TeSA.of_grid(combine(np.logical_and, self.value.nonzero, self.need))

    @property
    def density(self) -> float:
        """The share of its live elements."""
        return self.tesa.density

    @functools.cached_property
    def zero(self) -> float:
        """The share of its elements that are zero."""
        return _share(self.value.value.map(lambda c: c == ZERO))

    @functools.cached_property
    def const(self) -> float:
        """The share of its elements that depend on the params alone."""
        return _share(self.value.value.map(lambda c: c == CONST))

    @functools.cached_property
    def unneeded(self) -> float:
        """The share of its elements that no output needs."""
        return _share(self.need.map(lambda c: ~c))

    @property
    def is_plain(self) -> bool:
        """Whether all its elements are live and depend on the data, or all on params alone: nothing is known of it."""
        cells = self.value.value.cells
        return bool(self.need.cells.all() and ((cells == LIVE).all() or self.sources and (cells == CONST).all()))

    def __str__(self) -> str:
        shares = [(self.zero, "zero"), (self.const, "const"), (self.unneeded, "unneeded")]
        facts = [f"{share:.1%} {what}" for share, what in shares if share]
        where = " ".join(part for part in (self.scope, self.line) if part)
        facts = ", ".join([f"{self.density:.1%} live", *facts])
        return f"{self.name} {list(self.shape)}: {facts}" + (f"  ({where})" if where else "")


@dataclasses.dataclass(frozen=True, eq=False)
class Propagation:
    """The facts of a whole program.

    `propagation[name]` is the fact of a variable, `propagation.explain(name)` says why it holds.

    Attributes:
      inputs, intermediates, outputs: in the program's order.
      warnings: collapse (an output, a param or a branch counts for nothing), and zeros that were lost without need.
      without_rule: names of primitives at which zeros were lost for want of a rule.
    """

    inputs: tuple[VariableFact, ...]
    intermediates: tuple[VariableFact, ...]
    outputs: tuple[VariableFact, ...]
    warnings: tuple[Finding, ...]
    without_rule: tuple[str, ...]
    _analysis: Analysis
    _teller: Teller
    _single: bool

    def __getitem__(self, name: str) -> VariableFact:
        """Raises `SpartaKeyError` that lists the names which come near."""
        if name not in self._by_name:
            raise SpartaKeyError(f"there is no variable {name!r}; {near(name, self._by_name, [f.name for f in self.inputs])}")
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, VariableFact]:
        return {fact.name: fact for fact in (*self.inputs, *self.outputs, *self.intermediates)}

    def explain(self, name: str) -> Explanation:
        """The chain of rules behind a variable's facts.

        Why its zeros are zero, back to the TeSAs of the inputs; why elements are not needed, towards the uses that do not read
        them; and where zeros were lost on the way to its live elements. An operand is named only if the fact does not hold
        without it.

        Raises:
          SpartaKeyError: lists the names which come near.
        """
        fact = self[name]
        return self._teller.explanation(fact.atom, name, str(fact))

    def uniform_axes(self, name: str) -> tuple[int, ...]:
        """The axes along which a variable's constants do not vary: behind a bias a dead channel is one number for all rows.

        Raises:
          SpartaKeyError: lists the names which come near.
        """
        atom = self[name].atom
        return tuple(range(len(atom.shape))) if isinstance(atom, Constant) else tuple(sorted(self._uniform[atom]))

    @functools.cached_property
    def _uniform(self) -> dict[Variable, frozenset]:
        return uniform_axes(self._analysis.rewritten.program, self._analysis.facts)

    @functools.cached_property
    def tesa(self) -> Any:
        """What is live of each param: a tree of TeSAs like the params; a tuple of trees where `argnums` is one."""
        trees = [jax.tree.unflatten(o.tree, [self[name].tesa for name in o.names]) for o in self._analysis.call.origins]
        return trees[0] if self._single else tuple(trees)

    @property
    def density(self) -> float:
        """The share of the params' elements that is live after propagation."""
        return self._density(fact.tesa.nnz for fact in self.params)

    @property
    def density_given(self) -> float:
        """The share of the params' elements that their own TeSAs call live."""
        return self._density(fact.value.nonzero.nnz for fact in self.params)

    @functools.cached_property
    def params(self) -> tuple[VariableFact, ...]:
        """The inputs that are params."""
        return tuple(self.inputs[i] for i in self._analysis.call.params)

    @functools.cached_property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Of each param that holds channels, the numbers of its dependency groups, those of `pruning.groups`."""
        numbers = numbers_of(self._analysis.rewritten.program, [fact.atom for fact in self.params])
        return {fact.name: found for fact, found in zip(self.params, numbers, strict=True) if found}

    def flow(self) -> Iterator[tuple[VariableFact, tuple[str, ...]]]:
        """Every variable in the program's order, with the names of those that it is computed from; an output reads one."""
        names = {fact.atom: fact.name for fact in (*self.inputs, *self.intermediates)}
        for fact in (*self.inputs, *self.intermediates):
            read = fact.equation.inputs if fact.equation is not None else ()
            yield fact, tuple(dict.fromkeys(names[atom] for atom in read if atom in names))
        for fact in self.outputs:
            yield fact, (names[fact.atom],) if fact.atom in names else ()

    def _density(self, live: Iterable[int]) -> float:
        size = sum(math.prod(fact.shape) for fact in self.params)
        return sum(live) / size if size else 1.0

    @property
    def headline(self) -> str:
        counts = ((self.inputs, "inputs"), (self.intermediates, "intermediates"), (self.outputs, "outputs"))
        sizes = ", ".join(f"{len(facts)} {what}" for facts, what in counts)
        return f"{sizes}; {self.density:.1%} of the params are live ({self.density_given:.1%} were given as live)"

    def __str__(self) -> str:
        return text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return page(self)


def propagation_of(analysis: Analysis, single: bool) -> Propagation:
    """The named facts of an analysed call; warns of collapse. `single` says that `argnums` is one position."""
    program, facts, call = analysis.rewritten.program, analysis.facts, analysis.call
    sources = lambda v: analysis.origins.sources(v) if v in analysis.origins.fixed else ()
    names = Names.make(program, call.names, analysis.out_tree, sources)
    teller = Teller(program, facts, names)

    def fact(name: str, atom: Atom) -> VariableFact:
        if isinstance(atom, Constant):
            return VariableFact(name, atom, facts.value(atom), Grid.uniform(atom.shape, True))
        derived = sources(atom)
        given = atom in analysis.origins.fixed and not derived
        return VariableFact(name, atom, facts.value(atom), facts.need(atom), derived, given, names.definitions.get(atom))

    found = Propagation(
        inputs=tuple(fact(names.of(v), v) for v in program.inputs),
        intermediates=tuple(fact(names.of(v), v) for v in names.definitions),
        outputs=tuple(fact(name, v) for name, v in zip(names.outputs, program.outputs, strict=True)),
        warnings=teller.findings(call.params),
        without_rule=tuple(sorted({e.name for e in facts.dropped})),
        _analysis=analysis,
        _teller=teller,
        _single=single,
    )
    _warn(found)
    return found


def _warn(found: Propagation) -> None:
    """One Python warning for everything that is dead."""
    dead = [str(finding) for finding in found.warnings if finding.kind == "collapse"]
    if dead:
        more = f"\n  ... and {len(dead) - 3} more: see `.warnings`" if len(dead) > 3 else ""
        warnings.warn("\n  ".join(dead[:3]) + more, SpartaWarning, stacklevel=4)


def _share(grid: Grid) -> float:
    return grid.nnz / grid.size if grid.size else 0.0
