"""What `propagate` found prints itself: layers that are alike are one row, long lists are cut."""

import jax
import jax.numpy as jnp
import pytest
from api.propagated import COLUMN, W, dead, propagated, struct

import sparta_jax as sj


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
