"""`propagate` warns of what dies and of zeros that need not be lost."""

import jax
import jax.numpy as jnp
import pytest
from api.propagated import COLUMN, W, dead, mystery, propagated, struct, stubborn

import sparta_jax as sj
from sparta_jax.errors import SpartaWarning


def findings(fn, tesa, params, *args):
    return [str(w).split("  (")[0] for w in propagated(fn, tesa, params, *args).warnings]


ALL = {
    "an output": (
        lambda w, x: {"y": jnp.sin(x @ w), "z": x},
        dead((3, 4), 1, 0, 1, 2, 3),
        ["collapse: w: all elements are zero; so output['y'] counts for nothing; keep an element of w"],
    ),
    "a branch": (
        lambda w, x: jnp.tanh(x @ w) + x[:, :1],
        dead((3, 4), 1, 0, 1, 2, 3),
        ["collapse: w: all elements are zero; keep an element of w"],
    ),
    "a gather": (
        lambda w, x: jnp.take(w, x[:, 0].astype(int), axis=0),
        COLUMN,
        [
            "lost: gather:0 loses the zeros of w: rows out of range are filled with NaN; "
            "write `table[i]`, or `jnp.take(..., mode='clip')`"
        ],
    ),
    "a derivative": (
        lambda w, x: stubborn(x @ w),
        COLUMN,
        [
            "lost: stubborn:0 loses the zeros of dot_general:0: the derivative of stubborn cannot be traced; "
            "write its derivative so that JAX can trace it without values"
        ],
    ),
    "no rule": (
        lambda w, x: mystery.bind(x @ w),
        COLUMN,
        [
            "lost: mystery:0 loses the zeros of dot_general:0: mystery has no rule; "
            "write it with other operations, or multiply by a constant mask behind it where its result is zero"
        ],
    ),
    "nothing": (lambda w, x: jax.nn.relu(x @ w), COLUMN, []),
    "random bits": (lambda w, x: w * jax.random.normal(jax.random.key(0), (3, 4)), COLUMN, []),
}


@pytest.mark.parametrize("case", ALL, ids=str)
def test_warns_of(case):
    fn, tesa, expected = ALL[case]
    assert findings(fn, tesa, W, struct(2, 3)) == expected


def test_a_layer_that_dies_is_told_with_the_product_at_which_it_does():
    fn = lambda params, x: x + jax.nn.relu(x @ params["w"]) @ params["v"]
    params = {"w": struct(4, 8), "v": struct(8, 4)}
    tesa = {"w": dead((4, 8), 1, 0, 1, 2, 3), "v": dead((8, 4), 0, 4, 5, 6, 7)}
    (only,) = propagated(fn, tesa, params, struct(2, 4)).warnings
    assert (only.kind, only.names, only.affected) == ("collapse", ("dot_general:1",), ("params['v']", "params['w']"))
    assert only.reason == "dot_general:1: all elements are zero <- relu:0, params['v']"
    assert only.mend == "let live elements of relu:0 and params['v'] meet"
    assert "test_propagation_warnings.py" in only.line


def test_a_layer_that_is_not_needed_is_told_with_the_rows_that_kill_it():
    fn = lambda params, x: jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]
    params = {"w": struct(4, 8), "b": struct(8), "v": struct(8, 4)}
    tesa = {"w": dead((4, 8), 1, 0, 1, 2, 3), "v": dead((8, 4), 0, 4, 5, 6, 7)}
    (only,) = propagated(fn, tesa, params, struct(2, 4)).warnings
    assert (only.names, only.affected) == (("dot_general:0",), ("params['w']",))
    assert only.reason == (
        "dot_general:0: columns 4-7 are not needed, the others are zero <- its only use add:0, which is not needed there"
    )


def test_python_warns_once_of_collapse():
    dying = sj.TeSA.dead((3, 4))
    with pytest.warns(SpartaWarning, match="params\\['a'\\]: all elements are zero") as caught:
        sj.propagate(lambda params, x: (x @ params["a"], x @ params["b"]), {"a": dying, "b": dying})(
            {"a": W, "b": W}, struct(2, 3)
        )
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_python_does_not_warn_of_lost_zeros():
    sj.propagate(lambda w, i: jnp.take(w, i, axis=0), COLUMN)(W, struct(2, dtype=jnp.int32))
