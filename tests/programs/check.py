"""What must hold of a program: values, gradients, packed params, and the facts themselves."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import sparta_jax as sj
from sparta_jax.api import analysis as api_analysis
from sparta_jax.api.analysis import Analysis, Followed
from sparta_jax.formats.bsr import BSR
from sparta_jax.interpreters.compact import price
from sparta_jax.interpreters.facts import LIVE, ZERO
from sparta_jax.interpreters.jaxprs import bind, evaluate
from sparta_jax.products import apply_epilogue, primitives

from . import host
from .program import Program

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
NEGLIGIBLE = 1e-3  # of the largest norm among an output's or a gradient's parts; a smaller part is judged on that scale


@dataclasses.dataclass(frozen=True)
class Failure:
    """What does not hold, and by how much."""

    what: str
    error: float | str

    def __str__(self) -> str:
        return f"{self.what}: {self.error if isinstance(self.error, str) else f'{self.error:.1e}'}"


class Invalid(Exception):  # noqa: N818
    """The masked program itself is no reference: it raises, or is not finite."""


class Trial:
    """A program with values for its params and its data."""

    def __init__(
        self, program: Program, seed: int, dtype: str = "float32", on_host: bool = False, unroll: bool | None = None
    ) -> None:
        """Draws the values by `seed`; `on_host` computes in numpy, `unroll` is what is done with loops."""
        self.program, self.dtype, self.tolerance = program, dtype, TOLERANCE[dtype]
        self.on_host, self.unroll = on_host, unroll
        rng = np.random.default_rng(seed)
        draw = lambda items: [a.draw(rng, dtype) if on_host else jnp.asarray(a.draw(rng, dtype)) for a in items]
        self.params, self.data, self.other_data = draw(program.params), draw(program.data), draw(program.data)
        self.fn = program.fn()
        self.fast = sj.sparsify(self.fn, [None if p.mask is None else sj.TeSA(p.mask) for p in program.params], unroll=unroll)
        self.rng = rng

    def analysis(self, params: Any, inline_remat: bool = False, data: Sequence | None = None) -> Analysis:
        call = self.fast._signature.split((params, self.data if data is None else data), {})
        return Analysis.of(call, self.fast._chooser, inline_remat=inline_remat, unroll=self.unroll)

    def masked(self, params: Sequence[jax.Array]) -> list[jax.Array]:
        masks = (p.mask for p in self.program.params)
        where = lambda m, a: (np if isinstance(a, np.ndarray) else jnp).where(m, a, np.zeros((), a.dtype))
        return [a if m is None else where(m, a) for a, m in zip(params, masks, strict=True)]

    # -- what is compared

    def evaluated(self, run: Callable, derivatives: bool = True) -> list[list]:
        """The outputs of `run(params, float data)`, and perhaps its derivative (tangents where there is no reverse mode)."""
        floats = self._floats()
        rng = np.random.default_rng(7)
        draw = lambda like: jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), like)

        def both(params, floats):
            if not derivatives:
                return (run(params, floats),)
            if not self.program.reverse:
                return jax.jvp(run, (params, floats), (draw(params), draw(floats)))
            outs, pull = jax.vjp(run, params, floats)
            return outs, pull(draw(outs))

        parts = host.run(both, self.params, floats) if self.on_host else jax.jit(both)(self.params, floats)
        return [jax.tree.leaves(part) for part in parts]

    def _floats(self) -> list:
        return [x for x, d in zip(self.data, self.program.data, strict=True) if d.high is None]

    def with_data(self, floats: Sequence) -> list:
        rest = iter(floats)
        return [next(rest) if d.high is None else x for x, d in zip(self.data, self.program.data, strict=True)]

    def reference(self, derivatives: bool = True) -> list[list]:
        """Of the masked program.

        Raises:
          Invalid: if it raises, or is not finite.
        """
        try:
            want = self.evaluated(lambda p, floats: self.fn(self.masked(p), self.with_data(floats)), derivatives)
        except Exception as error:
            raise Invalid(f"{type(error).__name__}: {str(error)[:300]}") from None
        if not all(np.isfinite(a).all() for part in want for a in part):
            raise Invalid("not finite")
        return want

    # -- laws

    def check(self, packed: bool = False, facts: bool = True, derivatives: bool = True) -> Failure | None:
        """The first law that does not hold.

        Args:
          packed: whether packed params are tried too.
          facts: whether the facts themselves are tried.
          derivatives: whether derivatives are compared.

        Raises:
          Invalid: if the masked program raises, or is not finite.
        """
        want = self.reference(derivatives)
        try:
            analysis = self.analysis(self.params)
            fast = self.evaluated(lambda p, floats: analysis.run([*p, *self.with_data(floats)]), derivatives)
            failure = self._compare("sparsified", fast, want)
            if facts and failure is None:
                failure = self._facts(analysis, want, derivatives)
            if packed and failure is None:
                failure = self._packed(want)
            return failure
        except Exception as error:
            return Failure("raises", f"{type(error).__name__}: {str(error)[:300]}")

    def _compare(self, what: str, got: Sequence[Sequence], want: Sequence[Sequence]) -> Failure | None:
        for part, a, b in zip(("values", "derivatives"), got, want, strict=False):
            if (error := distance(a, b)) > self.tolerance:
                return Failure(f"{what} {part}", error)
        return None

    def _facts(self, analysis: Analysis, want: list[list], derivatives: bool) -> Failure | None:
        """Of the user's program, and of the compacted one."""
        followed = [analysis.source]
        if analysis.is_compacted:
            followed.append(Followed(analysis.rewritten.program, analysis.facts, analysis.origins))
        failures = (self._killed(f, want, derivatives) or self._constants(f) for f in followed)
        return next((f for f in failures if f is not None), None)

    def _killed(self, followed: Followed, want: list[list], derivatives: bool) -> Failure | None:
        """What is called zero becomes zero, what nobody needs becomes anything: nothing may move."""
        facts, program = followed.facts, followed.program
        garbage = np.random.default_rng(3)
        changes = {}
        for v in facts.values:
            need = facts.needs.get(v)
            if need is None or not jnp.issubdtype(getattr(v.aval, "dtype", np.int32), jnp.floating):
                continue
            zero = facts.value(v).value.elements() == ZERO
            dead = zero | ~need.elements()
            if dead.any():
                changes[v] = dead, np.where(zero, 0, garbage.normal(size=v.shape)).astype(v.aval.dtype)
        if not changes:
            return None
        by = (np if self.on_host and not derivatives else jnp).where
        change = lambda v, value: by(changes[v][0], changes[v][1], value) if v in changes else value
        compute = host.step if self.on_host and not derivatives else bind

        def run(p, floats):
            step = lambda e, operands: [change(v, y) for v, y in zip(e.outputs, compute(e, operands), strict=True)]
            values = [*self.masked(p), *self.with_data(floats)]
            return evaluate(program, [change(v, a) for v, a in zip(program.inputs, values, strict=True)], step)

        if derivatives:
            return self._compare("facts:", self.evaluated(run), want)
        return self._compare("facts:", [run(self.params, self._floats())], want[:1])

    def _constants(self, followed: Followed) -> Failure | None:
        """What is called constant does not change with the data."""
        facts, program = followed.facts, followed.program
        if all(facts.value(v).value.cells.min(initial=LIVE) == LIVE for e in program.equations for v in e.outputs):
            return None
        results = [v for e in program.equations for v in e.outputs]
        compute = host.step if self.on_host else bind

        def every(given):
            found: dict = {}

            def step(equation, operands):
                outs = compute(equation, operands)
                found.update(zip(equation.outputs, outs, strict=True))
                return outs

            evaluate(program, given, step)
            return [found[v] for v in results]

        run = every if self.on_host else jax.jit(every)
        seen = [
            dict(zip(results, run([*self.masked(self.params), *data]), strict=True)) for data in (self.data, self.other_data)
        ]
        for equation in program.equations:
            for v in equation.outputs:
                constant = facts.value(v).value.elements() != LIVE
                if jax.dtypes.issubdtype(v.aval.dtype, jax.dtypes.extended) or not constant.any():
                    continue
                a, b = (np.where(constant, np.asarray(values[v]), 0) for values in seen)
                if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                    return Failure("constants", f"a result of {equation.name} of shape {v.shape} changes with the data")
        return None

    def _packed(self, want: list[list]) -> Failure | None:
        with _prologue_on_host() if self.on_host else contextlib.nullcontext():
            tree = self.fast.pack(self.params, self.data)

        def run(tree, data):
            analysis = self.analysis(tree, inline_remat=True, data=data)
            return analysis.run_packed(analysis.call.packed, analysis.call.leaves)

        out = host.run(run, tree, self.data) if self.on_host else jax.jit(run)(tree, self.data)
        return self._compare("packed", [jax.tree.leaves(out)], want[:1])


def distance(got: Sequence, want: Sequence) -> float:
    """The largest relative error: norm of the difference over the norm."""
    got, want = ([np.asarray(a, np.float64) for a in side] for side in (got, want))
    whole = max((np.linalg.norm(b) for b in want), default=0.0)
    least = max(NEGLIGIBLE * whole, 1e-6)
    return max(
        (float(np.linalg.norm(a - b) / max(np.linalg.norm(b), least)) for a, b in zip(got, want, strict=True)), default=0.0
    )


@contextlib.contextmanager
def _prologue_on_host() -> Iterator[None]:
    """What `pack` jits is traced and run in numpy."""
    jit = jax.jit
    on_host = lambda fn, **options: partial(host.run, fn) if fn.__name__ == "prologue" else jit(fn, **options)
    with mock.patch.object(jax, "jit", on_host):
        yield


@contextlib.contextmanager
def always_compacting(moving: bool = True) -> Iterator[None]:
    """Dead slices are left out whether that pays or not: of tiny programs it never does.

    With `moving` also where values must be gathered for it."""
    moved = 0.0 if moving else price.MOVED
    with mock.patch.object(api_analysis, "pays", return_value=True), mock.patch.object(price, "MOVED", moved):
        yield


@contextlib.contextmanager
def plain_products() -> Iterator[None]:
    """Products run as their own definition: an eager call of a product compiles one kernel per pattern."""
    with mock.patch.object(primitives, "bind", _bind):
        yield


def _bind(primitive, product, x, *operands) -> jax.Array:
    assert primitive is not primitives.sddmm_p
    weight = product.weight(operands[0], operands[1 : 1 + product.tables])
    dense = weight.to_dense() if isinstance(weight, BSR) else weight
    dense = jnp.where(product.pattern.mask, dense, jnp.zeros((), dense.dtype))
    y = jnp.matmul(x, dense.T if product.transposed else dense).astype(product.out_dtype)
    return apply_epilogue(product.epilogue, y, *operands[1 + product.tables :])
