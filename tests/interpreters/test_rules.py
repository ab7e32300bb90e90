"""Every rule keeps TeSA's promise: kill what the rules call dead, in every variable at once, and no live output moves."""

import functools
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import batches, of_case, together
from interpreters.cases import CASES, DERIVED
from jax.extend.core import primitives as p

from sparta_jax.grid import Grid
from sparta_jax.interpreters.facts import CONST, LIVE, ZERO, Fact
from sparta_jax.interpreters.jaxprs import Program, bind, evaluate, trace
from sparta_jax.interpreters.propagate import propagate
from sparta_jax.interpreters.registry import backward, backward_rules, forward, forward_rules

KINDS = ["element", "channel", "channel", "block", "dead", "live", "const, const, live", "const, live, const", "live, const"]
SOME = [0, 1, 3, 7, 8]  # of KINDS; the others are drawn by `make test-full`
DRAWS = [
    pytest.param(SOME, id="some"),
    pytest.param([i for i in range(len(KINDS)) if i not in SOME], id="others", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("names", batches(CASES))
def test_dead_elements_may_die(names, draws):
    for seed, kind in ((i, KINDS[i]) for i in draws):
        trials = [Trial(name, seed, kind) for name in names]
        plain = run(trials)
        for trial, (_, values) in zip(trials, plain, strict=True):
            with of_case(trial.name):
                for variable, value in values.items():
                    claimed = value[trial.cells(variable) == ZERO]
                    assert ((claimed == 0) | np.isnan(claimed)).all(), f"{kind}: a zero is {claimed}"
        for change in (Trial.kill, Trial.garble):
            for trial, (got, _), (expected, _) in zip(trials, run(trials, change), plain, strict=True):
                with of_case(trial.name):
                    for g, e, need, zero in zip(got, expected, trial.needs, trial.zero_outputs(), strict=True):
                        wanted = need.elements() & ~zero
                        message = f"{kind} {change.__name__}"
                        np.testing.assert_allclose(g[wanted], e[wanted], rtol=1e-5, atol=1e-6, err_msg=message)


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("names", batches(CASES))
def test_constants_do_not_depend_on_data(names, draws):
    for seed, kind in ((i, KINDS[i]) for i in draws):
        trials = [Trial(name, seed, kind) for name in names]
        for trial, (_, values), (_, others) in zip(trials, run(trials, data=1), run(trials, data=2), strict=True):
            with of_case(trial.name):
                for variable, value in values.items():
                    constant = trial.cells(variable) != LIVE
                    np.testing.assert_array_equal(value[constant], others[variable][constant], err_msg=kind)


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("names", batches(DERIVED))
def test_derivatives_are_those_of_the_masked_program(names, draws):
    """A call with a custom derivative keeps what its derivative needs; so does everything else."""
    for seed, kind in ((i, KINDS[i]) for i in draws):
        trials = [Trial(name, seed, kind) for name in names]
        gradients = [gradients_of(trials, change) for change in (Trial.spoil, Trial.mask)]
        for trial, got, expected in zip(trials, *gradients, strict=True):
            with of_case(trial.name):
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
        self.name, self.seed = name, zlib.crc32(f"{name} {seed}".encode())
        self.program, self.operands = trace_case(name)
        facts = self.rng("facts")
        first, *_ = kinds = kind.split(", ")
        self.inputs = [draw_cells(facts, o.shape, kinds[min(i, len(kinds) - 1)]) for i, o in enumerate(self.operands)]
        needs = self.rng("needs")
        wanted = "live" if first == "dead" else first
        self.needs = [Grid.of_elements(draw_cells(needs, v.shape, wanted) != ZERO) for v in self.program.outputs]
        self.facts = propagate(self.program, [Fact(Grid.of_elements(c)) for c in self.inputs], self.needs)
        self.variables = variables_of(self.program)

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

    def keep(self, variable):
        """Nothing is changed."""
        return np.zeros(variable.shape, bool), 0

    def kill(self, variable):
        """Zero where the variable is dead."""
        return self.dead(variable), 0

    def mask(self, variable):
        """Zero where an operand is."""
        return (self.cells(variable) == ZERO) & (variable in self.program.inputs), 0

    def garble(self, variable):
        """Anything where nobody needs the variable, unless it is zero."""
        unneeded = self.dead(variable) & (self.cells(variable) != ZERO)
        return unneeded, np.random.default_rng(self.seed).normal(size=variable.shape) * 3

    def spoil(self, variable):
        """Zero where the variable is, another number where nobody needs it."""
        return self.dead(variable), np.where(self.cells(variable) == ZERO, 0, 0.7)

    def changes(self, change) -> list:
        """Per variable, where it is changed and to what."""
        filled = lambda variable, mask, fill: (mask, np.broadcast_to(fill, mask.shape).astype(variable.aval.dtype))
        return [filled(v, *change(v)) for v in self.variables]


def run(trials: list[Trial], change=Trial.keep, data: int = 0) -> list:
    """Per trial the outputs and the values of all variables, each changed by `change` as soon as it is there."""
    given = [(t.draw(data), t.changes(partial(change, t))) for t in trials]
    results = jax.device_get(compiled(changed, trials)(given))
    return [(outs, dict(zip(t.variables, values, strict=True))) for t, (outs, values) in zip(trials, results, strict=True)]


def gradients_of(trials: list[Trial], change) -> list:
    """Per trial the gradients of a weighted sum of its outputs where they are needed, each variable changed by `change`."""
    draw = lambda t: [t.rng("cotangent").normal(size=v.shape).astype(np.float32) for v in t.program.outputs]
    needs = lambda t: [n.elements() for n in t.needs]
    given = [(t.draw(), t.changes(partial(change, t)), draw(t), needs(t)) for t in trials]
    return jax.device_get(compiled(gradient, trials)(given))


def compiled(fn, trials: list[Trial]):
    return compiled_cases(fn, tuple(t.name for t in trials))


@functools.cache
def compiled_cases(fn, names: tuple[str, ...]):
    """`fn` of each case, whose facts are among the arguments: one program serves all trials."""
    return together({name: partial(fn, name) for name in names}, optimized=False)


def changed(name: str, args: list, changes: list) -> tuple[list, list]:
    """The outputs of a case and the values of its variables, each filled where its mask says as soon as it is there."""
    program, _ = trace_case(name)
    fills, values = dict(zip(variables_of(program), changes, strict=True)), {}

    def filled(variable, value):
        if variable not in fills:
            return value
        values[variable] = jnp.where(*fills[variable], value)
        return values[variable]

    def step(equation, operands):
        return [filled(v, y) for v, y in zip(equation.outputs, bind(equation, operands), strict=True)]

    inputs = [filled(v, x) for v, x in zip(program.inputs, args, strict=True)]
    return evaluate(program, inputs, step), list(values.values())


def gradient(name: str, args: list, changes: list, cotangents: list, needs: list) -> list:
    floating = [i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating)]

    def scalar(inexact):
        given = list(args)
        for i, x in zip(floating, inexact, strict=True):
            given[i] = x
        outs, _ = changed(name, given, changes)
        weighted = (jnp.where(n, o * c, 0) for o, c, n in zip(outs, cotangents, needs, strict=True) if is_floating(o))
        return sum((w.sum() for w in weighted), start=jnp.float32(0))

    return jax.grad(scalar)([args[i] for i in floating])


@functools.cache
def variables_of(program: Program) -> list:
    """The variables that hold numbers, in the order of their definition."""
    plain = lambda v: v.aval.dtype != jax.dtypes.float0 and not jax.dtypes.issubdtype(v.aval.dtype, jax.dtypes.extended)
    results = (v for e in program.equations for v in e.outputs)
    return [v for v in (*program.inputs, *results) if plain(v)]


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
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)
