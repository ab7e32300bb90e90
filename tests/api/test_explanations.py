"""`explain` says why a fact holds: the chain of rules behind it, back to a TeSA or a constant of the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.propagated import COLUMN, PARAMS, TESA, W, dead, mlp, mystery, propagated, struct, stubborn

import sparta_jax as sj

MASK = np.array([1, 0, 1, 1], np.float32)


@pytest.fixture(scope="module")
def found():
    return propagated(mlp, TESA, PARAMS, struct(2, 4))


@pytest.fixture(scope="module")
def logits():
    """Only the logits are asked for."""
    return propagated(lambda params, x: {"logits": mlp(params, x)["logits"]}, TESA, PARAMS, struct(2, 4))


def told(found: sj.Propagation, name: str) -> list[str]:
    """The steps of an explanation, without their lines."""
    return [f"{s.name}: {s.fact} <- {s.reason}" for s in found.explain(name).steps]


@jax.custom_jvp
def doubled(x):
    return x * 2


doubled.defjvps(lambda t, y, x: 2 * t)

WHY_W = ["dot_general:0: column 1 is zero <- w", "w: column 1 is zero <- its TeSA"]
EXPLAINED = {
    "a product": (lambda w, x: x @ w, COLUMN, "output", WHY_W),
    "a mere function": (
        lambda w, x: jnp.tanh(x @ w).T,
        COLUMN,
        "output",
        ["transpose:0: row 1 is zero <- tanh:0", "tanh:0: column 1 is zero <- dot_general:0", *WHY_W],
    ),
    "a function with a derivative of its own": (
        lambda w, x: doubled(x @ w),
        COLUMN,
        "output",
        ["doubled:0: column 1 is zero <- dot_general:0", *WHY_W],
    ),
    "a sum of two zeros": (
        lambda w, x: x @ w + jnp.sin(x @ w),
        COLUMN,
        "output",
        [
            "add:0: column 1 is zero <- dot_general:0, sin:0",
            "sin:0: column 1 is zero <- dot_general:1",
            "dot_general:1: column 1 is zero <- w",
            *WHY_W,
        ],
    ),
    "either factor suffices": (
        lambda w, x: (x @ w) * MASK,
        COLUMN,
        "output",
        ["mul:0: column 1 is zero <- dot_general:0", *WHY_W],
    ),
    "a mask that is closed over": (
        lambda w, x: x @ (w * MASK),
        None,
        "output",
        [
            "dot_general:0: column 1 is zero <- mul:0",
            "mul:0: column 1 is zero <- broadcast_in_dim:0",
            "broadcast_in_dim:0: column 1 is zero <- a constant of the program",
        ],
    ),
    "a residual sum": (
        lambda w, x: x @ jnp.ones((3, 4)) + jnp.tanh(x @ w),
        COLUMN,
        "output",
        ["add:0: column 1 is live, though zero in tanh:0 <- dot_general:0 is not zero"],
    ),
    "a concatenation": (
        lambda w, x: jnp.concatenate([x, x @ w], 1),
        COLUMN,
        "output",
        ["concatenate:0: column 4 is zero <- dot_general:0", *WHY_W],
    ),
    "a softmax": (
        lambda w, x: jax.nn.softmax(x @ w, -1),
        COLUMN,
        "output",
        ["sub:0: column 1 is live, though zero in dot_general:0 <- stop_gradient:0 is not zero"],
    ),
    "an exponential": (
        lambda w, x: jnp.exp(x @ w) * 2,
        COLUMN,
        "output",
        ["exp:0: column 1 is constant, though zero in dot_general:0 <- exp(0) is not 0"],
    ),
    "nothing": (lambda w, x: jnp.exp(x @ w), None, "output", []),
    "dead rows of the next weight": (
        lambda w, x: jnp.sin(x) @ w,
        dead((3, 4), 0, 2),
        "x",
        [
            "x: column 2 is not needed <- its only use sin:0, which is not needed there",
            "sin:0: column 2 is not needed <- its only use dot_general:0, where w is zero",
            "w: row 2 is zero <- its TeSA",
        ],
    ),
    "two uses": (
        lambda w, x: (x @ w, jnp.sin(x) @ w),
        dead((3, 4), 0, 2),
        "x",
        [
            "x: column 2 is not needed <- dot_general:0, where w is zero; sin:0, which is not needed there",
            "sin:0: column 2 is not needed <- its only use dot_general:1, where w is zero",
            "w: row 2 is zero <- its TeSA",
        ],
    ),
    "an input that meets nothing": (
        lambda w, x: jnp.sin(x) @ (w * np.zeros((3, 4), np.float32)),
        None,
        "x",
        [
            "x: no element is needed <- its only use sin:0, which is not needed there",
            "sin:0: no element is needed <- its only use dot_general:0, where mul:0 is zero",
            "mul:0: all elements are zero <- constant:0",
            "constant:0: all elements are zero <- a constant of the program",
        ],
    ),
    "a slice": (
        lambda w, x: (x @ w)[:, :2],
        None,
        "w",
        [
            "w: columns 2-3 are not needed <- its only use dot_general:0, which is not needed there",
            "dot_general:0: columns 2-3 are not needed <- its only use slice:0, which does not read it",
        ],
    ),
    "no use": (
        lambda w, x: x,
        COLUMN,
        "w",
        ["w: columns 0, 2-3 are not needed <- nothing uses it", "w: column 1 is zero <- its TeSA"],
    ),
    "a literal": (lambda w, x: 2.0, None, "output", ["output: it is constant <- the program returns 2.0"]),
    "no rule": (
        lambda w, x: jnp.sin(mystery.bind(x @ w)),
        COLUMN,
        "output",
        ["mystery:0: the zeros of dot_general:0 are lost <- mystery has no rule"],
    ),
    "a derivative that cannot be traced": (
        lambda w, x: stubborn(x @ w),
        COLUMN,
        "output",
        ["stubborn:0: the zeros of dot_general:0 are lost <- the derivative of stubborn cannot be traced"],
    ),
    "a gather that may fill": (
        lambda w, x: jnp.take(w, x[:, 0].astype(int), axis=0),
        COLUMN,
        "output",
        ["gather:0: column 1 is live, though zero in w <- rows out of range are filled with NaN"],
    ),
}


@pytest.mark.parametrize("case", EXPLAINED, ids=str)
def test_explains(case):
    fn, tesa, name, steps = EXPLAINED[case]
    assert told(propagated(fn, tesa, W, struct(2, 3)), name) == steps


def test_explains_what_is_zero_what_is_not_needed_and_what_became_constant(logits):
    assert told(logits, "mlp/add:0") == [
        "mlp/add:0: column 7 is not needed <- its only use mlp/relu:0, which is not needed there",
        "mlp/relu:0: column 7 is not needed <- its only use dot_general:0, where params['v'] is zero",
        "mlp/add:0: column 3 is zero <- mlp/dot_general:0, mlp/broadcast_in_dim:0",
        "mlp/broadcast_in_dim:0: column 3 is zero <- params['b']",
        "mlp/dot_general:0: column 3 is zero <- params['w']",
        "params['b']: element 3 is zero <- its TeSA",
        "params['v']: row 7 is zero <- its TeSA",
        "params['w']: column 3 is zero <- its TeSA",
        "mlp/add:0: column 5 is constant, though zero in mlp/dot_general:0 <- params['b'] is not zero",
    ]


def test_an_output_that_is_used_is_needed(found):
    assert told(found, "params['b']") == ["params['b']: element 3 is zero <- its TeSA"]


def test_an_explanation_prints_itself(logits):
    text, page = str(logits.explain("mlp/add:0")), logits.explain("mlp/add:0")._repr_html_()
    assert text.startswith("mlp/add:0 [2, 8]: 75.0% live, 12.5% zero, 12.5% const, 12.5% unneeded")
    assert "propagated.py" in text
    assert "<details" in page
    assert "params[&#x27;w&#x27;]" in page
    assert "nothing is known of it" in str(logits.explain("x"))


def test_a_long_explanation_is_cut():
    def deep(w, x):
        for _ in range(60):
            w = jnp.sin(w)
        return x @ w

    text = str(propagated(deep, COLUMN, W, struct(2, 3)).explain("output"))
    assert text.endswith("... and 22 more steps")
