"""What meets the params at products: how large the inputs are that each element of a weight is multiplied by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .jaxprs import REMAT, Equation, Program, apply, bind, body, flatten, read, scan_split

PRODUCTS = ("dot_general", "conv_general_dilated")
CALLS = REMAT | {"custom_jvp_call", "custom_vjp_call"}


@dataclasses.dataclass(frozen=True, eq=False)
class Tracked:
    """A value and what it is made of.

    Attributes:
      value: an array.
      sources: positions of the params that it derives from; None where it depends on data.
    """

    value: Any
    sources: frozenset[int] | None = frozenset()


@dataclasses.dataclass(frozen=True, eq=False)
class Meeting:
    """A product of data with what derives from the params alone.

    Attributes:
      weight: the operand that derives from the params.
      norms: of its shape: the root of the sum of the squares of the inputs that each of its elements is multiplied by.
      sources: positions of the params it derives from.
    """

    weight: jax.Array
    norms: jax.Array
    sources: frozenset[int]


def meetings(program: Program, inputs: Sequence[Tracked]) -> list[Meeting]:
    """The products of a program that is evaluated on these inputs, those inside scans once per iteration.

    Products inside `while` loops and branches are not among them.
    """
    found: list[Meeting] = []
    _run(program, inputs, found)
    return found


def _run(program: Program, inputs: Sequence[Tracked], found: list[Meeting]) -> list[Tracked]:
    env: dict[Any, Any] = {variable: Tracked(value) for variable, value in program.constants.items()}
    env.update(zip(program.inputs, inputs, strict=True))
    get = lambda atom: held if isinstance(held := read(env, atom), Tracked) else Tracked(held)
    for equation in program.equations:
        results = _step(equation, [get(atom) for atom in equation.inputs], found)
        env.update(zip(equation.outputs, results, strict=True))
    return [get(atom) for atom in program.outputs]


def _step(equation: Equation, inputs: list[Tracked], found: list[Meeting]) -> list[Tracked]:
    if equation.name in CALLS:
        return _run(body(equation), inputs, found)
    if equation.name == "scan":
        return _scan(equation, inputs, found)
    if equation.name in PRODUCTS:
        found += _met(equation, inputs)
    sources = None if equation.effects else _together(inputs)
    return [Tracked(value, sources) for value in bind(equation, [t.value for t in inputs])]


def _together(inputs: Sequence[Tracked]) -> frozenset[int] | None:
    known = [t.sources for t in inputs if t.sources is not None]
    return frozenset().union(*known) if len(known) == len(inputs) else None


def _scan(equation: Equation, inputs: list[Tracked], found: list[Meeting]) -> list[Tracked]:
    """Iteration by iteration."""
    params = equation.params
    consts, carried = scan_split(params)
    program, order = flatten(params["jaxpr"], inline_remat=True), range(params["length"])
    carry, stacks = inputs[consts : consts + carried], inputs[consts + carried :]
    rows: dict[int, list[Tracked]] = {}
    for i in reversed(order) if params["reverse"] else order:
        outs = _run(program, [*inputs[:consts], *carry, *(Tracked(t.value[i], t.sources) for t in stacks)], found)
        carry, rows[i] = outs[:carried], outs[carried:]
    if not rows:
        return [Tracked(value, _together(inputs)) for value in bind(equation, [t.value for t in inputs])]
    columns = list(zip(*(rows[i] for i in order), strict=True))
    return [*carry, *(Tracked(jnp.stack([t.value for t in column]), _together(column)) for column in columns)]


def _met(equation: Equation, inputs: list[Tracked]) -> list[Meeting]:
    """The product where one operand is data and the other derives from params."""
    for side in (0, 1):
        weight, x = inputs[side], inputs[1 - side]
        if weight.sources and x.sources is None and jnp.issubdtype(weight.value.dtype, jnp.floating):
            return [Meeting(weight.value, _norms(equation, side, x.value, weight.value), weight.sources)]
    return []


def _norms(equation: Equation, side: int, x: jax.Array, weight: jax.Array) -> jax.Array:
    """The product's transpose in its weight, of the squared inputs and a result of ones."""
    wide = jnp.float64 if jnp.float64 in (x.dtype, weight.dtype) else jnp.float32
    squares = jnp.square(jnp.abs(x).astype(wide))

    def product(weight: jax.Array) -> jax.Array:
        operands = (weight, squares) if side == 0 else (squares, weight)
        return apply(equation, operands, precision=None, preferred_element_type=wide)[0]

    y, pull = jax.vjp(product, jnp.zeros_like(weight, dtype=wide))
    return jnp.sqrt(pull(jnp.ones_like(y))[0]).astype(weight.dtype)
