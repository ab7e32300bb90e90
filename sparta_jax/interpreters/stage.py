"""Stages: what of a program depends on the params alone (the prologue), and what is left for every call (the body)."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import jax.core
import numpy as np

from ..errors import SpartaTypeError
from .fusions import Fusion
from .jaxprs import Atom, Constant, Equation, Program, Variable, jaxprs_in
from .sites import Site

SETTLED = "sparta_jax.settled"  # the name of what compaction makes of the params alone: the prologue keeps it
VARIED = frozenset({"pvary", "pcast"})  # of one value on all devices, inside `shard_map`: it derives as it did
UNFOLDED = frozenset({"broadcast_in_dim", "iota", "slice", "dynamic_slice", "gather", "random_bits", "random_wrap", "pad"})


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A value that the prologue hands to the body.

    Attributes:
      key: names it, the same for every call shape: how it derives from the params.
      sources: the key paths of the params it derives from.
      variable: the value itself, or the weight of `site`.
      site: the site whose normalised weight it is, or None.
      index: which weight of the site's batch.
    """

    key: str
    sources: tuple[str, ...]
    variable: Variable
    site: Site | None = None
    index: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Origins:
    """How the variables that depend on the params alone derive from them.

    Attributes:
      params: the input variables that are params, with their key paths.
      fixed: all variables that depend on params and constants alone, and on nothing random or effectful.
      definition: the equation of each of them that is not an input.
    """

    params: Mapping[Variable, str]
    fixed: frozenset[Variable]
    definition: Mapping[Variable, Equation]
    constants: Mapping[Variable, Any]
    _stored: dict[Variable, bool] = dataclasses.field(default_factory=dict)
    _digests: dict[Variable, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, program: Program, params: Mapping[Variable, str]) -> Origins:
        fixed = fixed_variables(program, params.keys())
        definition = {v: e for e in program.equations for v in e.outputs if v in fixed}
        return cls(params, fixed, definition, program.constants)

    def sources(self, variable: Variable) -> tuple[str, ...]:
        """The key paths of the params that a fixed variable derives from."""
        found: dict[str, None] = {}
        seen: set[Variable] = set()
        stack = [variable]
        while stack:
            v = stack.pop()
            if v in seen:
                continue
            seen.add(v)
            if v in self.params:
                found[self.params[v]] = None
            elif v in self.definition:
                stack += [a for a in self.definition[v].inputs if isinstance(a, Variable)]
        return tuple(sorted(found))

    def name(self, variable: Variable) -> str:
        """The key paths of the params that a fixed variable derives from, with the layer where it is one slice of a stack."""
        atom, layer = variable, ""
        while isinstance(atom, Variable) and atom in self.definition and len(self.definition[atom].inputs) == 1:
            equation = self.definition[atom]
            if equation.name == "split" and equation.params["axis"] == 0 and atom.shape[0] == 1:
                layer = f"[{equation.outputs.index(atom)}]"
            (atom,) = equation.inputs
        return ", ".join(self.sources(variable)) + layer

    def stored(self, variable: Variable) -> bool:
        """Whether the prologue hands over the variable itself: no broadcast, no slice, no larger than what it is made of."""
        if variable not in self._stored:
            self._stored[variable] = self._worth_storing(variable)
        return self._stored[variable]

    def _worth_storing(self, variable: Variable) -> bool:
        if variable in self.params:
            return True
        if variable not in self.definition or not self.sources(variable):
            return False
        equation = self.definition[variable]
        if equation.name == "name" and equation.params["name"] == SETTLED:
            return True
        if equation.name in UNFOLDED:
            return False
        inputs = [a for a in equation.inputs if isinstance(a, Variable)]
        return math.prod(variable.shape) <= sum(math.prod(a.shape) for a in inputs) and all(self._available(a) for a in inputs)

    def _available(self, variable: Variable) -> bool:
        return variable in self.constants or self.stored(variable)

    def key(self, variable: Variable) -> str:
        """A name for a fixed variable that depends on how it derives from the params and on nothing else."""
        variable = self._unvaried(variable)
        if variable in self.params:
            return self.params[variable]
        return f"{'+'.join(self.sources(variable))}~{self._digest(variable)}"

    def _digest(self, atom: Atom) -> str:
        if isinstance(atom, Constant):
            return _hash(repr((np.asarray(atom.value).tolist(), str(atom.aval.dtype))))
        if atom not in self._digests:
            self._digests[atom] = self._digest_of(atom)
        return self._digests[atom]

    def _unvaried(self, variable: Variable) -> Variable:
        while variable in self.definition and (equation := self.definition[variable]).name in VARIED:
            source = equation.inputs[equation.outputs.index(variable)]
            if not isinstance(source, Variable):
                break
            variable = source
        return variable

    def _digest_of(self, variable: Variable) -> str:
        variable = self._unvaried(variable)
        if variable in self.params:
            return _hash(self.params[variable])
        if variable in self.constants:
            value = self.constants[variable]
            return _hash(*_content(value))
        equation = self.definition[variable]
        inputs = [self._digest(v) for v in equation.inputs]
        place = equation.outputs.index(variable)
        return _hash(repr((equation.name, place, _canonical(equation.params), inputs)))


def fixed_variables(program: Program, params: Set[Variable]) -> frozenset[Variable]:
    """The variables that depend on the params and on constants alone, on no effect and on no host function."""
    fixed: set[Variable] = {*params, *program.constants}
    for equation in program.equations:
        if equation.effects or _is_opaque(equation.name, equation.params):
            continue
        if all(isinstance(v, Constant) or v in fixed for v in equation.inputs):
            fixed.update(equation.outputs)
    return frozenset(fixed)


def _is_opaque(name: str, params: Mapping[str, Any]) -> bool:
    """Whether something in an equation is a host function or a foreign kernel: then no digest of its params tells it apart."""
    derived = name.startswith("custom_")  # its body is a jaxpr; the callables beside it are the derivative
    if not derived and any(callable(v) and not isinstance(v, type) for v in params.values()):
        return True
    return any(_is_opaque(e.primitive.name, e.params) for jaxpr in jaxprs_in(params) for e in jaxpr.eqns)


Step = Equation | Site | Fusion


def steps_of(program: Program, covering: Iterable[Site | Fusion]) -> list[Step]:
    """The program's equations in order, those that cover several once in the place of the last one."""
    owner = {e: step for step in covering for e in step.covered}
    last = {}
    for equation in program.equations:
        if equation in owner:
            last[owner[equation]] = equation
    out: list[Step] = []
    for equation in program.equations:
        step = owner.get(equation)
        if step is None:
            out.append(equation)
        elif last[step] is equation:
            out.append(step)
    return out


def demanded(
    steps: Sequence[Step],
    targets: Iterable[Atom],
    given: Set[Variable],
    inputs_of: Callable[[Step], Sequence[Atom]],
    effects: bool = True,
) -> list[Step]:
    """The steps that the targets need where the variables `given` are there already, and those with effects, if wanted."""
    wanted = {v for v in targets if isinstance(v, Variable)} - given
    kept = []
    for step in reversed(steps):
        acts = effects and isinstance(step, Equation) and bool(step.effects)
        if not acts and wanted.isdisjoint(step.outputs):
            continue
        kept.append(step)
        wanted |= {v for v in inputs_of(step) if isinstance(v, Variable)} - given
    return kept[::-1]


def inputs_with_weights(step: Step) -> Sequence[Atom]:
    return (*step.inputs, step.weight) if isinstance(step, Site) else step.inputs


def entries_of(program: Program, steps: Sequence[Step], origins: Origins, zeros: Set[Variable]) -> list[Entry]:
    """What the body needs of the prologue: the weights of its sites, and other values that are worth keeping."""
    given = {v for v in origins.fixed if origins.stored(v)} | set(program.constants) | zeros
    body = demanded(steps, program.outputs, given, lambda step: step.inputs)
    entries: dict[tuple[str, Variable], Entry] = {}  # one value may be computed twice: then one key has two variables
    for step in body:
        if isinstance(step, Site):
            for entry in weight_entries(step, origins):
                entries[entry.key, entry.variable] = entry
    needed = [v for step in body for v in step.inputs] + list(program.outputs)
    for v in needed:
        if isinstance(v, Variable) and v in given and v not in program.constants and v not in zeros:
            entries[origins.key(v), v] = Entry(origins.key(v), origins.sources(v), v)
    return list(entries.values())


def weight_entries(site: Site, origins: Origins) -> list[Entry]:
    """One entry per weight of a site's batch; its key says how the weight is turned into `[k, n]` and which of it is live."""
    base, sources = origins.key(site.weight), origins.sources(site.weight)
    how = (site.normal.w_order, site.normal.k, site.normal.n)
    return [
        Entry(f"{base}@{_hash(repr((how, i, pattern.digest)))}", sources, site.weight, site, i)
        for i, pattern in enumerate(site.patterns)
    ]


def _hash(text: str, data: bytes = b"") -> str:
    return hashlib.blake2b(text.encode() + data, digest_size=6).hexdigest()


def _content(value: Any) -> tuple[str, bytes]:
    """What tells a constant of a program from others.

    Raises:
      SpartaTypeError: if it is traced.
    """
    if isinstance(value, jax.core.Tracer):
        raise SpartaTypeError(
            f"the function closes over a traced array of shape {value.shape}: what is made of the params there cannot be "
            "named, so it can neither be packed nor reported; pass the array as an argument"
        )
    if hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
        with jax.ensure_compile_time_eval():
            return f"{value.shape} {value.dtype}", np.asarray(jax.random.key_data(value)).tobytes()
    host = np.asarray(value)
    return f"{host.shape} {host.dtype}", host.tobytes()


def _canonical(value: Any) -> Any:
    """A form of an equation's params whose repr is the same in every process."""
    if isinstance(value, Mapping):
        return [(str(k), _canonical(value[k])) for k in sorted(value, key=str)]
    if isinstance(value, (tuple, list)):
        return [_canonical(v) for v in value]
    if hasattr(value, "eqns"):
        return [str(value), *(_hash(*_content(c)) for c in getattr(value, "consts", ()))]
    if isinstance(value, np.ndarray):
        return _hash(*_content(value))
    if callable(value) and not isinstance(value, type):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return repr(value)
