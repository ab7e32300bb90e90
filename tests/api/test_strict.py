"""Masked scores count as weight 0 unless `strict`: the report says where, `verify` whether it was right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparta_jax as sj

SEEN = np.arange(16) < 11


def attend(params, scores):
    """Attention over a table of values, of which queries see the first rows."""
    with jax.named_scope("attention"):
        weights = jax.nn.softmax(jnp.where(SEEN, scores, -1e9))
    return weights @ params["values"]


def causal(params, x):
    q, k, v = (x @ params[name] for name in "qkv")
    scores = jnp.where(jnp.tri(len(x), dtype=bool), q @ k.T, -1e9)
    return jax.nn.softmax(scores) @ v


@pytest.fixture
def setting(rng):
    mask = np.ones((16, 8), bool)
    mask[3] = False
    values = jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)
    return {"values": values}, {"values": sj.TeSA(mask)}, jnp.asarray(rng.normal(size=(4, 16)), jnp.float32)


def test_what_nobody_sees_is_not_stored(setting):
    params, tesa, scores = setting
    live = lambda strict: sj.propagate(attend, tesa, strict=strict)(params, scores)["params['values']"].tesa.density
    assert live(False) == pytest.approx(10 / 16)
    assert live(True) == pytest.approx(15 / 16)


def test_the_report_lists_where(setting):
    params, tesa, scores = setting
    report = sj.sparsify(attend, tesa).report(params, scores)
    (note,) = report.weightless
    assert note.name == "attention"
    assert "test_strict.py" in note.line
    assert "softmax: attention: scores of -1e4 or less count as weight 0" in str(report)
    assert not sj.sparsify(attend, tesa, strict=True).report(params, scores).weightless


@pytest.mark.parametrize("strict", [False, True])
def test_verify_tells_whether_it_was_right(setting, strict):
    params, tesa, scores = setting
    fast = sj.sparsify(attend, tesa, strict=strict)
    assert fast.verify(params, scores).ok
    below = fast.verify(params, scores - 1e10)  # all that is seen lies below what is masked
    assert below.ok == strict
    assert ("equal" if strict else "DIFFERENT") in str(below)


def test_causal_attention_equals_the_dense_one(rng):
    params = {name: jnp.asarray(rng.normal(size=(8, 8)), jnp.float32) for name in "qkv"}
    tesa = {name: sj.TeSA(rng.random((8, 8)) < 0.5) for name in "qkv"}
    x = jnp.asarray(rng.normal(size=(6, 8)), jnp.float32)
    assert sj.sparsify(causal, tesa).verify(params, x).ok
    assert sj.sparsify(jax.checkpoint(causal), tesa).verify(params, x).ok


def test_packed_params_hold_what_is_seen(setting):
    params, tesa, scores = setting
    fast = sj.sparsify(attend, tesa, implementation="xla")
    masked = {"values": np.where(tesa["values"].mask, params["values"], np.float32(0))}
    np.testing.assert_allclose(fast(fast.pack(params, scores), scores), jax.jit(attend)(masked, scores), rtol=1e-5, atol=1e-6)


def test_inside_a_loop(rng):
    params = {name: jnp.asarray(rng.normal(size=(3, 8, 8)), jnp.float32) * 0.3 for name in "qkv"}
    tesa = {name: sj.TeSA(rng.random((3, 8, 8)) < 0.5) for name in "qkv"}
    x = jnp.asarray(rng.normal(size=(6, 8)), jnp.float32)
    fast = sj.sparsify(lambda p, x: jax.lax.scan(lambda h, layer: (h + causal(layer, h), None), x, p)[0], tesa)
    assert fast.verify(params, x).ok
    assert fast.report(params, x).weightless
