"""Loops over sparse stacked weights, written out: each layer then has its own slice, mask, kernel and packed weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp

from .facts import Fact
from .jaxprs import REMAT, Atom, Equation, Program, Variable, flatten, scan_split, trace
from .rules.bodies import forward_facts
from .stage import demanded, fixed_variables

MOST_LAYERS = 64
MOST_EQUATIONS = 4000  # 32 encoder layers are 2,500: 17 s to their first result, 50 s to their first gradient on two CPU cores


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """What became of a loop over sparse stacked weights.

    Attributes:
      equation: the scan.
      weights: those of the stacks that are sparse.
      fate: a phrase.
    """

    equation: Equation
    weights: tuple[Variable, ...]
    fate: str


def unrolled(
    program: Program, inputs: Sequence[Fact], params: Set[Variable], unroll: bool | None = None, inline_remat: bool = False
) -> tuple[Program, list[Loop]]:
    """The program with its scans over sparse stacked weights written out, and what became of each.

    Args:
      inputs: the facts of the program's inputs.
      params: which of its variables are params: stacks that derive from these alone are weights.
      unroll: whether to write them out; None: where that does not make the program too long to compile.
      inline_remat: whether what is marked for rematerialisation is inlined in what is written out.
    """
    stacks = _sparse_stacks(program, inputs, params)
    reasons = {equation: _why_not(equation, unroll) for equation in stacks}
    kept = [Loop(e, stacks[e], f"stays a loop over the union of its masks: {why}") for e, why in reasons.items() if why]
    written = [e for e, why in reasons.items() if why is None]
    if not written:
        return program, kept
    writer = _Writer(program, inline_remat)
    outputs = writer.write(set(written))
    whole = Program(program.inputs, tuple(outputs), tuple(writer.equations), writer.constants)
    again, loops = unrolled(whole, inputs, params, unroll, inline_remat)
    return again, [*(Loop(e, stacks[e], f"written out, {e.params['length']} layers") for e in written), *loops]


def _sparse_stacks(program: Program, inputs: Sequence[Fact], params: Set[Variable]) -> dict[Equation, tuple[Variable, ...]]:
    """The scans over stacks that derive from params alone and have zeros, and these stacks."""
    scans = [e for e in program.equations if e.name == "scan" and e.params["length"]]
    if not scans:
        return {}
    derived = _derived(program, params)
    stacks = {e: [v for v in e.inputs[sum(scan_split(e.params)) :] if isinstance(v, Variable) and v in derived] for e in scans}
    steps = demanded(program.equations, [v for vs in stacks.values() for v in vs], frozenset(), lambda e: e.inputs, False)
    before = dataclasses.replace(program, outputs=(), equations=tuple(e for e in steps if isinstance(e, Equation)))
    facts = forward_facts(before, inputs)
    found = {e: tuple(v for v in vs if facts.value(v).has_zeros) for e, vs in stacks.items()}
    return {e: vs for e, vs in found.items() if vs}


def _derived(program: Program, params: Set[Variable]) -> set[Variable]:
    """The variables that depend on params alone, and on at least one."""
    fixed, derived = fixed_variables(program, params), set(params)
    for equation in program.equations:
        if not derived.isdisjoint(v for v in equation.inputs if isinstance(v, Variable)):
            derived |= fixed.intersection(equation.outputs)
    return derived


def _why_not(equation: Equation, unroll: bool | None) -> str | None:
    length = equation.params["length"]
    if unroll is not None:
        return None if unroll else "asked for"
    if length > MOST_LAYERS:
        return f"{length} layers, more than {MOST_LAYERS}"
    size = length * len(flatten(equation.params["jaxpr"], inline_remat=True).equations)
    return f"{size} equations, more than {MOST_EQUATIONS}" if size > MOST_EQUATIONS else None


class _Writer:
    """Collects the equations of a program in which loops are written out."""

    def __init__(self, program: Program, inline_remat: bool) -> None:
        self.program, self.inline_remat = program, inline_remat
        self.equations: list[Equation] = []
        self.constants: dict[Variable, Any] = dict(program.constants)
        self.renamed: dict[Variable, Atom] = {}

    def write(self, loops: Set[Equation]) -> list[Atom]:
        for equation in self.program.equations:
            inputs = tuple(map(self._now, equation.inputs))
            if equation in loops:
                self.renamed.update(zip(equation.outputs, self._written_out(equation, inputs), strict=True))
            else:
                same = all(a is b for a, b in zip(inputs, equation.inputs, strict=True))
                self.equations.append(equation if same else dataclasses.replace(equation, inputs=inputs))
        return list(map(self._now, self.program.outputs))

    def _now(self, atom: Atom) -> Atom:
        return self.renamed.get(atom, atom) if isinstance(atom, Variable) else atom

    def _written_out(self, scan: Equation, inputs: Sequence[Atom]) -> list[Atom]:
        consts, carried = scan_split(scan.params)
        length = scan.params["length"]
        body = flatten(scan.params["jaxpr"], self.inline_remat)
        carry, stacks = list(inputs[consts : consts + carried]), inputs[consts + carried :]
        slices = self._inline(_traced(_slices, stacks, length), stacks, scan, None)
        ys: dict[int, list[Atom]] = {}
        for i in reversed(range(length)) if scan.params["reverse"] else range(length):
            xs = slices[i * len(stacks) : (i + 1) * len(stacks)]
            outs = self._inline(body, [*inputs[:consts], *carry, *xs], scan, f"scan[{i}]")
            carry, ys[i] = outs[:carried], outs[carried:]
        behind = [y for place in range(len(scan.outputs) - carried) for y in (ys[i][place] for i in range(length))]
        return [*carry, *self._inline(_traced(_stacks, behind, length), behind, scan, None)]

    def _inline(self, body: Program, inputs: Sequence[Atom], outer: Equation, label: str | None) -> list[Atom]:
        """The body's equations on `inputs`, with new variables."""
        self.constants.update(body.constants)
        env: dict[Variable, Atom] = {v: v for v in body.constants}
        env.update(zip(body.inputs, inputs, strict=True))
        now = lambda atom: env[atom] if isinstance(atom, Variable) else atom
        for equation in body.equations:
            outputs = tuple(Variable(v.aval) for v in equation.outputs)
            given, source = tuple(map(now, equation.inputs)), _source(equation, outer, label)
            params = _outside_a_loop(equation)
            self.equations.append(dataclasses.replace(equation, inputs=given, outputs=outputs, source=source, params=params))
            env.update(zip(equation.outputs, outputs, strict=True))
        return list(map(now, body.outputs))


def _source(equation: Equation, outer: Equation, label: str | None) -> Any:
    """The source of an equation inside another: its own, below the other's names; that of the other where it is unlabelled."""
    if label is None:
        return outer.source
    return equation.source.replace(name_stack=outer.source.name_stack.extend(label) + equation.source.name_stack)


def _outside_a_loop(equation: Equation) -> dict[str, Any]:
    """The params that an equation of a body has outside: there XLA would undo rematerialisation that does not forbid it."""
    return {**equation.params, "prevent_cse": True} if equation.name in REMAT else equation.params


def _traced(fn, atoms: Sequence[Atom], length: int) -> Program:
    program, _ = trace(lambda *xs: fn(xs, length), *(jax.ShapeDtypeStruct(v.shape, v.aval.dtype) for v in atoms))
    return program


def _slices(stacks: Sequence[jax.Array], length: int) -> list[list[jax.Array]]:
    """By layer: its slice of each stack. A split's derivative is one concatenation, that of many slices many sums."""
    pieces = [jax.lax.split(x, [1] * length) for x in stacks]
    return [[jnp.squeeze(piece[i], 0) for piece in pieces] for i in range(length)]


def _stacks(ys: Sequence[jax.Array], length: int) -> list[jax.Array]:
    """Every `length` behind one another along a new first axis."""
    return [jnp.stack(ys[i : i + length]) for i in range(0, len(ys), length)]
