"""Compaction of a whole program into a smaller one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import jax

from ..jaxprs import Program, Variable, trace
from ..propagate import Facts
from .emission import Emission, Held
from .shadow import shadows
from .view import View


def compact(program: Program, facts: Facts, params: Set[Variable], fixed: Set[Variable]) -> Program:
    """The program with every axis slice left out that is dead, or constant and folded; of the same inputs and outputs.

    Args:
      params: the inputs that are params; dead elements of theirs are zero.
      fixed: the variables that depend on the params alone.
    """
    structs = [
        jax.ShapeDtypeStruct(v.shape, v.aval.dtype, weak_type=getattr(v.aval, "weak_type", False)) for v in program.inputs
    ]
    return trace(lambda *inputs: run(program, facts, params, fixed, inputs), *structs)[0]


def run(
    program: Program,
    facts: Facts,
    params: Set[Variable],
    fixed: Set[Variable],
    inputs: Sequence[Any],
    watch: Callable[[Variable, Held], None] = lambda variable, held: None,
) -> list:
    """The outputs of the program, computed on compact values."""
    given: Mapping[Variable, Any] = dict(zip(program.inputs, inputs, strict=True))
    folded = shadows(program, facts, fixed, {v: given[v] for v in params})
    emission = Emission(program, facts, fixed, folded, watch)
    return emission.run([Held(View.whole(v.shape), x) for v, x in given.items()])
