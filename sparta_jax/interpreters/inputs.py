"""What meets the params at products: how large the inputs are that each element of a weight is multiplied by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .jaxprs import REMAT, Equation, Program, apply, bind, body, flatten, jaxprs_in, read, scan_split

PRODUCTS = ("dot_general", "conv_general_dilated")
UNFOLLOWED = ("ragged_dot", "ragged_dot_general")  # products, too
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


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a program multiplies params by.

    Attributes:
      meetings: its products of params and data, those inside scans once per iteration.
      unseen: positions of params that go into a `while` loop or the like with products in it, which is not followed.
    """

    meetings: list[Meeting] = dataclasses.field(default_factory=list)
    unseen: set[int] = dataclasses.field(default_factory=set)


def meetings(program: Program, inputs: Sequence[Tracked]) -> Found:
    """The products of a program that is evaluated on these inputs; of branches those count that are taken."""
    found = Found()
    _run(program, inputs, found)
    return found


def _run(program: Program, inputs: Sequence[Tracked], found: Found) -> list[Tracked]:
    env: dict[Any, Any] = {variable: Tracked(value) for variable, value in program.constants.items()}
    env.update(zip(program.inputs, inputs, strict=True))
    get = lambda atom: held if isinstance(held := read(env, atom), Tracked) else Tracked(held)
    for equation in program.equations:
        results = _step(equation, [get(atom) for atom in equation.inputs], found)
        env.update(zip(equation.outputs, results, strict=True))
    return [get(atom) for atom in program.outputs]


def _step(equation: Equation, inputs: list[Tracked], found: Found) -> list[Tracked]:
    if equation.name in CALLS:
        return _run(body(equation), inputs, found)
    if equation.name == "scan":
        return _scan(equation, inputs, found)
    if equation.name == "cond":
        return _cond(equation, inputs, found)
    if equation.name in PRODUCTS:
        found.meetings.extend(_met(equation, inputs))
    elif equation.name in UNFOLLOWED or any(map(_multiplies, jaxprs_in(equation.params))):
        found.unseen.update(*(t.sources or () for t in inputs))
    sources = None if equation.effects else _together(inputs)
    return [Tracked(value, sources) for value in bind(equation, [t.value for t in inputs])]


def _together(inputs: Sequence[Tracked]) -> frozenset[int] | None:
    known = [t.sources for t in inputs if t.sources is not None]
    return frozenset().union(*known) if len(known) == len(inputs) else None


def _scan(equation: Equation, inputs: list[Tracked], found: Found) -> list[Tracked]:
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


def _cond(equation: Equation, inputs: list[Tracked], found: Found) -> list[Tracked]:
    """Every branch; the norms of those that are not taken are zero."""
    index, *operands = inputs
    results = []
    for i, branch in enumerate(equation.params["branches"]):
        inside = Found()
        results.append(_run(flatten(branch, inline_remat=True), operands, inside))
        taken = [dataclasses.replace(m, norms=jnp.where(index.value == i, m.norms, 0)) for m in inside.meetings]
        found.meetings.extend(taken)
        found.unseen.update(inside.unseen)
    select = lambda outs: jax.lax.select_n(index.value, *(t.value for t in outs))
    return [Tracked(select(outs), _together([index, *outs])) for outs in zip(*results, strict=True)]


def _multiplies(jaxpr: Any) -> bool:
    """Whether there is a product in it."""
    return any(
        e.primitive.name in PRODUCTS + UNFOLLOWED or any(map(_multiplies, jaxprs_in(e.params)))
        for e in getattr(jaxpr, "jaxpr", jaxpr).eqns
    )


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
