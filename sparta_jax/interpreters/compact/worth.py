"""Whether compaction pays: a rough count of a program's work, the same for the program before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..facts import Fact
from ..inner import bodies_of
from ..jaxprs import Atom, Equation, Program, Variable
from ..propagate import Facts, propagate
from .price import MOVED
from .targets import PRODUCTS

FLOP = 1 / 1e11  # seconds, of one CPU core; only ratios matter
STREAMED = 1 / 4e10  # a byte that an elementwise operation, which XLA fuses with others, writes
SLICED = 1 / 1e10  # a byte that a slice or a concatenation writes
GATHERED = MOVED / 4  # a byte that a gather writes
MARGIN = 0.98

BYTE = {**dict.fromkeys(("slice", "concatenate", "pad", "select_n"), SLICED), **dict.fromkeys(("gather", "scatter"), GATHERED)}


def pays(
    before: tuple[Program, Facts], after: tuple[Program, Facts], free: Sequence[frozenset[Variable]], lighter: bool
) -> bool:
    """Whether the program `after` compaction is less work, or no more and its params are `lighter`; the variables in `free`
    are computed beforehand."""
    return work(*after, free[1]) < (1 / MARGIN if lighter else MARGIN) * work(*before, free[0])


def product_flops(program: Program, facts: Facts, free: frozenset[Variable] = frozenset()) -> float:
    """The operations of a program's products, as dense ones, in loops as often as these run; without what computes `free`."""
    total = 0.0
    for equation in program.equations:
        if free.issuperset(equation.outputs):
            continue
        if equation.name in PRODUCTS and _is_needed(equation, facts):
            total += _dense_flops(equation)
        for body in bodies_of(equation, facts):
            total += body.times * product_flops(body.program, propagate(body.program, body.inputs, body.outputs))
    return total


def work(program: Program, facts: Facts, free: frozenset[Variable]) -> float:
    """Modelled seconds of a program, without what computes the variables `free`."""
    return sum(_seconds(e, facts) for e in program.equations if not free.issuperset(e.outputs) and _is_needed(e, facts))


def _is_needed(equation: Equation, facts: Facts) -> bool:
    return bool(equation.effects) or any(facts.live(v).cells.any() for v in equation.outputs if hasattr(v.aval, "dtype"))


def _seconds(equation: Equation, facts: Facts) -> float:
    if bodies := bodies_of(equation, facts):
        return sum(b.times * work(b.program, propagate(b.program, b.inputs, b.outputs), frozenset()) for b in bodies)
    written = sum(_bytes(v) for v in equation.outputs)
    if equation.name in PRODUCTS:
        return _flops(equation, facts) * FLOP + written * STREAMED
    return written * BYTE.get(equation.name, STREAMED)


def _flops(equation: Equation, facts: Facts) -> float:
    """Of a product, at most four for each row and nonzero element of a weight: a sparse kernel does no more."""
    flops = _dense_flops(equation)
    if equation.name == "conv_general_dilated":
        return flops
    return flops * min(1.0, *(2 * _density(facts.value(a)) for a in equation.inputs))


def _dense_flops(equation: Equation) -> float:
    x, w = equation.inputs
    out = math.prod(equation.outputs[0].shape)
    if equation.name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        inner = math.prod(w.shape) / max(w.shape[numbers.rhs_spec[0]], 1)
        return 2.0 * out * inner
    (contract, _), _ = equation.params["dimension_numbers"]
    return 2.0 * out * math.prod(x.shape[d] for d in contract)


def _density(fact: Fact) -> float:
    return fact.nonzero.nnz / fact.value.size if fact.value.size else 1.0


def _bytes(variable: Variable | Atom) -> float:
    dtype = getattr(variable.aval, "dtype", None)
    return math.prod(variable.shape) * getattr(dtype, "itemsize", 8)
