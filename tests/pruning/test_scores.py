"""Saliency is |w * gradient|; an activation score is |w| times the norm of what the program multiplies it by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sparta_jax import masks, pruning
from sparta_jax.errors import SpartaTypeError, SpartaValueError, SpartaWarning

rng = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
W, V, B, X = normal(6, 8), normal(8, 4), normal(8), normal(5, 6)
IMAGE, KERNEL = normal(2, 7, 7, 3), normal(3, 3, 3, 4)
norm = lambda x: np.sqrt(np.square(np.asarray(x, np.float64)).reshape(-1, x.shape[-1]).sum(0))
conv = lambda x, w: lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def taps(image):
    """The norm of what each tap of a 3x3 window, strides (2, 1), padded, meets."""
    padded = np.pad(np.asarray(image, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = {(i, j): padded[:, i : i + 7 : 2, j : j + 7] for i in range(3) for j in range(3)}
    return np.stack([np.stack([norm(windows[i, j]) for j in range(3)]) for i in range(3)])


def stacked(p, x):
    return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["w"])[0]


STACK = normal(3, 6, 6) / 2
first = jnp.tanh(X @ STACK[0])
ROWS = np.stack([norm(X), norm(first), norm(jnp.tanh(first @ STACK[1]))])
hidden = jax.nn.relu(X @ W + B)
# name: (fn, params, the norms that each leaf's elements meet, None: none)
CASES = {
    "a product": (lambda p, x: x @ p["w"], {"w": W}, {"w": norm(X)[:, None]}),
    "transposed": (lambda p, x: (p["w"] @ x.T).T, {"w": W.T}, {"w": norm(X)[None]}),
    "two layers": (
        lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"],
        {"w": W, "b": B, "v": V},
        {"w": norm(X)[:, None], "b": None, "v": norm(hidden)[:, None]},
    ),
    "heads": (lambda p, x: jnp.einsum("se,ehw->hsw", x, p["w"].reshape(6, 2, 4)), {"w": W}, {"w": norm(X)[:, None]}),
    "scaled": (lambda p, x: x @ (p["w"] * 3), {"w": W}, {"w": 3 * norm(X)[:, None]}),
    "used twice": (lambda p, x: (x @ p["w"], (2 * x) @ p["w"]), {"w": W}, {"w": np.sqrt(5) * norm(X)[:, None]}),
    "sliced": (
        lambda p, x: x @ p["w"][:, :4],
        {"w": W},
        {"w": norm(X)[:, None] * (np.arange(8) < 4)},
    ),
    "of integers beside": (lambda p, x: x @ p["w"] * p["n"], {"w": W, "n": jnp.int32(2)}, {"w": norm(X)[:, None], "n": None}),
    "a scan": (stacked, {"w": STACK}, {"w": ROWS[:, :, None]}),
    "branches": (
        lambda p, x: lax.cond(x[0, 0] == X[0, 0], lambda: x @ p["w"], lambda: 2 * x @ p["u"]),
        {"w": W, "u": W},
        {"w": norm(X[:2])[:, None], "u": 2 * norm(X[2:])[:, None]},
    ),
    "remat": (jax.checkpoint(lambda p, x: jnp.sin(x @ p["w"])), {"w": W}, {"w": norm(X)[:, None]}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.*promot")
def test_activation_scores(name):
    fn, params, norms = CASES[name]
    with jax.numpy_dtype_promotion("standard"):
        halves = [(X[:2],), X[2:]]  # a tuple of arguments, or the only one
        found = pruning.activation(fn, params, halves)
    assert [k for k in norms if found[k] is None] == [k for k in norms if norms[k] is None]
    for key, want in norms.items():
        if want is not None:
            np.testing.assert_allclose(found[key], np.abs(params[key]) * want, rtol=2e-5, atol=1e-6)


def test_what_a_while_loop_multiplies_by_has_no_score():
    def fn(p, x):
        x = lax.while_loop(lambda x: x.sum() > 9, lambda x: jnp.tanh(x @ p["loop"]) + p["b"], x @ p["both"])
        return x @ p["both"]

    square = normal(6, 6)
    with pytest.warns(SpartaWarning, match=r"multiplies by it: params\['b'\], params\['loop'\]"):
        found = pruning.activation(fn, {"loop": square, "both": square, "b": normal(6)}, [X])
    assert [k for k, score in found.items() if score is None] == ["b", "loop"]


def test_a_convolution_meets_each_tap():
    found = pruning.activation(lambda p, x: conv(x, p["w"]), {"w": KERNEL}, [IMAGE])["w"]
    np.testing.assert_allclose(found, np.abs(KERNEL) * taps(IMAGE)[..., None], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_activation_of_every_float(dtype):
    params, x = {"w": W.astype(dtype)}, X.astype(dtype)
    found = pruning.activation(lambda p, x: x @ p["w"], params, [x])["w"]
    want = np.abs(np.asarray(params["w"], np.float32)) * norm(np.asarray(x, np.float32))[:, None]
    assert found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float32), want, rtol=2e-2)


def test_saliency():
    loss = lambda p, x, y: jnp.mean(jnp.square(jnp.tanh(x @ p["w"] + p["b"]) @ p["v"] - y))
    params, y = {"w": W, "b": B, "v": V, "step": jnp.int32(3)}, normal(5, 4)
    floats = {k: params[k] for k in "wbv"}
    grads = [jax.grad(loss)(floats, x, y) for x in (X, 2 * X)]
    found = pruning.saliency(loss, params, [(X, y), (2 * X, y)])
    assert found["step"] is None
    for k, w in floats.items():
        np.testing.assert_allclose(found[k], np.abs(w) * (np.abs(grads[0][k]) + np.abs(grads[1][k])) / 2, rtol=1e-5, atol=1e-6)


def test_masks_by_these_scores():
    density = 0.3
    params = {"w": W, "b": B, "v": V}
    fn = lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]
    for scores in (pruning.activation(fn, params, [X]), pruning.saliency(lambda p, x: fn(p, x).sum(), params, [X])):
        made = masks.by_score(params, scores, density=density)
        assert {k: t and t.nnz for k, t in made.items()} == {"w": round(density * 48), "b": None, "v": round(density * 32)}


def test_says_what_is_wrong():
    fn, params = lambda p, x: x @ p["w"] + p["b"], {"w": W, "b": B}
    with pytest.raises(SpartaValueError, match="at least one batch"):
        pruning.activation(fn, params, [])
    for batches in (None, {"x": X}):
        with pytest.raises(SpartaTypeError, match=f"batches is a {type(batches).__name__}; give a list"):
            pruning.activation(fn, params, batches)
    with pytest.raises(SpartaTypeError, match=r"real scalar, it is float32\[5, 8\]"):
        pruning.saliency(fn, params, [X])
    with pytest.raises(SpartaValueError, match="scores: there is no such parameter; scores are a tree like the params"):
        masks.by_score(params, lambda leaf: leaf, density=0.5)
    with pytest.raises(SpartaValueError, match=r"params\['b'\]: has no score"):
        masks.by_score(params, pruning.activation(fn, params, [X]), density=0.5, paths="b")
