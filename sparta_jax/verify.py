"""Verification: the rewritten program against the masked dense one, values and gradients, on real arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .interpreters import Facts, Program, Variable, bind, evaluate

NEGLIGIBLE = 1e-3  # of the whole gradient's norm; a smaller leaf is judged on that scale, for it may be nothing but round-off
DRAWS, ROUND_OFF = 8, 16  # of moved arguments, in units of their last place
TOLERANCE = {"float64": 1e-10, "float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}


@dataclasses.dataclass(frozen=True)
class Verification:
    """How far a sparsified function is from the masked dense program.

    Attributes:
      outputs: relative error of each output: norm of the difference over the norm.
      gradients: `(key path, relative error)` of the gradient in each floating-point argument, of a random projection of the
        outputs; relative to that gradient's norm, or to a thousandth of the whole one's where it is smaller than that; empty
        where it was not asked for.
      tolerance: the largest error that is right for the outputs' dtype.
      parted: the first variable at which the two programs differ by more, None where none does.
      unsteady: how far the masked program's own gradients go where its arguments move by round-off, measured where gradients
        differ by more than the tolerance: at a kink (of relu, max, abs, a sort), which round-off crosses, they jump.
    """

    outputs: tuple[float, ...]
    gradients: tuple[tuple[str, float], ...]
    tolerance: float
    parted: str | None
    unsteady: float = 0.0

    @property
    def error(self) -> float:
        """The largest of all."""
        return max((*self.outputs, *(e for _, e in self.gradients)), default=0.0)

    @property
    def ok(self) -> bool:
        worst = max((e for _, e in self.gradients), default=0.0)
        steady = worst <= max(self.tolerance, 2 * self.unsteady) < np.inf
        return max(self.outputs, default=0.0) <= self.tolerance and steady

    def __str__(self) -> str:
        verdict = "equal" if self.ok else "DIFFERENT"
        lines = [
            f"{verdict}: outputs within {max(self.outputs, default=0.0):.2e} of the masked program "
            f"(tolerance {self.tolerance:.0e})"
        ]
        if self.gradients:
            name, worst = max(self.gradients, key=lambda g: g[1])
            lines.append(f"gradients within {worst:.2e} (largest at {name})")
            if self.unsteady:
                lines.append(
                    f"the masked program's own gradients go {self.unsteady:.2e} where its arguments move by round-off"
                    + (": a kink lies there" if self.unsteady > self.tolerance else "")
                )
        if self.parted is not None:
            lines.append(f"they first part at {self.parted}")
        return "; ".join(lines)

    __repr__ = __str__


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """One step from a program to what runs in its place.

    Attributes:
      reference: the program before, an evaluation of equations one by one.
      facts: of its variables.
      run: what runs instead: `(inputs, watch)` to outputs; `watch(variable, view, value)` is told each value of a variable of
        `reference` and the index sets that are held of it (None: all).
    """

    reference: Program
    facts: Facts
    run: Callable[[Sequence[Any], Callable], Sequence[Any]]


def verify(
    stages: Sequence[Stage],
    masked: Callable[[Sequence[Any]], Sequence[Any]],
    leaves: Sequence[Any],
    names: Sequence[str],
    gradients: bool = True,
) -> Verification:
    """Compares the first stage's reference with the last stage's run.

    Args:
      stages: each one's run is the next one's reference; the inputs are the same.
      masked: the inputs of all, given the leaves.
      leaves: the flat arguments, whose key paths are `names`.
      gradients: whether these are compared too.
    """
    program = stages[0].reference
    sparse = lambda leaves: stages[-1].run(masked(leaves), _unwatched)
    dense = lambda leaves: evaluate(program, masked(leaves), bind)
    got, want = jax.jit(sparse)(leaves), jax.jit(dense)(leaves)
    floats = [i for i, v in enumerate(program.outputs) if jnp.issubdtype(v.aval.dtype, jnp.inexact)]
    tolerance = max((TOLERANCE.get(str(program.outputs[i].aval.dtype), 1e-5) for i in floats), default=0.0)
    outputs = tuple(relative_error(a, b) for a, b in zip(got, want, strict=True) if _comparable(a))
    errors, unsteady = _gradient_errors(sparse, dense, leaves, names, floats, tolerance) if gradients and floats else ((), 0.0)
    found = Verification(outputs, errors, tolerance, None, unsteady)
    if max(outputs, default=0.0) <= tolerance:
        return found
    parted = (_parted(stage, masked(leaves)) for stage in stages)
    return dataclasses.replace(found, parted=next((p for p in parted if p is not None), None))


def _unwatched(variable: Variable, kept: Any, value: Any) -> None:
    """Nobody watches."""


def _parted(stage: Stage, inputs: Sequence[Any]) -> str | None:
    """The first variable at which a stage's run differs from its reference, where it is live."""
    program, held = stage.reference, {}

    def watched(inputs):
        seen: dict[Variable, Any] = {}

        def watch(variable, kept, value):
            if _comparable(variable.aval):
                seen[variable], held[variable] = value, kept

        stage.run(inputs, watch)
        return [seen[v] for v in held]

    def reference(inputs):
        seen: dict[Variable, Any] = {}

        def step(equation, values):
            outs = bind(equation, values)
            seen.update(zip(equation.outputs, outs, strict=True))
            return outs

        evaluate(program, inputs, step)
        return [seen[v] for v in held]

    got = jax.jit(watched)(inputs)
    for v, a, b in zip(held, got, jax.jit(reference)(inputs), strict=True):
        part = lambda x, kept=held[v]: x if kept is None else np.asarray(x)[np.ix_(*kept)]
        live = part(stage.facts.live(v).elements())
        if relative_error(a, part(b), live) > TOLERANCE.get(str(v.aval.dtype), 1e-5):
            return _describe(program, v)
    return None


def relative_error(got: Any, want: Any, live: np.ndarray | None = None, least: float = 0.0) -> float:
    """`|got - want| / max(|want|, least)` (the norm of `got` where that is zero), over the live elements.

    NaN and infinity must agree."""
    wide = np.complex128 if jnp.issubdtype(jnp.result_type(want), jnp.complexfloating) else np.float64
    got, want = np.asarray(got).astype(wide), np.asarray(want).astype(wide)
    if live is not None:
        got, want = np.where(live, got, 0), np.where(live, want, 0)
    odd = ~np.isfinite(want)
    if not np.array_equal(got[odd], want[odd], equal_nan=True) or not np.isfinite(got[~odd]).all():
        return float("inf")
    scale = max(np.linalg.norm(want[~odd]), least if np.isfinite(least) else 0.0)
    return float(np.linalg.norm(got[~odd] - want[~odd]) / (scale if scale else 1.0))


def _gradient_errors(sparse, dense, leaves, names, floats, tolerance) -> tuple[tuple[tuple[str, float], ...], float]:
    """By key path; and how unsteady the dense gradient is, where these exceed the tolerance."""
    moving = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]

    def projected(run):
        def loss(values):
            full = list(leaves)
            for i, value in zip(moving, values, strict=True):
                full[i] = value
            out = run(full)
            keys = jax.random.split(jax.random.key(0), len(floats))
            return sum(
                jnp.vdot(jax.random.normal(k, jnp.shape(out[i])), jnp.real(out[i]).astype(jnp.float32))
                for k, i in zip(keys, floats, strict=True)
            )

        return jax.jit(jax.grad(loss))

    values, of_dense = [jnp.asarray(leaves[i]) for i in moving], projected(dense)
    got, want = projected(sparse)(values), of_dense(values)
    whole = NEGLIGIBLE * float(np.sqrt(sum(np.linalg.norm(np.asarray(g, np.float64)) ** 2 for g in want)))
    differ = lambda gradients: [relative_error(a, b, least=whole) for a, b in zip(gradients, want, strict=True)]
    errors = differ(got)
    unsteady = 0.0
    if not max(errors, default=0.0) <= tolerance:
        unsteady = max(
            max(differ(of_dense([_moved(v, 1000 * draw + i) for i, v in enumerate(values)]))) for draw in range(DRAWS)
        )
    return tuple((names[i], error) for i, error in zip(moving, errors, strict=True)), unsteady


def _moved(value: jax.Array, seed: int) -> jax.Array:
    """The value, each element moved by some units of its last place; of half precision, whose tolerance is wide, as it is."""
    precision = jnp.finfo(value.dtype)
    if precision.bits < 32:
        return value
    noise = jax.random.normal(jax.random.key(seed), value.shape, value.dtype)
    return value * (1 + ROUND_OFF * float(precision.eps) * noise)


def _comparable(value: Any) -> bool:
    return hasattr(value, "dtype") and not jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended)


def _describe(program: Program, variable: Variable) -> str:
    for equation in program.equations:
        if variable in equation.outputs:
            return f"{equation.name} {list(variable.shape)} in {equation.scope or 'the function'} ({equation.line})"
    return f"an input of shape {list(variable.shape)}"
