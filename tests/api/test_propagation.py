"""`propagate` names every fact, says why it holds, and warns of what dies and of zeros that need not be lost."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive

import sparta_jax as sj
from sparta_jax.errors import SpartaError, SpartaKeyError, SpartaWarning

MASK = np.array([1, 0, 1, 1], np.float32)
mystery = Primitive("mystery")
mystery.def_abstract_eval(lambda x: x)


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def dead(shape, axis, *positions):
    return sj.TeSA.channels(~np.isin(np.arange(shape[axis]), positions), axis, shape)


def propagated(fn, tesa, params, *args, **kwargs) -> sj.Propagation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpartaWarning)
        return sj.propagate(fn, tesa, **kwargs)(params, *args)


def told(found: sj.Propagation, name: str) -> list[str]:
    """The steps of an explanation, without their lines."""
    return [f"{s.name}: {s.fact} <- {s.reason}" for s in found.explain(name).steps]


def mlp(params, x):
    with jax.named_scope("mlp"):
        h = jax.nn.relu(x @ params["w"] + params["b"])
    return {"logits": h @ params["v"], "hidden": h}


PARAMS = {"w": struct(4, 8), "b": struct(8), "v": struct(8, 3)}
TESA = {"w": dead((4, 8), 1, 3, 5), "b": dead((8,), 0, 3), "v": dead((8, 3), 0, 7)}


@pytest.fixture(scope="module")
def found():
    return propagated(mlp, TESA, PARAMS, struct(2, 4))


@pytest.fixture(scope="module")
def logits():
    """Only the logits are asked for."""
    return propagated(lambda params, x: {"logits": mlp(params, x)["logits"]}, TESA, PARAMS, struct(2, 4))


# -- names


def test_every_variable_has_a_name(found):
    assert [f.name for f in found.inputs] == ["params['b']", "params['v']", "params['w']", "x"]
    assert [f.name for f in found.outputs] == ["output['hidden']", "output['logits']"]
    names = [f.name for f in found.intermediates]
    assert names == ["mlp/dot_general:0", "mlp/broadcast_in_dim:0", "mlp/add:0", "mlp/relu:0", "dot_general:0"]
    assert all(found[name].name == name for name in names)


def test_names_are_unique_and_the_same_for_every_trace():
    def stacked(layers, x):
        for i, w in enumerate(layers):
            with jax.named_scope(f"layer_{i}"):
                x = jnp.sin(x @ w) + jnp.cos(x @ w)
        return x, [x * 2, (x, None)]

    found, again = (propagated(stacked, None, [struct(4, 4)] * 3, struct(2, 4)) for _ in range(2))
    names = [f.name for f in (*found.inputs, *found.intermediates, *found.outputs)]
    assert len(names) == len(set(names))
    assert names == [f.name for f in (*again.inputs, *again.intermediates, *again.outputs)]
    assert {"layers[0]", "layer_2/dot_general:1", "layer_0/add:0", "output[0]", "output[1][0]", "output[1][1][0]"} <= set(names)


@pytest.mark.parametrize(
    ("fn", "names"),
    [
        (lambda w, x: x @ w, ["output"]),
        (lambda w, x: (x @ w,), ["output[0]"]),
        (lambda w, x: {"a": [x @ w, w]}, ["output['a'][0]", "output['a'][1]"]),
        (lambda w, x: None, []),
        (lambda w, x: (1.0, x), ["output[0]", "output[1]"]),
    ],
)
def test_outputs_are_called_by_their_path(fn, names):
    assert [f.name for f in propagated(fn, None, struct(4, 4), struct(2, 4)).outputs] == names


def test_a_fact_says_where_it_comes_from(found):
    relu, bias = found["mlp/relu:0"], found["mlp/broadcast_in_dim:0"]
    assert relu.scope == "mlp"
    assert "test_propagation.py" in relu.line
    assert relu.sources == ()
    assert bias.sources == ("params['b']",)
    assert (found["x"].scope, found["x"].line) == ("", "")
    assert (relu.shape, relu.zero, relu.const, relu.unneeded) == ((2, 8), 1 / 8, 1 / 8, 0.0)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("relu:0", "did you mean 'mlp/relu:0'"),
        ("params['u']", "did you mean .*params"),
        ("output['logit']", "did you mean .*output"),
        ("", "inputs are params"),
        ("zzzz", "inputs are params"),
    ],
)
def test_an_unknown_name_brings_those_that_come_near(found, name, hint):
    for look_up in (found.__getitem__, found.explain):
        with pytest.raises(SpartaKeyError, match=hint) as raised:
            look_up(name)
        assert isinstance(raised.value, SpartaError)
        assert isinstance(raised.value, KeyError)
        assert "\\" not in str(raised.value)


# -- shares


def test_the_params_trees_are_their_own(logits):
    live = logits.tesa
    assert set(live) == set(PARAMS)
    np.testing.assert_array_equal(live["w"].channel_mask(1), ~np.isin(np.arange(8), [3, 5, 7]))
    np.testing.assert_array_equal(live["b"].mask, ~np.isin(np.arange(8), [3, 7]))
    np.testing.assert_array_equal(live["v"].channel_mask(0), ~np.isin(np.arange(8), [3, 7]))


def test_several_params_are_a_tuple_of_trees():
    fn = lambda x, a, b: x @ a["w"] @ b
    found = sj.propagate(fn, (dead((3, 2), 0, 1), None), argnums=(2, 1))(struct(2, 4), {"w": struct(4, 3)}, struct(3, 2))
    b, a = found.tesa
    np.testing.assert_array_equal(b.mask, [[True, True], [False, False], [True, True]])
    np.testing.assert_array_equal(a["w"].channel_mask(1), [True, False, True])
    (only,) = sj.propagate(fn, (None,), argnums=(2,))(struct(2, 4), {"w": struct(4, 3)}, struct(3, 2)).tesa
    assert only.is_dense


def test_the_density_before_and_after(logits):
    assert logits.density_given == pytest.approx((24 + 7 + 21) / 64)
    assert logits.density == pytest.approx((20 + 6 + 18) / 64)


# -- explanations

W, COLUMN = struct(3, 4), dead((3, 4), 1, 1)


@jax.custom_vjp
def stubborn(x):
    return x * 2


stubborn.defvjp(lambda x: (x * 2, float(np.asarray(x).sum())), lambda rest, g: (g * 2,))


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
    assert "test_propagation.py" in text
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


# -- warnings


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
    assert "test_propagation.py" in only.line


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


# -- printing


def stack(layers, x):
    for i, p in enumerate(layers):
        with jax.named_scope(f"layer_{i}"):
            x = x + jax.nn.relu(x @ p["w"]) @ p["v"]
    return x


@pytest.fixture(scope="module")
def deep():
    shapes = [{"w": struct(8, 16), "v": struct(16, 8)}] * 12
    tesa = [{"w": dead((8, 16), 1, *range(i + 1)), "v": None} for i in range(12)]
    return propagated(stack, tesa, shapes, struct(2, 8))


def test_alike_layers_are_one_row(deep):
    text = str(deep)
    assert text == repr(deep)
    assert len(text.splitlines()) < 20
    assert "layers[*]['w'] (x12) [8, 16]" in text
    assert "25.0-93.8% live" in text
    assert "layer_*/relu:0 (x12) [2, 16]" in text
    assert text.startswith("25 inputs, 48 intermediates, 1 outputs; ")
    assert "more are live everywhere" in text


def test_long_lists_are_cut_with_a_count():
    params = {f"{chr(97 + i)}": struct(3, 4) for i in range(26)} | {f"x{chr(97 + i)}": struct(3, 4) for i in range(26)}
    fn = lambda params, x: {k: x @ w for k, w in params.items()}
    found = propagated(fn, dict.fromkeys(params, sj.TeSA.dead((3, 4))), params, struct(2, 3))
    text = str(found)
    assert "... and 28 more rows" in text
    assert "... and 28 more warnings" in text
    assert len(found._repr_html_().split("<tr>")) > 100


def test_alike_warnings_are_one_line():
    fn = lambda tables, i: [jnp.take(w, i, axis=0) for w in tables]
    found = propagated(fn, [COLUMN] * 5, [W] * 5, struct(2, dtype=jnp.int32))
    assert len(found.warnings) == 5
    assert str(found).count("loses the zeros") == 1
    assert "(and 4 alike)" in str(found)


def test_html_is_escaped():
    fn = lambda params, x: {"<b>": x @ params["<i>&"]}
    page = propagated(fn, {"<i>&": sj.TeSA.dead((3, 4))}, {"<i>&": W}, struct(2, 3))._repr_html_()
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;i&gt;&amp;" in page
    assert page.count("<table>") == 3
