"""Channels that must die together are found, and what is left of them is the network cut by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from models.models import distance
from pruning.networks import NETWORKS

import sparta_jax as sj
from sparta_jax import pruning
from sparta_jax.errors import SpartaError

SLOW = [pytest.param(n, marks=pytest.mark.slow) if n not in ("residual perceptron", "grouped queries") else n for n in NETWORKS]


def told(groups):
    """The groups as `(channels, 'param axis, ...')`, sorted."""
    name = lambda s: f"{s.path} {s.axis}"
    return sorted((g.channels, ", ".join(name(s) for s in g.slices)) for g in groups)


@pytest.mark.parametrize("name", NETWORKS)
def test_finds_what_must_die_together(name):
    fn, params, x, want = NETWORKS[name]
    shapes = jax.eval_shape(lambda: params)
    assert told(pruning.groups(fn, shapes, x)) == sorted(want)
    assert told(pruning.groups(jax.jit(fn), params, x)) == sorted(want)


def cut(params, tesas):
    """The params without their dead slices."""
    whole = lambda w: sj.TeSA.dense(w.shape)
    masks = {k: tesas[k] or whole(w) for k, w in params.items()}
    return {k: w[np.ix_(*(np.flatnonzero(masks[k].channel_mask(d)) for d in range(w.ndim)))] for k, w in params.items()}


def flops(fn, *args):
    return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("name", SLOW)
def test_what_is_left_is_the_network_cut_by_hand(name):
    fn, params, x, _ = NETWORKS[name]
    tesas = pruning.structured(fn, params, x, density=0.5)
    small = cut(params, tesas)
    fast = sj.sparsify(fn, tesas, implementation="xla")
    packed = fast.pack(params, x)
    assert distance([fast(packed, x)], [fn(small, x)]) <= 1e-5
    assert 0.95 <= flops(fast, packed, x) / flops(fn, small, x) <= 1.05
    assert packed.nbytes <= 1.05 * sum(w.nbytes for w in small.values())
    sizes = {weight: live for weight, _, live in fast.report(params, x).compaction.narrowed}
    assert sizes == {f"p['{k}']": w.shape for k, w in small.items() if tesas[k] is not None}


@pytest.mark.parametrize("density", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_as_many_channels_live_as_the_density_says(name, density):
    fn, params, x, _ = NETWORKS[name]
    tesas = pruning.structured(fn, params, x, density=density)
    for group in pruning.groups(fn, params, x):
        first = None
        for s in group.slices:
            along = np.ones(s.shape[s.axis], bool) if tesas[s.path] is None else tesas[s.path].channel_mask(s.axis)
            kept = np.array([along[s.channel == i].all() for i in range(group.channels)])
            assert kept.sum() == round(density * group.channels)
            assert not any(along[s.channel == i].any() for i in np.flatnonzero(~kept))
            first = kept if first is None else first
            assert (kept == first).all()


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_a_global_budget(density):
    fn, params, x, _ = NETWORKS["perceptron"]
    tesas = pruning.structured(fn, params | {"w3": params["w3"] * 100}, x, density=density, scope="global")
    live = [64 if tesas["b1"] is None else tesas["b1"].nnz, 48 if tesas["b2"] is None else tesas["b2"].nnz]
    assert sum(live) == round(density * 112)
    assert live[1] == min(48, round(density * 112))  # the second group's channels are the loud ones


def test_scores_and_paths():
    fn, params, x, _ = NETWORKS["transformer"]
    scores = {k: np.zeros_like(w) for k, w in params.items()}
    scores["down"][5:10] = 1
    tesas = pruning.structured(fn, params, x, density=5 / 96, scores=scores, paths="gate|up|down")
    assert [k for k in params if tesas[k] is not None] == ["gate", "up", "down"]
    assert np.flatnonzero(tesas["up"].channel_mask(1)).tolist() == [5, 6, 7, 8, 9]


# -- how operations pass channels on: (fn, shapes of the params, the groups); the data is [2, 6, 12]

LAST, HEADS, STACK = (12, 8), (12, 4, 8), (3, 8, 8)


def fused(p, x):
    """One weight makes queries, keys and values."""
    qkv = (x @ p["qkv"]).reshape(2, 6, 3, 4, 2)
    q, k, v = (qkv[:, :, i] for i in range(3))
    weights = jax.nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", q, k))
    return jnp.einsum("bhqk,bkhe->bqhe", weights, v).reshape(2, 6, 8) @ p["o"]


def rotated(p, x):
    """Rotary positions turn the two halves of each head."""
    split = lambda name: (x @ p[name]).reshape(2, 6, 4, 2)
    turn = lambda y: jnp.concatenate([y[..., :1] * 0.5 - y[..., 1:] * 0.8, y[..., :1] * 0.8 + y[..., 1:] * 0.5], -1)
    weights = jax.nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", turn(split("q")), turn(split("k"))))
    return jnp.einsum("bhqk,bkhe->bqhe", weights, split("v")).reshape(2, 6, 8) @ p["o"]


def normed_heads(p, x):
    """A norm per head whose scale all heads share."""
    y = (x @ p["q"]).reshape(2, 6, 4, 2)
    y = y / jnp.sqrt(jnp.square(y).mean(-1, keepdims=True) + 1e-6) * p["s"]
    return y.reshape(2, 6, 8) @ p["o"]


def group_norm(p, x):
    y = (x @ p["a"]).reshape(2, 6, 4, 2)
    y = y - y.mean((1, 3), keepdims=True)
    return y.reshape(2, 6, 8) @ p["b"]


def layer_norm(p, x):
    h = x @ p["a"]
    h = h - h.mean(-1, keepdims=True)
    return (h * lax.rsqrt(jnp.square(h).mean(-1, keepdims=True)) * p["s"]) @ p["b"]


def scanned(p, x):
    h = lax.scan(lambda h, w: (h + jax.nn.relu(h @ w), None), x @ p["a"], p["w"])[0]
    return h @ p["b"]


def flattened(p, x):
    y = lax.reduce_window(x[..., None] * p["c"], -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return y.reshape(2, -1) @ p["b"]


def mixture(p, x):
    """Experts in a batch."""
    h = jnp.einsum("bsd,edf->bsef", x, p["up"])
    return jnp.einsum("bsef,efd->bsd", jax.nn.relu(h), p["down"])


OPERATIONS = {
    "gated halves": (
        lambda p, x: (lambda a, b: a * jax.nn.sigmoid(b))(*jnp.split(x @ p["a"], 2, -1)) @ p["b"],
        {"a": (12, 16), "b": (8, 5)},
        [(8, "a 1, b 0")],
    ),
    "concatenated": (
        lambda p, x: jnp.concatenate([x @ p["a"], x @ p["c"]], -1) @ p["b"],
        {"a": LAST, "c": (12, 3), "b": (11, 5)},
        [(3, "b 0, c 1"), (8, "a 1, b 0")],
    ),
    "transposed": (lambda p, x: p["b"] @ (x @ p["a"]).transpose(0, 2, 1), {"a": LAST, "b": (5, 8)}, [(8, "a 1, b 1")]),
    "reversed": (lambda p, x: (x @ p["a"])[..., ::-1] @ p["b"], {"a": LAST, "b": (8, 5)}, [(8, "a 1, b 0")]),
    "padded": (
        lambda p, x: jnp.pad(x @ p["a"], [(0, 0), (0, 0), (1, 2)]) @ p["b"],
        {"a": LAST, "b": (11, 5)},
        [(8, "a 1, b 0")],
    ),
    "three axes": (
        lambda p, x: jnp.einsum("bshw,hwd->bsd", jnp.einsum("bsd,dhw->bshw", x, p["a"]), p["b"]),
        {"a": HEADS, "b": (4, 8, 5)},
        [(4, "a 1, b 0"), (8, "a 2, b 1")],
    ),
    "fused heads": (fused, {"qkv": (12, 24), "o": (8, 5)}, [(4, "o 0, qkv 1")]),
    "rotary heads": (rotated, {"q": LAST, "k": LAST, "v": LAST, "o": (8, 5)}, [(4, "k 1, o 0, q 1, v 1")]),
    "normed heads": (normed_heads, {"q": LAST, "s": (2,), "o": (8, 5)}, [(4, "o 0, q 1")]),
    "layer norm": (layer_norm, {"a": LAST, "s": (8,), "b": (8, 5)}, [(8, "a 1, b 0, s 0")]),
    "group norm": (group_norm, {"a": LAST, "b": (8, 5)}, [(4, "a 1, b 0")]),
    "a scan": (scanned, {"a": LAST, "w": STACK, "b": (8, 5)}, [(8, "a 1, b 0, w 1, w 2")]),
    "a branch": (
        lambda p, x: lax.cond(x[0, 0, 0] > 0, jnp.tanh, lambda h: h + p["s"], x @ p["a"]) @ p["b"],
        {"a": LAST, "s": (8,), "b": (8, 5)},
        [(8, "a 1, b 0, s 0")],
    ),
    "a while loop": (
        lambda p, x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] @ p["w"]), (0, x @ p["a"]))[1] @ p["b"],
        {"a": LAST, "w": (8, 8), "b": (8, 5)},
        [(8, "a 1, b 0, w 0, w 1")],
    ),
    "remat": (jax.checkpoint(lambda p, x: jnp.sin(x @ p["a"]) @ p["b"]), {"a": LAST, "b": (8, 5)}, [(8, "a 1, b 0")]),
    "pooled and flattened": (flattened, {"c": (4,), "b": (72, 5)}, [(4, "b 0, c 0")]),
    "experts": (mixture, {"up": (3, 12, 8), "down": (3, 8, 12)}, [(3, "down 0, up 0"), (8, "down 1, up 2")]),
    "a grouped convolution": (
        lambda p, x: (
            lax.conv_general_dilated(
                x @ p["a"], p["c"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=2
            )
            @ p["b"]
        ),
        {"a": LAST, "c": (3, 4, 6), "b": (6, 5)},
        [(2, "a 1, b 0, c 2")],
    ),
    "one channel": (lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], {"a": (12, 1), "b": (1, 5)}, []),
    "rows that are not read": (
        lambda p, x: (x @ p["a"] + p["t"][:6]) @ p["b"],
        {"a": LAST, "t": (9, 8), "b": (8, 5)},
        [(8, "a 1, b 0, t 1")],
    ),
    "an output": (lambda p, x: x @ p["a"], {"a": LAST}, []),
    "a sorted axis": (lambda p, x: jnp.sort(x @ p["a"], -1) @ p["b"], {"a": LAST, "b": (8, 5)}, []),
    "an unknown primitive": (lambda p, x: jnp.fft.fft(x @ p["a"]).real @ p["b"], {"a": LAST, "b": (8, 5)}, []),
    "a residual of the data": (lambda p, x: (x + x @ p["a"]) @ p["b"], {"a": (12, 12), "b": (12, 5)}, []),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    fn, shapes, want = OPERATIONS[name]
    params = {k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in shapes.items()}
    assert told(pruning.groups(fn, params, jax.ShapeDtypeStruct((2, 6, 12), jnp.float32))) == sorted(want)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in OPERATIONS.items() if case[2]])
def test_masks_of_them_are_exact(name):
    fn, shapes, _ = OPERATIONS[name]
    rng = np.random.default_rng(0)
    params = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    x = rng.normal(size=(2, 6, 12)).astype(np.float32)
    tesas = pruning.structured(fn, params, x, density=0.5)
    masked = {k: w if tesas[k] is None else w * tesas[k].mask for k, w in params.items()}
    assert any(t is not None for t in tesas.values())
    assert distance([sj.sparsify(fn, tesas)(params, x)], [fn(masked, x)]) <= 1e-5


REFUSED = {
    "a density above 1": (dict(density=2), r"density 2 is outside \[0, 1\]"),
    "a scope of weights": (dict(density=0.5, scope="erk"), "scope='erk' is of weights"),
    "a path that is not there": (dict(density=0.5, paths="w9"), "'w9' is found in no path"),
    "half a group": (dict(density=0.5, paths="w1"), r"(?s)paths='w1' hit all weights of no group.*64 channels: params\['b1'\]"),
    "scores that are missing": (dict(density=0.5, scores={"w1": np.ones((20, 64))}), r"params\['w2'\]: has no score"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_says_what_is_wrong(name):
    options, message = REFUSED[name]
    fn, params, x, _ = NETWORKS["perceptron"]
    with pytest.raises(SpartaError, match=message):
        functools.partial(pruning.structured, fn, params, x)(**options)
