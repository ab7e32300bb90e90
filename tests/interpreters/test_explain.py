"""The chains behind facts hold: they name causes without which the fact does not hold, and end where it begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreters.cases import CASES as PROGRAMS
from jax.extend.core import Primitive

from sparta_jax.grid import Grid
from sparta_jax.interpreters import (
    CONST,
    ZERO,
    Constant,
    Fact,
    Variable,
    both,
    chain_of,
    collapses,
    opportunities,
    propagate,
    trace,
)
from sparta_jax.interpreters.causes import use_of, zero_causes
from sparta_jax.interpreters.propagate import results_of
from sparta_jax.interpreters.scores import Freedom

MASK = np.array([1, 0, 1, 1], np.float32)
mystery = Primitive("mystery")
mystery.def_abstract_eval(lambda x: x)


def followed(fn, *masks, freedom=None):
    """The program of `fn` and its facts, for inputs that are live where their masks are True."""
    masks = [np.asarray(m, bool) for m in masks]
    program, _ = trace(fn, *(jax.ShapeDtypeStruct(m.shape, jnp.float32) for m in masks))
    return program, propagate(program, [Fact.of_mask(Grid.of_elements(m)) for m in masks], freedom=freedom)


def live(*shape):
    return np.ones(shape, bool)


def without(shape, axis, *dead):
    mask = np.moveaxis(np.ones(shape, bool), axis, 0)
    mask[list(dead)] = False
    return np.moveaxis(mask, 0, axis)


def where(grid):
    return np.argwhere(grid.elements()).tolist()


# -- one equation

CAUSES = {
    "a product: a dead column of the right": (jnp.matmul, [live(2, 3), without((3, 4), 1, 1)], [1]),
    "a product: dead columns meet dead rows": (
        jnp.matmul,
        [without((2, 3), 1, 0, 1), without((3, 4), 0, 2)],
        [0, 1],
    ),
    "a sum: both": (jnp.add, [without((4,), 0, 1), without((4,), 0, 1, 2)], [0, 1]),
    "a factor alone": (jnp.multiply, [live(4), without((4,), 0, 1)], [1]),
    "either factor suffices: the first": (jnp.multiply, [without((4,), 0, 1), without((4,), 0, 1)], [0]),
    "the factors in parts: both": (jnp.multiply, [without((4,), 0, 0), without((4,), 0, 1)], [0, 1]),
    "a sum over an axis": (lambda x: x.sum(0), [without((3, 4), 1, 2)], [0]),
    "a quotient: what is divided": (jnp.divide, [without((4,), 0, 1), live(4)], [0]),
}


@pytest.mark.parametrize("case", CAUSES, ids=str)
def test_only_the_causes_of_a_zero_are_named(case):
    fn, masks, expected = CAUSES[case]
    program, facts = followed(fn, *masks)
    output = program.outputs[0]
    zero = facts.value(output).value.map(lambda c: c == ZERO)
    assert zero.cells.any()
    causes = zero_causes(program.equations[-1], output, zero, facts)
    assert [program.inputs.index(v) for v in causes] == expected


@pytest.mark.parametrize("case", CAUSES, ids=str)
def test_without_a_cause_the_zeros_are_gone_with_the_causes_alone_they_stay(case):
    fn, masks, expected = CAUSES[case]
    zeros = lambda masks: where(followed_zero(fn, masks))
    alone = [m if i in expected else np.ones_like(m) for i, m in enumerate(masks)]
    assert zeros(alone) == zeros(masks)
    for cause in expected:
        assert zeros([np.ones_like(m) if i == cause else m for i, m in enumerate(alone)]) != zeros(masks)


def followed_zero(fn, masks):
    program, facts = followed(fn, *masks)
    return facts.value(program.outputs[0]).value.map(lambda c: c == ZERO)


def test_the_elements_in_question_are_those_that_meet():
    program, facts = followed(jnp.matmul, without((2, 3), 1, 0), without((3, 4), 1, 1, 2))
    output = program.outputs[0]
    column = Grid.of_elements(~without((2, 4), 1, 1))
    (cause,) = zero_causes(program.equations[0], output, column, facts).items()
    assert cause[0] is program.inputs[1]
    assert where(cause[1]) == [[0, 1], [1, 1], [2, 1]]


def test_a_partner_s_zeros_are_why_an_operand_is_not_needed():
    program, facts = followed(jnp.matmul, live(2, 3), without((3, 4), 0, 1))
    use = use_of(program.equations[0], program.inputs[0], Grid.of_elements(~without((2, 3), 1, 1)), facts)
    assert not use.outputs
    assert {v: where(g) for v, g in use.partners.items()} == {program.inputs[1]: [[1, j] for j in range(4)]}


def test_a_result_that_nobody_needs_is_why_an_operand_is_not_needed():
    program, facts = followed(lambda x, w: (x @ w)[:, :2], live(2, 3), live(3, 4))
    use = use_of(program.equations[0], program.inputs[1], Grid.of_elements(~without((3, 4), 1, 2, 3)), facts)
    assert not use.partners
    assert {v: where(g) for v, g in use.outputs.items()} == {program.equations[0].outputs[0]: [[0, 2], [0, 3], [1, 2], [1, 3]]}


# -- chains


def test_every_variable_of_a_chain_has_one_step():
    fn = lambda x, w: jnp.tanh(x @ w) * jnp.sin(x @ w) + jnp.square(x @ w)
    program, facts = followed(fn, live(2, 3), without((3, 4), 1, 1))
    steps = [s.variable for s in chain_of(program, facts, program.outputs[0]).zeros]
    assert len(steps) == len(set(steps))
    assert steps[0] is program.outputs[0]
    assert steps[-1] is program.inputs[1]


def test_masked_scores_are_their_own_reason():
    def attention(s, v):
        return jax.nn.softmax(jnp.where(np.tri(4, dtype=bool), s, -1e9), -1) @ v

    program, facts = followed(attention, live(4, 4), live(4, 2), freedom=Freedom())
    weights = program.equations[-1].inputs[0]
    *others, last = chain_of(program, facts, weights).zeros
    assert last.is_masked
    assert last.equation.name == "exp"
    assert not any(s.is_masked for s in others)


def test_zeros_behind_an_exponential_are_explained_by_rules():
    program, facts = followed(lambda x, w: jnp.exp(x) * (x @ w), live(3, 3), without((3, 3), 1, 1))
    assert not any(s.is_masked for s in chain_of(program, facts, program.outputs[0]).zeros)


def test_a_loss_is_followed_through_functions_that_keep_zeros():
    fn = lambda x, w, b: jnp.tanh(jnp.sin(x @ w + b).T)
    program, _ = trace(fn, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 3), (3, 4), (4,))))
    w = Fact.of_mask(Grid.of_elements(without((3, 4), 1, 1)), CONST)
    facts = propagate(program, [Fact.live((2, 3)), w, Fact.const((4,))])
    (loss,) = chain_of(program, facts, program.outputs[0]).losses
    assert loss.equation.name == "add"
    assert loss.is_const
    assert where(loss.elements) == [[0, 1], [1, 1]]


def test_what_is_used_up_in_a_product_is_no_loss():
    program, facts = followed(jnp.matmul, live(2, 3), np.eye(3, 4))
    assert not opportunities(program, facts)
    assert not chain_of(program, facts, program.outputs[0]).losses


@pytest.mark.parametrize(
    ("fn", "lost"),
    [
        (lambda x, w: mystery.bind(x @ w), ["mystery"]),
        (lambda x, w: mystery.bind(x) @ w, []),
        (lambda x, w: jnp.exp(x @ w) + x @ w, []),
        (lambda x, w: jnp.take(w, x[:, 0].astype(int), axis=0), ["gather"]),
        (lambda x, w: w[x[:, 0].astype(int)], []),
        (lambda x, w: jnp.take(w, x[:, 0].astype(int), axis=0, mode="clip"), []),
        (lambda x, w: jnp.take(w, jnp.array([0, 2]), axis=0), []),
    ],
)
def test_zeros_that_need_not_be_lost_are_found(fn, lost):
    program, facts = followed(fn, live(2, 3), without((3, 4), 1, 1))
    assert [loss.equation.name for loss in opportunities(program, facts)] == lost


# -- collapse


def collapsed(fn, *masks, params=None):
    """`(names of the roots' equations, positions of outputs, positions of inputs)` per collapse."""
    program, facts = followed(fn, *masks)
    made = {v: e.name for e in program.equations for v in e.outputs} | {v: i for i, v in enumerate(program.inputs)}
    found = collapses(program, facts, range(len(masks)) if params is None else params)
    return [([made[r] for r in c.roots], list(c.outputs), list(c.inputs)) for c in found]


COLLAPSES = {
    "nothing": (lambda x, w: x @ w, [live(2, 3), without((3, 4), 1, 1)], []),
    "a dead weight": (lambda x, w: x @ w, [live(2, 3), ~live(3, 4)], [([1], [0], [0])]),
    "dead columns meet dead rows": (
        lambda x, w, v: (x @ w) @ v,
        [live(2, 3), without((3, 4), 1, 0, 1), without((4, 2), 0, 2, 3)],
        [(["dot_general"], [0], [0, 1, 2])],
    ),
    "a dead branch": (
        lambda x, w: x + jnp.tanh(x @ w),
        [live(2, 3), ~live(3, 3)],
        [([1], [], [])],
    ),
    "a branch that dies on the way": (
        lambda x, w, v: x + jnp.tanh(x @ w) @ v,
        [live(2, 3), without((3, 4), 1, 0, 1), without((4, 3), 0, 2, 3)],
        [(["dot_general"], [], [1, 2])],
    ),
    "one reason for all that dies of it": (
        lambda x, w, v: (jnp.sin(x @ w), (x @ w) @ v),
        [live(2, 3), ~live(3, 4), live(4, 2)],
        [([1], [0, 1], [0, 2])],
    ),
    "two reasons": (
        lambda x, w, v: (x @ w, x @ v),
        [live(2, 3), ~live(3, 4), ~live(3, 2)],
        [([1], [0], []), ([1, 2], [], [0]), ([2], [1], [])],
    ),
    "a dead bias kills nothing": (lambda x, b: x + b, [live(2, 3), ~live(3)], []),
    "an input that nothing uses": (lambda x, w: x, [live(2, 3), live(3, 4)], []),
    "an input of which nothing is read": (lambda x, w: x + w[1:1].sum(), [live(2, 3), live(3, 4)], []),
    "a constant zero": (lambda x: (x, jnp.zeros(3)), [live(2, 3)], []),
    "an output that constants kill": (lambda x: x * 0.0, [live(2, 3)], [(["mul"], [0], [0])]),
    "an empty sum": (lambda x, w: x @ w, [live(2, 0), live(0, 4)], [(["dot_general"], [0], [])]),
}


@pytest.mark.parametrize("case", COLLAPSES, ids=str)
def test_collapse_is_told_with_its_reason(case):
    fn, masks, expected = COLLAPSES[case]
    assert collapsed(fn, *masks) == expected


def test_what_was_live_between_a_bias_and_dead_rows_dies_where_they_meet():
    """The hidden columns that the first weight feeds meet dead rows; the bias keeps the others alive, so no result is zero."""
    fn = lambda x, w, b, v: jnp.tanh(x @ w + b) @ v
    masks = [live(2, 3), without((3, 4), 1, 0, 1), live(4), without((4, 2), 0, 2, 3)]
    assert collapsed(fn, *masks) == [(["dot_general"], [], [0, 1])]


# -- the law, over every program of the rules' table


def channel(n: int, rng) -> np.ndarray:
    return np.arange(n) != rng.integers(max(n, 1))


def from_causes(step, facts) -> Fact:
    """The fact of a step's variable where nothing is known of any operand but its causes."""
    own = lambda a: facts.value(a) if a in step.causes or isinstance(a, Constant) else Fact.live(a.shape)
    results = results_of(step.equation, [own(a) for a in step.equation.inputs])
    return results[step.equation.outputs.index(step.variable)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_step_of_every_chain_holds(name, rng):
    fn, operands = PROGRAMS[name]
    program, _ = trace(fn, *(jax.ShapeDtypeStruct(o.shape, o.dtype) for o in operands))
    masks = [np.broadcast_to(channel(o.shape[-1], rng), o.shape) if o.shape else live() for o in operands]
    facts = propagate(program, [Fact.of_mask(Grid.of_elements(m)) for m in masks])
    for variable in {v for v in (*program.outputs, *program.inputs) if isinstance(v, Variable)}:
        chain = chain_of(program, facts, variable)
        for step in chain.zeros:
            if facts.value(step.variable).known is None:
                assert not both(step.elements, facts.value(step.variable).nonzero).cells.any()
            if step.causes:
                assert not both(step.elements, from_causes(step, facts).nonzero).cells.any()
        for step in chain.unneeded:
            assert not both(step.elements, facts.need(step.variable)).cells.any()
        for loss in chain.losses:
            assert loss.operand in loss.equation.inputs
            assert loss.opaque or not both(loss.elements, facts.value(loss.output).value.map(lambda c: c == ZERO)).cells.any()
    for found in collapses(program, facts, range(len(operands))):
        assert all(not facts.live(root).cells.any() for root in found.roots)
    opportunities(program, facts)
