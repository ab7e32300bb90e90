"""`propagate` names every fact, and tells the params' densities before and after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.propagated import PARAMS, TESA, dead, mlp, propagated, struct

import sparta_jax as sj
from sparta_jax.errors import SpartaError, SpartaKeyError


@pytest.fixture(scope="module")
def found():
    return propagated(mlp, TESA, PARAMS, struct(2, 4))


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
    assert "propagated.py" in relu.line
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


@pytest.fixture(scope="module")
def logits():
    """Only the logits are asked for."""
    return propagated(lambda params, x: {"logits": mlp(params, x)["logits"]}, TESA, PARAMS, struct(2, 4))


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
