"""Evaluation of a program with its sites handed to sparse products."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..fused import FeedForward, fused
from ..problem import DENSE, Epilogue, Layout, Planner
from ..products import Product, apply_epilogue, spmm, spmm_epilogue
from ..stored import Stored, arrays_of
from ..tesa import TeSA
from .fusions import Fusion, find_fusions
from .inner import Body, bodies_of, emit
from .jaxprs import Atom, Constant, Equation, Program, Variable, bind, located, read
from .mlps import Mlp, apart, find_mlps
from .poles import off_poles, partly_needed
from .propagate import Facts, propagate
from .scores import Freedom
from .sites import Site, Unmatched, find_sites
from .stage import Origins, Step, demanded, fixed_variables, inputs_with_weights, steps_of
from .unroll import Loop, unrolled


class Weight(NamedTuple):
    """A weight as a site is given it.

    Attributes:
      layout: how it is stored.
      values: the weight `[k, n]`.
      pattern: what is live of it; None: what is live at the site.
      transposed: whether it is stored as `[n, k]`.
    """

    layout: Layout
    values: Stored
    pattern: TeSA | None = None
    transposed: bool = False


def rewrite(
    program: Program, facts: Facts, fixed: Set[Variable], planner: Planner, unroll: bool | None = None
) -> tuple[Rewritten, list[Unmatched]]:
    """The program with its sparse products found, also inside loops, branches and what is marked for rematerialisation, and
    the sparse products that stay dense (those inside are in `Inner`)."""
    sites, unmatched = find_sites(program, facts, fixed)
    inner = {}
    for equation in program.equations:
        if bodies := bodies_of(equation, facts):
            inner[equation] = tuple(_inner(body, fixed, planner, unroll, facts.freedom) for body in bodies)
    zeros, partly = dead_variables(program, facts), partly_needed(program, facts)
    found = Rewritten(program, tuple(sites), zeros, planner, inner, partly)
    if not found.changed:
        return found, unmatched
    taken = {*inner, *partly, *(e for site in sites for e in site.covered)}
    mlps = [mlp for mlp in find_mlps(program, sites, zeros) if partly.keys().isdisjoint(mlp.inside)]
    return dataclasses.replace(found, fusions=tuple(find_fusions(program, taken, fixed)), mlps=tuple(mlps)), unmatched


def _inner(body: Body, fixed: Set[Variable], planner: Planner, unroll: bool | None, freedom: Freedom | None) -> Inner:
    params, counters = body.fixed_inputs(fixed), _counters(body, fixed)
    program, loops = unrolled(body.program, body.inputs, params, unroll)
    facts = propagate(program, body.inputs, body.outputs, freedom)
    rewritten, unmatched = rewrite(program, facts, fixed_variables(program, params | counters), planner, unroll)
    changed = program is not body.program or rewritten.changed
    return Inner(rewritten, facts, body.outside, counters, body.times, tuple(unmatched), tuple(loops), changed)


def _counters(body: Body, fixed: Set[Variable]) -> frozenset[Variable]:
    """The inputs that a loop carries and that depend on nothing but what is fixed, and on the iteration."""
    counters = frozenset(v for v, (start, _) in body.carried.items() if isinstance(start, Constant) or start in fixed)
    while True:
        inside = fixed_variables(body.program, body.fixed_inputs(fixed) | counters)
        left = frozenset(v for v in counters if isinstance(out := body.carried[v][1], Constant) or out in inside)
        if left == counters:
            return counters
        counters = left


def dead_variables(program: Program, facts: Facts) -> frozenset[Variable]:
    """The results of which no element is both nonzero and needed: zeros are written down, nothing is computed."""
    plain = lambda v: not jax.dtypes.issubdtype(v.aval.dtype, jax.dtypes.extended)
    outs = (v for e in program.equations if not e.effects for v in e.outputs if hasattr(v.aval, "dtype") and plain(v))
    return frozenset(v for v in outs if not facts.live(v).cells.any())


@dataclasses.dataclass(frozen=True, eq=False)
class Rewritten:
    """A program with its sites.

    Attributes:
      program: the program.
      sites: its sparse products.
      zeros: results that are dead everywhere.
      planner: who chooses the kernels.
      inner: the programs inside its equations.
      partly: which elements are needed of results that are not finite everywhere.
      fusions: its fused operations; none where nothing else is changed.
      mlps: sites one behind the other, which may be computed as one.
    """

    program: Program
    sites: tuple[Site, ...]
    zeros: frozenset[Variable]
    planner: Planner
    inner: Mapping[Equation, tuple[Inner, ...]] = dataclasses.field(default_factory=dict)
    partly: Mapping[Equation, np.ndarray] = dataclasses.field(default_factory=dict)
    fusions: tuple[Fusion, ...] = ()
    mlps: tuple[Mlp, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything in it is computed otherwise than by its equations."""
        return bool(self.sites or self.zeros) or any(b.changed for bodies in self.inner.values() for b in bodies)

    @property
    def steps(self) -> list[Step]:
        """Its equations in order, each site and each fused operation in the place of those that it covers."""
        return steps_of(self.program, (*self.sites, *self.fusions))

    def run(
        self,
        given: Mapping[Variable, Any],
        weights: Mapping[Site, Sequence[Weight]] | None = None,
        targets: Sequence[Any] | None = None,
        watch: Callable[[Variable, Any], None] | None = None,
        effects: bool = True,
    ) -> list:
        """The values of `targets` (the outputs, unless told).

        Args:
          given: values of the inputs, and of any other variables that need not be computed.
          weights: the weights of sites, one per batch element, where they are not to be computed from `given`.
          targets: variables and constants.
          watch: called with every variable that is computed.
          effects: whether equations with effects are run even where no target needs them.
        """
        targets = self.program.outputs if targets is None else targets
        env: dict[Variable, Any] = {**self.program.constants, **given}
        for v in self.zeros:
            env.setdefault(v, _Zeros)
        weights = weights or {}
        mlps = {} if watch is not None else {mlp.down: mlp for mlp in self._mlps(weights, {*env, *targets})}
        inside = {step for mlp in mlps.values() for step in mlp.inside}
        for step in demanded(self.steps, targets, env.keys(), _inputs_but(weights), effects):
            if step in inside:
                continue
            if step in mlps:
                values = [self._mlp(mlps[step], env, weights)]
            elif isinstance(step, Site):
                values = [self._site(step, env, weights.get(step))]
            elif isinstance(step, Fusion):
                values = [self._fusion(step, [_read(env, v) for v in step.inputs])]
            else:
                values = self._equation(step, [_read(env, v) for v in step.inputs])
            for variable, value in zip(step.outputs, values, strict=True):
                env[variable] = value
                if watch is not None:
                    watch(variable, value)
        return [_read(env, v) for v in targets]

    def reads(self, weights: Mapping[Site, Sequence[Weight]]) -> frozenset[Variable]:
        """The inputs that the outputs need where these weights are given."""
        known, inputs_of = {*self.program.constants, *self.zeros}, _inputs_but(weights)
        steps = demanded(self.steps, self.program.outputs, known, inputs_of)
        return frozenset(self.program.inputs) & {*self.program.outputs, *(v for step in steps for v in inputs_of(step))}

    def _equation(self, equation: Equation, values: list) -> Sequence:
        bodies = self.inner.get(equation, ())
        if equation in self.partly:
            values = off_poles(equation, self.partly[equation], values)
        if not any(b.changed for b in bodies):
            return bind(equation, values)
        with located(equation):
            return emit(equation, [b.rewritten.call for b in bodies], values)

    def call(self, *args: Any) -> list:
        """The outputs for these inputs."""
        return self.run(dict(zip(self.program.inputs, args, strict=True)))

    def _fusion(self, fusion: Fusion, values: list) -> jax.Array:
        with located(fusion.equation):
            return fused(fusion.operation, self.planner, *values)

    def _site(self, site: Site, env: dict[Variable, Any], weights: Sequence[Weight] | None) -> jax.Array:
        normal, x = site.normal, _read(env, site.x)
        extras = [_read(env, v) for v in site.extras]
        with located(site.equation):
            if weights is None:
                dense = normal.w(_read(env, site.weight))
                weights = [Weight(DENSE, dense[b]) for b in range(len(site.patterns))]
            x = normal.x(jnp.asarray(x))
            if not normal.batch:
                y = self._product(site, 0, x, weights[0], _flat(site, extras))
            else:
                xs = x.reshape(-1, *normal.rows, normal.k)
                y = jnp.stack([self._product(site, b, xs[b], w, []) for b, w in enumerate(weights)])
            return normal.y(y)

    def _mlps(self, weights: Mapping[Site, Sequence[Weight]], wanted: Set[Any]) -> list[Mlp]:
        """Those that are computed as one: nothing inside is given or `wanted`."""
        hidden = [mlp for mlp in self.mlps if wanted.isdisjoint(v for step in mlp.inside for v in step.outputs)]
        stored = {site: given[0] for site, given in weights.items() if given}
        return apart(hidden, {site: weight.layout for site, weight in stored.items() if not weight.transposed})

    def _mlp(self, mlp: Mlp, env: dict[Variable, Any], weights: Mapping[Site, Sequence[Weight]]) -> jax.Array:
        given = [weights[site][0] for site in mlp.sites]
        up, *gate, down = (self._form(site, 0, weight) for site, weight in zip(mlp.sites, given, strict=True))
        with located(mlp.down.equation):
            operands = [mlp.up.normal.x(jnp.asarray(_read(env, mlp.up.x)))]
            for site, weight in zip(mlp.sites, given, strict=True):
                operands += [*arrays_of(weight.values), *_flat(site, [_read(env, v) for v in site.extras])]
            y = fused(FeedForward(up, gate[0] if gate else None, down), self.planner, *operands)
            return mlp.down.normal.y(y)

    def _product(self, site: Site, index: int, x: jax.Array, weight: Weight, extras: list[jax.Array]) -> jax.Array:
        product = self._form(site, index, weight)
        if weight.transposed:
            return apply_epilogue(site.epilogue, spmm(product, x, weight.values), *extras)
        return (spmm_epilogue if product.epilogue else spmm)(product, x, weight.values, *extras)

    def _form(self, site: Site, index: int, weight: Weight) -> Product:
        """The static half of a site's product; with its epilogue, which a transposed one has none of."""
        pattern = site.patterns[index] if weight.pattern is None else weight.pattern
        epilogue = Epilogue() if weight.transposed else site.epilogue
        return Product(pattern, weight.layout, self.planner, site.out_dtype, site.precision, weight.transposed, epilogue)


@dataclasses.dataclass(frozen=True, eq=False)
class Inner:
    """A program inside an equation, rewritten.

    Attributes:
      rewritten: the program.
      facts: of its variables, in all iterations.
      outside: what each of its inputs is outside, see `Body`.
      counters: its inputs that depend on nothing but that and on the iteration.
      times: how often it is run.
      unmatched: its sparse products that stay dense.
      loops: what became of its loops over sparse stacked weights.
      changed: whether anything in it is computed otherwise.
    """

    rewritten: Rewritten
    facts: Facts
    outside: Sequence[Atom | None]
    counters: frozenset[Variable]
    times: int
    unmatched: tuple[Unmatched, ...]
    loops: tuple[Loop, ...]
    changed: bool

    def origins(self, outer: Origins) -> Origins:
        """How its variables derive from the params, given how those outside do."""
        program = self.rewritten.program
        names, constants = {}, {**program.constants, **dict.fromkeys(self.counters, np.zeros(()))}
        for v, o in zip(program.inputs, self.outside, strict=True):
            if isinstance(o, Variable) and o in outer.fixed and outer.sources(o):
                names[v] = ", ".join(outer.sources(o))
            elif isinstance(o, Constant) or o in outer.fixed:
                constants[v] = np.zeros(())
        return Origins.of(dataclasses.replace(program, constants=constants), names)


def _inputs_but(weights: Mapping[Site, Sequence[Weight]]) -> Callable[[Step], Sequence[Atom]]:
    """What a step reads, but for weights that are given."""
    return lambda step: step.inputs if step in weights else inputs_with_weights(step)


def _flat(site: Site, extras: list[jax.Array]) -> list[jax.Array]:
    """The epilogue's operands in the product's own shape: scale and bias `[n]`, residual `[*rows, n]`."""
    rest, out = list(extras), []
    if site.epilogue.scale:
        out.append(jnp.broadcast_to(jnp.ravel(rest.pop(0)), (site.normal.n,)))
    if site.epilogue.bias:
        out.append(jnp.reshape(rest.pop(0), (site.normal.n,)))
    if site.epilogue.residual:
        out.append(jnp.reshape(rest.pop(0), (*site.normal.rows, site.normal.n)))
    return out


class _Zeros:
    """Stands in an environment for a value that is dead everywhere and not written down yet."""


def _read(env: dict[Variable, Any], atom) -> Any:
    value = read(env, atom)
    if value is _Zeros:
        value = env[atom] = jnp.zeros(atom.shape, atom.aval.dtype)
    return value
