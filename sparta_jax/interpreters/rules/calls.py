"""Rules for calls that keep their own meaning: custom derivatives and rematerialisation.

A call stays a call in the rewritten program, and a derivative may be taken of it later. So the facts of a custom derivative
hold for the primal *and* for the derivative's program, both traced here and swept like any other program:

- `custom_jvp`: `(x, t) -> (y, dy)`, with a tangent `t` that is zero, constant or live where `x` is.
- `custom_vjp`: `(x, ct) -> (y, dx)`, with a cotangent `ct` that is zero where nobody needs `y`.

A derivative's program often calls the function again. Such calls carry their `depth`: their derivatives are swept too up to
`ORDERS`, and below it they mean their bodies. What cannot be traced is live and needed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from ...grid import combine
from ..facts import CONST, LIVE, ZERO, Fact, Need, either, needed, unneeded
from ..jaxprs import Program, flatten
from ..propagate import Facts, backward_sweep, forward_sweep, propagate
from ..registry import backward, forward
from ..scores import Freedom
from .bodies import at_depth, body_of, needs, values

ORDERS = 2  # of derivatives whose programs are swept


@forward(p.remat_p)
def remat_forward(*inputs: Fact, jaxpr, depth: int = 0, freedom: Freedom | None = None, **_) -> list[Fact]:
    """The body's facts."""
    return values(body_of(jaxpr, depth), inputs, freedom)


@backward(p.remat_p)
def remat_backward(outs: list[Need], *inputs: Fact, jaxpr, depth: int = 0, freedom: Freedom | None = None, **_) -> list[Need]:
    """The body's needs."""
    return needs(body_of(jaxpr, depth), inputs, outs, freedom)


@forward(p.custom_jvp_call_p)
def custom_jvp_call_forward(*inputs: Fact, depth: int = 0, **params) -> list[Fact]:
    """An output is zero, or constant, iff its tangent is too."""
    if depth == ORDERS:
        return values(body_of(params["call_jaxpr"], depth), inputs)
    call = _Call.of(p.custom_jvp_call_p, params, depth)
    if _dense(inputs) or (program := call.jvp) is None:
        return call.live_outputs
    outs = values(program, [*inputs, *call.select(map(_tangent, inputs))])
    return call.join(outs[: call.arity], outs[call.arity :])


@backward(p.custom_jvp_call_p)
def custom_jvp_call_backward(outs: list[Need], *inputs: Fact, depth: int = 0, **params) -> list[Need]:
    """An input is needed iff the primal or the tangents of needed outputs need it or its tangent."""
    if depth == ORDERS:
        return needs(body_of(params["call_jaxpr"], depth), inputs, outs)
    call = _Call.of(p.custom_jvp_call_p, params, depth)
    if (program := call.jvp) is None:
        return [needed(x.shape) for x in inputs]
    found = needs(program, [*inputs, *call.select(map(_tangent, inputs))], [*outs, *call.select_outputs(outs)])
    for i, need in zip(call.inexact, found[len(inputs) :], strict=True):
        found[i] = either(found[i], need)
    return found[: len(inputs)]


@forward(p.custom_vjp_call_p)
def custom_vjp_call_forward(*inputs: Fact, depth: int = 0, **params) -> list[Fact]:
    """An output is zero, or constant, iff it is for the primal and no input's cotangent needs its own, unless that input is."""
    if depth == ORDERS:
        return values(body_of(params["call_jaxpr"], depth), inputs)
    call = _Call.of(p.custom_vjp_call_p, params, depth)
    if _dense(inputs) or (program := call.vjp) is None:
        return call.live_outputs
    given = [*inputs, *(Fact.live(call.outputs[i].shape) for i in call.inexact_outputs)]
    primal = [unneeded(a.shape) for a in call.outputs]
    moves = lambda least: [x.value.map(lambda c: c >= least) for x in call.select(inputs)]
    facts = Facts(forward_sweep(program, given), {}, ())
    swept = [backward_sweep(program, facts, [*primal, *moves(least)]) for least in (CONST, LIVE)]
    weakest = lambda to_const, to_live: np.where(to_live, LIVE, np.where(to_const, CONST, ZERO))
    derivatives = [Fact(combine(weakest, *(needs[v] for needs in swept))) for v in program.inputs[len(inputs) :]]
    return call.join([facts.value(v) for v in program.outputs[: call.arity]], derivatives)


@backward(p.custom_vjp_call_p)
def custom_vjp_call_backward(outs: list[Need], *inputs: Fact, depth: int = 0, **params) -> list[Need]:
    """An input is needed iff the primal or a cotangent needs it, or its own cotangent may differ from zero."""
    if depth == ORDERS:
        return needs(body_of(params["call_jaxpr"], depth), inputs, outs)
    call = _Call.of(p.custom_vjp_call_p, params, depth)
    if (program := call.vjp) is None:
        return [needed(x.shape) for x in inputs]
    cotangents = [Fact.of_mask(out) for out in call.select_outputs(outs)]
    moves = [x.nonzero for x in call.select(inputs)]
    facts = propagate(program, [*inputs, *cotangents], [*outs, *moves])
    found = [facts.need(v) for v in program.inputs[: len(inputs)]]
    for i, v in zip(call.inexact, program.outputs[call.arity :], strict=True):
        found[i] = either(found[i], facts.value(v).nonzero)
    return found


def _dense(inputs: Sequence[Fact]) -> bool:
    """Whether nothing is known of any input: then a call's outputs are not looked into."""
    return all((x.value.cells == LIVE).all() for x in inputs)


def _tangent(x: Fact) -> Fact:
    """A tangent vanishes where its primal is zero, and is constant where its primal is."""
    return Fact(x.value)


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """A call with a custom derivative.

    Attributes:
      fn: the call as a function of its operands.
      inputs: the operands' abstract values.
      outputs: the results'.
      depth: how many derivatives it lies below the user's own program.
    """

    fn: Callable
    inputs: tuple
    outputs: tuple
    depth: int

    @classmethod
    def of(cls, primitive: Primitive, params: dict, depth: int) -> _Call:
        """The call of these params; the same object for the same body, so that it is traced once."""
        return _known_call(primitive, _Params(params), depth)

    @property
    def arity(self) -> int:
        return len(self.outputs)

    @property
    def inexact(self) -> list[int]:
        """The positions of the inputs that have tangents."""
        return [i for i, a in enumerate(self.inputs) if _is_inexact(a)]

    @property
    def inexact_outputs(self) -> list[int]:
        return [i for i, a in enumerate(self.outputs) if _is_inexact(a)]

    @property
    def live_outputs(self) -> list[Fact]:
        return [Fact.live(a.shape) for a in self.outputs]

    def select(self, items) -> list:
        """Those of the inputs that have tangents."""
        items = list(items)
        return [items[i] for i in self.inexact]

    def select_outputs(self, items) -> list:
        return [items[i] for i in self.inexact_outputs]

    def join(self, outs: Sequence[Fact], derivatives: Sequence[Fact]) -> list[Fact]:
        """The weaker of an output's fact and its derivative's."""
        joined = [Fact(out.value) for out in outs]
        for i, derivative in zip(self.inexact_outputs, derivatives, strict=True):
            joined[i] = joined[i] | derivative
        return joined

    @functools.cached_property
    def jvp(self) -> Program | None:
        """`(*inputs, *tangents) -> (*outputs, *tangents)`, of what has tangents."""

        def program(inputs, tangents):
            outs, dots = jax.jvp(self._of_inexact(inputs), self.select(inputs), tangents)
            return outs, self.select_outputs(dots)

        return self._try_trace(program, self.select(self.inputs))

    @functools.cached_property
    def vjp(self) -> Program | None:
        """`(*inputs, *cotangents) -> (*outputs, *cotangents)`, of what has tangents."""

        def program(inputs, cotangents):
            f = self._of_inexact(inputs)
            outs, pull = jax.vjp(f, *self.select(inputs))
            given = dict(zip(self.inexact_outputs, cotangents, strict=True))
            zero = lambda a: np.zeros(a.shape, jax.dtypes.float0)
            return outs, pull([given[i] if i in given else zero(a) for i, a in enumerate(self.outputs)])

        return self._try_trace(program, self.select_outputs(self.outputs))

    def _try_trace(self, fn: Callable, derivatives: Sequence) -> Program | None:
        """The program of `fn`, or None where the user's derivative cannot be traced at abstract values."""
        shapes = [[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals] for avals in (self.inputs, derivatives)]
        try:
            return at_depth(flatten(jax.make_jaxpr(fn)(*shapes)), self.depth + 1)
        except Exception:
            return None

    def _of_inexact(self, inputs: Sequence) -> Callable:
        def f(*inexact):
            merged = dict(zip(self.inexact, inexact, strict=True))
            return self.fn(*(merged.get(i, x) for i, x in enumerate(inputs)))

        return f


@dataclasses.dataclass(frozen=True, eq=False)
class _Params:
    """The params of a call, compared by the identity of the body and of the functions beside it."""

    params: dict

    def __eq__(self, other) -> bool:
        return self.params.keys() == other.params.keys() and all(v is other.params[k] for k, v in self.params.items())

    def __hash__(self) -> int:
        return id(self.params["call_jaxpr"])


@functools.lru_cache(maxsize=512)
def _known_call(primitive: Primitive, boxed: _Params, depth: int) -> _Call:
    fn = lambda *xs: primitive.bind(*xs, **primitive.get_bind_params(boxed.params))
    body = boxed.params["call_jaxpr"]
    return _Call(fn, tuple(body.in_avals), tuple(body.out_avals), depth)


def _is_inexact(aval) -> bool:
    return jax.dtypes.issubdtype(aval.dtype, np.inexact)
