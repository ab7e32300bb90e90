"""Programs: flat jaxprs in a form of our own. The one module that knows how a JAX version spells a jaxpr."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.extend import source_info_util
from jax.extend.core import Literal, Primitive
from jax.extend.core.primitives import transpose_p

from ..products import varying_as

INLINED = frozenset({"jit", "pjit", "closed_call", "core_closed_call", "call", "core_call"})
REMAT = frozenset({"checkpoint", "remat", "remat2"})


@dataclasses.dataclass(frozen=True, eq=False)
class Variable:
    """One value of a program, defined once. Compared by identity.

    Attributes:
      aval: its abstract value (`shape`, `dtype`, weak type, sharding).
    """

    aval: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return getattr(self.aval, "shape", ())


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """A literal of a program.

    Attributes:
      value: a scalar.
      aval: its abstract value.
    """

    value: Any
    aval: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return getattr(self.aval, "shape", ())


Atom = Variable | Constant


def like(variable: Variable) -> jax.ShapeDtypeStruct:
    """What stands for a variable where a function of such values is traced: its dtype, weak type and place on a mesh."""
    aval = variable.aval
    sharding = getattr(aval, "sharding", None)
    placed = {} if sharding is None or sharding.mesh.empty else {"sharding": sharding}
    if (manual := getattr(aval, "manual_axis_type", None)) is not None:
        placed["manual_axis_type"] = manual
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False), **placed)


def placed_like(x: jax.Array) -> dict[str, Any]:
    """The keyword that makes the result of an indexing lie on an explicit mesh as `x` does; none elsewhere."""
    sharding = jax.typeof(x).sharding
    return {} if all(axis is None for axis in sharding.spec) else {"out_sharding": sharding}


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """`outputs = primitive(inputs, **params)`.

    Attributes:
      scope: the module path of the equation ("encoder/layer_0/attention"), `""` where the program names none.
      source: JAX's source information, with the name stacks of inlined calls put in front.
      context: the trace-time context to evaluate under, or None.
    """

    primitive: Primitive
    inputs: tuple[Atom, ...]
    outputs: tuple[Variable, ...]
    params: dict[str, Any]
    effects: Any
    source: Any
    context: Any

    @property
    def name(self) -> str:
        return self.primitive.name

    @property
    def scope(self) -> str:
        return str(self.source.name_stack)

    @property
    def line(self) -> str:
        """`file:line (function)` of the user's code, `""` where JAX kept none."""
        return source_info_util.summarize(self.source) if self.source.traceback is not None else ""


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A flat jaxpr: `jit` calls are inlined, so every variable has one definition; a reshape reads its axes in order.

    Custom derivatives, remat and control flow stay calls, with their jaxprs in the equation's params.

    Attributes:
      inputs: the arguments.
      outputs: the results.
      equations: in order of evaluation.
      constants: the arrays that the traced function closed over (they may be tracers of an outer trace).
    """

    inputs: tuple[Variable, ...]
    outputs: tuple[Atom, ...]
    equations: tuple[Equation, ...]
    constants: dict[Variable, Any]


def trace(fn: Callable, *args, inline_remat: bool = False) -> tuple[Program, Any]:
    """Traces `fn` at the shapes and dtypes of the arguments: its program, and the tree of its output.

    With `inline_remat` what is marked for rematerialisation is inlined too: right where no derivative will be taken."""
    closed, out = jax.make_jaxpr(fn, return_shape=True)(*args)
    return flatten(closed, inline_remat), jax.tree.structure(out)


def flatten(closed, inline_remat: bool = False) -> Program:
    """The program of a closed jaxpr."""
    builder = _Builder(INLINED | REMAT if inline_remat else INLINED)
    inputs = tuple(Variable(v.aval) for v in getattr(closed, "jaxpr", closed).invars)
    outputs = builder.inline(closed, inputs, None)
    return Program(inputs, tuple(outputs), tuple(builder.equations), builder.constants)


def evaluate(program: Program, args: Sequence[Any], step: Callable[[Equation, list], list]) -> list:
    """Runs a program, computing each equation by `step(equation, in_values) -> out_values`."""
    env: dict[Variable, Any] = dict(program.constants)
    env.update(zip(program.inputs, args, strict=True))
    for equation in program.equations:
        values = step(equation, [read(env, v) for v in equation.inputs])
        env.update(zip(equation.outputs, values, strict=True))
    return [read(env, v) for v in program.outputs]


def read(env: dict[Variable, Any], atom: Atom) -> Any:
    return atom.value if isinstance(atom, Constant) else env[atom]


def bind(equation: Equation, values: Sequence[Any]) -> list:
    """The ordinary meaning of one equation, traced where it stands."""
    with located(equation):
        return apply(equation, values)


def apply(equation: Equation, values: Sequence[Any], **changed: Any) -> list:
    """The results of an equation, with some of its params `changed`."""
    params = equation.primitive.get_bind_params({**equation.params, **changed})
    out = equation.primitive.bind(*map(_varying, equation.inputs, values), **params)
    return list(out) if equation.primitive.multiple_results else [out]


def _varying(atom: Atom, value: Any) -> Any:
    """Inside `shard_map`: a value that is the same on all devices, in the place of one that is not."""
    axes = getattr(atom.aval, "manual_axis_type", None)
    return varying_as(value, atom.aval) if axes is not None and axes.varying else value


@contextlib.contextmanager
def located(equation: Equation) -> Iterator[None]:
    """What is traced inside carries the equation's source line, name stack and context."""
    context = contextlib.nullcontext() if equation.context is None else equation.context.manager
    source = equation.source
    here = source_info_util.current_name_stack() + source.name_stack
    with context, source_info_util.user_context(source.traceback, name_stack=here):
        yield


class _Builder:
    """Collects the equations of a jaxpr and of the `jit` calls in it."""

    def __init__(self, inlined: frozenset[str]) -> None:
        self.inlined = inlined
        self.equations: list[Equation] = []
        self.constants: dict[Variable, Any] = {}

    def inline(self, closed, inputs: Sequence[Atom], outer) -> list[Atom]:
        jaxpr = getattr(closed, "jaxpr", closed)
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, value in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True):
            env[var] = constant = Variable(var.aval)
            self.constants[constant] = value
        read = lambda atom: Constant(atom.val, atom.aval) if isinstance(atom, Literal) else env[atom]
        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            source = eqn.source_info
            if outer is not None:
                source = source.replace(name_stack=outer.name_stack + source.name_stack)
            if (inner := _inlined(eqn, self.inlined)) is not None:
                results = self.inline(inner, operands, source)
                env.update(zip(eqn.outvars, results, strict=True))
                continue
            context, params = getattr(eqn, "ctx", None), eqn.params
            if eqn.primitive.name == "reshape" and params["dimensions"] is not None:
                operands[0] = self.transposed(operands[0], params["dimensions"], source, context)
                params = {**params, "dimensions": None}
            outputs = tuple(Variable(v.aval) for v in eqn.outvars)
            env.update(zip(eqn.outvars, outputs, strict=True))
            self.equations.append(Equation(eqn.primitive, tuple(operands), outputs, params, eqn.effects, source, context))
        return [read(v) for v in jaxpr.outvars]

    def transposed(self, x: Atom, permutation: Sequence[int], source, context) -> Atom:
        """The axes that a reshape reads in another order, in that order: an equation of its own."""
        if list(permutation) == sorted(permutation):
            return x
        out = Variable(x.aval.update(shape=tuple(x.shape[d] for d in permutation)))
        params = {"permutation": tuple(permutation)}
        self.equations.append(Equation(transpose_p, (x,), (out,), params, frozenset(), source, context))
        return out


def _inlined(eqn, names: frozenset[str]) -> Any:
    """The jaxpr of a call that means nothing but its body, else None."""
    if eqn.primitive.name not in names:
        return None
    return eqn.params.get("jaxpr") or eqn.params.get("call_jaxpr")


def body(equation: Equation) -> Program:
    """The program of a call's body."""
    return flatten(equation.params.get("jaxpr") or equation.params["call_jaxpr"])


def jaxprs_in(params: Mapping[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's params."""
    for value in params.values():
        yield from (v for v in (value if isinstance(value, (tuple, list)) else [value]) if hasattr(v, "eqns"))


def scan_split(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many behind them are carried; the rest is scanned over."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)
