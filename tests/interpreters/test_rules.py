"""Every rule keeps TeSA's promise: kill what the rules call dead, in every variable at once, and no live output moves."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreters.cases import CASES, DERIVED
from jax.extend.core import primitives as p

from sparta_jax.grid import Grid
from sparta_jax.interpreters.facts import CONST, LIVE, ZERO, Fact
from sparta_jax.interpreters.jaxprs import Constant, bind, evaluate, trace
from sparta_jax.interpreters.propagate import propagate
from sparta_jax.interpreters.registry import backward, backward_rules, forward, forward_rules

KINDS = ["element", "channel", "channel", "block", "dead", "live", "const, const, live", "const, live, const", "live, const"]
SOME = [0, 1, 3, 7, 8]  # of KINDS; the others are drawn by `make test-full`
DRAWS = [
    pytest.param(SOME, id="some"),
    pytest.param([i for i in range(len(KINDS)) if i not in SOME], id="others", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("name", CASES)
def test_dead_elements_may_die(name, draws):
    for seed, kind in ((i, KINDS[i]) for i in draws):
        trial = Trial(name, seed, kind)
        expected, values = trial.run(trial.draw())
        for variable, value in values.items():
            claimed = value[trial.cells(variable) == ZERO]
            assert ((claimed == 0) | np.isnan(claimed)).all(), f"{kind}: a zero is {claimed}"
        for kill in (trial.kill, trial.garble):
            got, _ = trial.run(trial.draw(), kill)
            for g, e, need, zero in zip(got, expected, trial.needs, trial.zero_outputs(), strict=True):
                wanted = need.elements() & ~zero
                np.testing.assert_allclose(g[wanted], e[wanted], rtol=1e-5, atol=1e-6, err_msg=f"{kind} {kill.__name__}")


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("name", CASES)
def test_constants_do_not_depend_on_data(name, draws):
    for seed, kind in ((i, KINDS[i]) for i in draws):
        trial = Trial(name, seed, kind)
        _, values = trial.run(trial.draw(data=1))
        _, others = trial.run(trial.draw(data=2))
        for variable, value in values.items():
            constant = trial.cells(variable) != LIVE
            np.testing.assert_array_equal(value[constant], others[variable][constant], err_msg=kind)


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("name", DERIVED)
def test_derivatives_are_those_of_the_masked_program(name, draws):
    """A call with a custom derivative keeps what its derivative needs; so does everything else."""
    program = trace_case(name)[0]

    def gradient(args, cotangents, masks, fills, needs):
        steps = dict(zip(variables, zip(masks, fills, strict=True), strict=True))
        kill = lambda v, value: jnp.where(steps[v][0], steps[v][1], value) if v in steps else value
        step = lambda equation, values: [kill(v, y) for v, y in zip(equation.outputs, bind(equation, values), strict=True)]
        floating = [i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating)]

        def scalar(*inexact):
            given = list(args)
            for i, x in zip(floating, inexact, strict=True):
                given[i] = x
            outs = evaluate(program, [kill(v, x) for v, x in zip(program.inputs, given, strict=True)], step)
            weighted = (jnp.where(n, o * c, 0) for o, c, n in zip(outs, cotangents, needs, strict=True) if is_floating(o))
            return sum((w.sum() for w in weighted), start=jnp.float32(0))

        return jax.grad(scalar, tuple(range(len(floating))))(*(args[i] for i in floating))

    gradient = jax.jit(gradient)
    variables = Trial(name, 0, "live").variables
    for seed, kind in ((i, KINDS[i]) for i in draws):
        trial = Trial(name, seed, kind)
        cotangents = [trial.rng("cotangent").normal(size=v.shape).astype(np.float32) for v in program.outputs]
        needs = [n.elements() for n in trial.needs]
        masked = [(trial.cells(v) == ZERO) & (v in program.inputs) for v in variables]
        expected = gradient(trial.draw(), cotangents, masked, [np.zeros((), v.aval.dtype) for v in variables], needs)
        masks = [trial.dead(v) for v in variables]
        fills = [np.where(trial.cells(v) == ZERO, 0, 0.7).astype(v.aval.dtype) for v in variables]
        got = gradient(trial.draw(), cotangents, masks, fills, needs)
        for g, e in zip(got, expected, strict=True):
            finite = np.isfinite(e)
            scale = np.abs(e[finite]).max(initial=1)
            np.testing.assert_allclose(g[finite], e[finite], rtol=0, atol=1e-5 * scale, err_msg=kind)


def test_every_rule_has_a_case():
    absent = {n for n in ("log2", "one_minus_square", "polynomial") if not hasattr(p, f"{n}_p")}
    absent |= {"pvary", "pcast"}  # inside `shard_map` alone: tests/api/test_sharding.py
    hit = {e.name for name in CASES for e in trace_case(name)[0].equations}
    assert forward_rules.keys() - hit == absent


def test_tables_are_paired():
    assert forward_rules.keys() == backward_rules.keys()


@pytest.mark.parametrize("register", [forward, backward])
def test_a_primitive_has_one_rule(register):
    with pytest.raises(ValueError, match="dot_general already has a rule"):
        register(p.dot_general_p)(lambda *_: None)


class Trial:
    """A case with drawn facts of its operands and needs of its outputs."""

    def __init__(self, name: str, seed: int, kind: str):
        self.seed = zlib.crc32(f"{name} {seed}".encode())
        self.program, self.operands = trace_case(name)
        facts = self.rng("facts")
        first, *_ = kinds = kind.split(", ")
        self.inputs = [draw_cells(facts, o.shape, kinds[min(i, len(kinds) - 1)]) for i, o in enumerate(self.operands)]
        needs = self.rng("needs")
        wanted = "live" if first == "dead" else first
        self.needs = [Grid.of_elements(draw_cells(needs, v.shape, wanted) != ZERO) for v in self.program.outputs]
        self.facts = propagate(self.program, [Fact(Grid.of_elements(c)) for c in self.inputs], self.needs)
        plain = lambda v: v.aval.dtype != jax.dtypes.float0 and not jax.dtypes.issubdtype(v.aval.dtype, jax.dtypes.extended)
        results = (v for e in self.program.equations for v in e.outputs)
        self.variables = [v for v in (*self.program.inputs, *results) if plain(v)]

    def rng(self, what: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(what.encode())])

    def draw(self, data: int = 0) -> list[np.ndarray]:
        """The operands: zero where they are called so, the same whatever `data` where they are constants."""
        fixed, fresh = self.rng("constants"), self.rng(f"data {data}")
        draws = [(o.draw(fixed), o.draw(fresh)) for o in self.operands]
        return [
            np.select([c == ZERO, c == CONST], [np.zeros_like(a), a], b) for c, (a, b) in zip(self.inputs, draws, strict=True)
        ]

    def cells(self, variable) -> np.ndarray:
        return self.facts.values[variable].value.elements()

    def dead(self, variable) -> np.ndarray:
        return ~self.facts.live(variable).elements()

    def zero_outputs(self) -> list[np.ndarray]:
        return [self.facts.value(v).value.elements() == ZERO for v in self.program.outputs]

    def kill(self, variable, value):
        """Zero where the variable is dead."""
        return np.where(self.dead(variable), np.zeros((), value.dtype), value)

    def garble(self, variable, value):
        """Anything where nobody needs the variable, unless it is zero."""
        unneeded = self.dead(variable) & (self.cells(variable) != ZERO)
        anything = np.random.default_rng(self.seed).normal(size=value.shape) * 3
        return np.where(unneeded, anything.astype(value.dtype), value)

    def run(self, args, change=lambda variable, value: value):
        """The outputs and the values of all variables, each changed by `change` as soon as it is there."""
        values = {}

        def changed(variable, value):
            if variable not in plain:
                return value
            values[variable] = np.asarray(change(variable, np.asarray(value)))
            return jnp.asarray(values[variable])

        def step(equation, operands):
            return [changed(v, y) for v, y in zip(equation.outputs, bind(equation, operands), strict=True)]

        plain = set(self.variables)
        inputs = [changed(v, x) for v, x in zip(self.program.inputs, args, strict=True)]
        return [np.asarray(y) for y in evaluate(self.program, inputs, step)], values


def draw_cells(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """`ZERO`, `CONST` and `LIVE`, drawn per element, per slice of one axis, per 2x2 block, or one for all."""
    if kind in ("dead", "const", "live"):
        return np.full(shape, {"dead": ZERO, "const": CONST, "live": LIVE}[kind])
    draw = lambda size: rng.choice([ZERO, CONST, LIVE], size, p=[0.5, 0.2, 0.3]).astype(np.uint8)
    if kind == "element" or not shape:
        return draw(shape)
    if kind == "channel":
        axis = rng.integers(len(shape))
        return np.broadcast_to(draw([n if d == axis else 1 for d, n in enumerate(shape)]), shape)
    cells = draw([-(-n // 2) for n in shape])
    for axis, n in enumerate(shape):
        cells = np.take(cells, np.arange(n) // 2, axis)
    return cells


@functools.cache
def trace_case(name: str):
    fn, operands = CASES[name]
    return trace(fn, *(jax.ShapeDtypeStruct(o.shape, o.dtype) for o in operands))[0], operands


def is_floating(x) -> bool:
    return not isinstance(x, Constant) and jnp.issubdtype(x.dtype, jnp.floating)
