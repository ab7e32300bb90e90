"""The user's own derivative, kept by what stands in a custom derivative's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from ..jaxprs import Atom, Equation, Program, apply, trace


def with_derivative(primal: Callable, derivative: Callable, equation: Equation, values: Sequence) -> list:
    """`primal(*values)` with the first derivative `derivative(program, *values, *tangents)`.

    Args:
      primal: a function like the `custom_jvp_call` of `equation`, at shapes of its own.
      derivative: runs the program `jvp_program(equation)` at these shapes.
    """
    call = jax.custom_jvp(lambda *xs: tuple(primal(*xs)))

    @call.defjvp
    def call_jvp(primals, tangents):
        dots = moving(equation.inputs, tangents)
        results = list(derivative(jvp_program(equation), *primals, *dots))
        outs, dots = results[: len(equation.outputs)], iter(results[len(equation.outputs) :])
        zero = lambda out: np.zeros(np.shape(out), jax.dtypes.float0)
        tangents = [next(dots) if _is_inexact(v.aval) else zero(o) for o, v in zip(outs, equation.outputs, strict=True)]
        return tuple(outs), tuple(tangents)

    return list(call(*values))


def jvp_program(equation: Equation) -> Program:
    """`(*operands, *tangents) -> (*results, *tangents)` of a call, tangents of what has them alone."""
    structs = [jax.ShapeDtypeStruct(a.shape, a.aval.dtype) for a in equation.inputs]
    inexact = [i for i, a in enumerate(equation.inputs) if _is_inexact(a.aval)]

    def moved(operands, tangents):
        def call(*xs):
            given = dict(zip(inexact, xs, strict=True))
            return apply(equation, [given.get(i, x) for i, x in enumerate(operands)])

        outs, dots = jax.jvp(call, [operands[i] for i in inexact], tangents)
        return outs, moving(equation.outputs, dots)

    return trace(moved, structs, [structs[i] for i in inexact])[0]


def with_pullback(primal: Callable, pull: Callable, equation: Equation, values: Sequence) -> list:
    """`primal(*values)` with the cotangents `pull(program, *values, *cotangents)`.

    Args:
      primal: a function like the `custom_vjp_call` of `equation`, at shapes of its own.
      pull: runs the program `vjp_program(equation)` at these shapes.
    """
    call = jax.custom_vjp(lambda *xs: tuple(primal(*xs)))

    def backward(xs, cotangents):
        given = moving(equation.outputs, cotangents)
        found = iter(pull(vjp_program(equation), *xs, *given))
        return tuple(next(found) if _is_inexact(a.aval) else None for a in equation.inputs)

    call.defvjp(lambda *xs: (call(*xs), xs), backward)
    return list(call(*values))


def vjp_program(equation: Equation) -> Program:
    """`(*operands, *cotangents) -> cotangents` of a call, of what has tangents."""
    structs = [jax.ShapeDtypeStruct(a.shape, a.aval.dtype) for a in equation.inputs]
    inexact = [i for i, a in enumerate(equation.inputs) if _is_inexact(a.aval)]

    def pulled(operands, cotangents):
        def call(*xs):
            given = dict(zip(inexact, xs, strict=True))
            return apply(equation, [given.get(i, x) for i, x in enumerate(operands)])

        _, pull = jax.vjp(call, *(operands[i] for i in inexact))
        given = iter(cotangents)
        zero = lambda v: np.zeros(v.shape, jax.dtypes.float0)
        return pull([next(given) if _is_inexact(v.aval) else zero(v) for v in equation.outputs])

    outs = [jax.ShapeDtypeStruct(v.shape, v.aval.dtype) for v in equation.outputs if _is_inexact(v.aval)]
    return trace(pulled, structs, outs)[0]


def moving(atoms: Sequence[Atom], items: Sequence) -> list:
    """The items of the atoms that have tangents."""
    return [x for a, x in zip(atoms, items, strict=True) if _is_inexact(a.aval)]


def _is_inexact(aval) -> bool:
    return jax.dtypes.issubdtype(aval.dtype, np.inexact)
