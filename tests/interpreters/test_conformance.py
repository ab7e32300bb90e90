"""JAX's own table of uses of its primitives: each keeps its meaning, with masks on its inputs and without."""

import collections
import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from batches import batches, of_case

from sparta_jax import sparsify
from sparta_jax.interpreters.jaxprs import INLINED, flatten, trace
from sparta_jax.interpreters.registry import backward_rules, forward_rules
from sparta_jax.interpreters.rules import DENSE_IS_EXACT

table = pytest.importorskip(
    "jax._src.internal_test_util.test_harnesses", reason="this JAX carries no table of uses", exc_type=ImportError
)
pytestmark = pytest.mark.filterwarnings("ignore")  # the table's functions ask for types that JAX warns of

LOOKED_AT, PER_GROUP, SMALL, TOGETHER = 9, 2, 20_000, 8
COSTLY = {"igamma", "igammac", "random_categorical", "random_gamma", "regularized_incomplete_beta"}  # seconds to compile
KINDS = "element", "block", "channel"


def groups() -> dict[str, list]:
    """The uses that JAX supports on a CPU, by primitive."""
    found = collections.defaultdict(list)
    for use in table.all_harnesses:
        if use.filter("cpu"):
            found[use.group_name].append(use)
    return found


def some(uses: list) -> list:
    """A few of a group, spread over it: small, without 64-bit types, with arrays to mask if there are any."""
    able = [u for u in spread([u for u in uses if not is_wide(u)], LOOKED_AT) if sum(map(np.size, arguments(u))) <= SMALL]
    able = [u for u in able if maskable(arguments(u))] or able
    return spread(able, 1 if uses[0].group_name in COSTLY else PER_GROUP)


def spread(items: list, count: int) -> list:
    return [items[i] for i in sorted({round(i) for i in np.linspace(0, len(items) - 1, count)})] if items else []


def is_wide(use) -> bool:
    return np.dtype(use.dtype).name in ("float64", "int64", "uint64", "complex128")


def arguments(use) -> list:
    return list(use.dyn_args_maker(np.random.RandomState(seed(use.fullname))))


def seed(name: str) -> int:
    return zlib.crc32(name.encode())


def maskable(args: list) -> tuple[int, ...]:
    """The positions of the floating and complex arrays."""
    is_inexact = lambda a: isinstance(a, np.ndarray | jax.Array) and jax.dtypes.issubdtype(a.dtype, np.inexact)
    return tuple(i for i, a in enumerate(args) if is_inexact(a))


GROUPS = groups()


@pytest.mark.parametrize("names", batches(GROUPS, TOGETHER))
def test_some_uses_keep_their_meaning(names):
    """Compiled, all; op by op, two of a batch: the others by `make test-full`."""
    trials = [trial for name in names for trial in trials_of(some(GROUPS[name]), seed(name))]
    check_compiled(trials)
    check_op_by_op(*spread([t for t in trials if t.kind], 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_all_uses_keep_their_meaning(name):
    with jax.enable_x64(True):
        for first in range(0, len(GROUPS[name]), TOGETHER):
            trials = trials_of(GROUPS[name][first : first + TOGETHER], seed(name))
            check_compiled(trials)
            check_op_by_op(*(t for t in trials if t.kind))


@pytest.mark.parametrize("name", GROUPS)
def test_every_primitive_has_a_rule_or_a_reason(name):
    known = forward_rules.keys() & backward_rules.keys() | DENSE_IS_EXACT.keys() | INLINED
    for use in spread(GROUPS[name], LOOKED_AT):
        assert primitives(use) <= known, use.fullname


def test_what_has_a_reason_has_no_rule():
    assert not DENSE_IS_EXACT.keys() & (forward_rules.keys() | backward_rules.keys())


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A use, sparsified: without masks where `kind` is None."""

    use: Any
    kind: str | None
    args: list
    masked: list
    fast: Callable


def trials_of(uses: list, first: int) -> list[Trial]:
    """Each use without masks and, where it takes arrays to mask, with masks of the next kind."""
    trials = []
    for i, use in enumerate(uses):
        args = arguments(use)
        trials.append(Trial(use, None, args, args, sparsify(use.dyn_fun, (None,) * len(args), argnums=tuple(range(len(args))))))
        if positions := maskable(args):
            kind, rng = KINDS[(first + i) % len(KINDS)], np.random.default_rng(seed(use.fullname))
            masks = {i: draw_mask(rng, np.shape(args[i]), kind) for i in positions}
            masked = [np.where(masks[i], a, np.zeros_like(a)) if i in masks else a for i, a in enumerate(args)]
            trials.append(Trial(use, kind, args, masked, sparsify(use.dyn_fun, tuple(masks.values()), argnums=positions)))
    return trials


def check_compiled(trials: list[Trial]) -> None:
    """All together: there is one program to compile."""

    def run(args, masked):
        results = []
        for trial, a, m in zip(trials, args, masked, strict=True):
            with of_case(trial.use.fullname):
                results.append((trial.fast(*a), trial.use.dyn_fun(*m)))
        return results

    with jax.numpy_dtype_promotion("standard"):
        results = jax.jit(run)([t.args for t in trials], [t.masked for t in trials])
    for trial, (got, expected) in zip(trials, results, strict=True):
        equal(got, expected, trial)


def check_op_by_op(*trials: Trial) -> None:
    for trial in trials:
        with jax.numpy_dtype_promotion("standard"):
            expected = trial.use.dyn_fun(*trial.masked)
            with jax.disable_jit():
                equal(trial.fast(*trial.args), expected, trial)


def draw_mask(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Half of the elements, of the 2x2 blocks or of the slices along one axis."""
    if kind == "channel" and shape:
        axis = rng.integers(len(shape))
        shape_of_cells = [n if d == axis else 1 for d, n in enumerate(shape)]
        return np.broadcast_to(rng.random(shape_of_cells) < 0.5, shape)
    size = 2 if kind == "block" else 1
    cells = rng.random([-(-n // size) for n in shape]) < 0.5
    for axis, n in enumerate(shape):
        cells = np.take(cells, np.arange(n) // size, axis)
    return np.asarray(cells)


def equal(got, expected, trial: Trial) -> None:
    """The same trees of arrays; with masks nothing is asked where the masked function is not finite."""
    where = f"{trial.use.fullname}, {trial.kind}"
    assert jax.tree.structure(got) == jax.tree.structure(expected), where
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (g.shape, g.dtype) == (e.shape, e.dtype), where
        if jax.dtypes.issubdtype(g.dtype, jax.dtypes.prng_key):
            g, e = jax.random.key_data(g), jax.random.key_data(e)
        is_inexact, is_complex = (jax.dtypes.issubdtype(g.dtype, kind) for kind in (np.inexact, np.complexfloating))
        tolerance = 32 * float(jax.numpy.finfo(g.dtype).eps) if is_inexact else 0
        g, e = (np.asarray(x).astype(np.complex128 if is_complex else np.float64 if is_inexact else x.dtype) for x in (g, e))
        asked = np.isfinite(e) | (trial.kind is None) if is_inexact else np.full(e.shape, True)
        scale = np.abs(e[np.isfinite(e)]).max(initial=1) if is_inexact else 0
        np.testing.assert_allclose(g[asked], e[asked], rtol=tolerance, atol=tolerance * scale, err_msg=where)


def primitives(use) -> set[str]:
    """The names of a use's primitives, also of those inside its calls."""
    names, programs = set(), [trace(use.dyn_fun, *arguments(use))[0]]
    while programs:
        for equation in programs.pop().equations:
            names.add(equation.name)
            leaves = jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
            )
            programs += [flatten(p) for p in leaves if hasattr(getattr(p, "jaxpr", p), "eqns")]
    return names
