"""Compaction leaves out what is dead and nothing else: values, gradients and the work that is left, over a table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.compaction import CASES
from api.programs import assert_near, assert_sides_near
from batches import batches

import sparta_jax as sj
from sparta_jax.api import analysis
from sparta_jax.interpreters.compact import price


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_is_what_is_live(name):
    case = CASES[name]
    params, x = case.draw()
    compaction = sj.sparsify(case.fn, case.masks()).report(params, x).compaction
    assert compaction.flops == 2 * case.left
    assert compaction.flops < compaction.whole_flops


@pytest.mark.parametrize("names", batches(CASES, 8))
def test_equals_the_masked_program(names, monkeypatch):
    """So do its gradients, and what it computes of packed params."""
    monkeypatch.setattr(analysis, "pays", lambda *_: True)
    monkeypatch.setattr(price, "MOVED", 0.0)  # whatever can be left out is, at these sizes too
    assert_sides_near({n: functools.partial(both_sides, CASES[n]) for n in names}, {n: CASES[n].draw() for n in names})


def both_sides(case, params, x):
    masks = case.masks()
    fast = sj.sparsify(case.fn, masks)
    masked = lambda p, x: case.fn({k: v if masks[k] is None else jnp.where(masks[k], v, 0) for k, v in p.items()}, x)

    def loss(fn, p):
        y = fn(p, x)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)), y

    got, want = (jax.grad(functools.partial(loss, fn), has_aux=True)(params) for fn in (fast, masked))
    return (got, fast(fast.pack(params, x), x)), (want, want[1])


def test_a_channel_pruned_weight_with_blocks_inside_is_compacted_and_block_sparse():
    rng = np.random.default_rng(0)
    grid = rng.random((8, 8)) < 0.2
    grid[np.arange(8), np.arange(8) % 4] = True
    mask = np.kron(grid, np.ones((16, 16), bool))
    mask[:, 64:] = False
    w, x = jnp.asarray(rng.standard_normal((128, 128)), jnp.float32), jnp.ones((64, 128))
    fast = sj.sparsify(lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"], {"w": sj.TeSA(mask), "v": None}, implementation="xla")
    report = fast.report({"w": w, "v": w}, x)
    (site,) = report.sites
    assert report.compaction.taken
    assert (site.k, site.n) == (128, 64)
    assert site.layout.startswith("bsr") or site.kernel == "xla_bsr_spmm"


@pytest.mark.parametrize("mode", ["fill", "clip", "wrap"])
def test_rows_of_an_embedding_that_are_zero_are_not_stored(mode):
    mask = np.zeros((40, 256), bool)
    mask[[0, 3, 17, 39]] = True
    params = {"e": jnp.asarray(np.random.default_rng(0).standard_normal((40, 256)), jnp.float32)}
    ids = jnp.asarray([[0, 1, 17], [39, 38, 3], [45, -1, -50]])
    embed = lambda p, ids: jnp.take(p["e"], ids, axis=0, mode=mode)
    fast = sj.sparsify(embed, {"e": mask})
    packed = fast.pack(params, ids)
    assert packed.nbytes == 5 * 256 * 4
    want = jax.jit(embed)({"e": np.where(mask, params["e"], 0)}, ids)
    np.testing.assert_array_equal(fast(packed, ids), want)
    np.testing.assert_array_equal(fast(params, ids), want)


def test_another_length_reads_the_same_compacted_params():
    rng = np.random.default_rng(0)
    shapes = {"e": (20, 8), "position": (32, 8), "w": (8, 64), "b": (64,), "v": (64, 8)}
    params = {k: jnp.asarray(rng.standard_normal(s), jnp.float32) for k, s in shapes.items()}

    def encode(p, ids):
        x = p["e"][ids] + jnp.take(p["position"], jnp.arange(ids.shape[1]), axis=0) + p["position"][: ids.shape[1]]
        return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]

    live = np.arange(64) < 20
    fast = sj.sparsify(encode, {"w": sj.TeSA.channels(live, 1, (8, 64)), **dict.fromkeys(("b", "e", "position", "v"))})
    packed = fast.pack(params, jnp.zeros((2, 8), jnp.int32))
    assert packed.compacted
    for shape in ((2, 8), (1, 20), (5, 3)):
        ids = jnp.asarray(rng.integers(0, 20, shape), jnp.int32)
        assert_near(fast(packed, ids), jax.jit(encode)({**params, "w": np.where(live, params["w"], 0)}, ids))


def test_what_costs_more_than_it_saves_is_left_whole():
    mask = np.ones((256, 256), bool)
    mask[:, 17] = False
    params, x = {"w": jnp.ones((256, 256))}, jnp.ones((8, 256))
    fast = sj.sparsify(lambda p, x: x + jnp.cumsum(jnp.sort(x @ p["w"]), -1), {"w": mask})
    report = fast.report(params, x)
    assert not report.compaction.taken
    assert "costs more than it saves" in str(report)


LIVE = [0, 2, 5]
B0 = jnp.asarray([0.0, 1.3, 0.0, 0.7, 2.1, 0.0])  # behind a live column the data make it positive


@jax.custom_jvp
def root_of_product(a, b):
    return jnp.sqrt(a * b)


@root_of_product.defjvp
def root_of_product_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    root = jnp.sqrt(a * b)
    return root, 0.5 / root * (da * b + a * db)


def normalised_loop(p, h):
    """Of a carry of zeros the norm's derivative is not finite."""

    def step(carry, _):
        h, kept = carry
        h = h @ p["u"]
        h = h / jnp.linalg.norm(h, axis=-1, keepdims=True)
        return (h, jnp.tanh(kept * p["s"])), kept

    (h, kept), all_kept = jax.lax.scan(step, (h, jnp.broadcast_to(p["b"], h.shape)), None, length=3)
    return h + kept + all_kept.sum(0)


NONSENSE = {
    "quotient": lambda p, h: p["s"] / (h * h + p["b"]),
    "power": lambda p, h: jnp.power(h * h + p["b"], p["s"]),
    "beside others": lambda p, h: p["s"] / jnp.where(np.isin(np.arange(6), LIVE), h * h, p["b"]),
    "inside remat": lambda p, h: jax.checkpoint(lambda h, b, s: jnp.sqrt(h * s + b) * s)(h * h, p["b"], p["s"]),
    "custom derivative": lambda p, h: root_of_product(jnp.where(np.isin(np.arange(6), LIVE), h * h, p["b"]), p["s"]),
    "inside a loop": normalised_loop,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_stands_for_live_elements_reaches_no_gradient(name, monkeypatch):
    monkeypatch.setattr(analysis, "pays", lambda *_: True)
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.uniform(0.5, 1.5, shape), jnp.float32)
    params = {"w": draw(8, 6), "b": B0, "s": draw(6), "u": draw(6, 6), "v": draw(6, 4)}
    mask = np.isin(np.arange(6), LIVE) & np.ones((8, 1), bool)
    x = draw(3, 8) / 8
    fn = lambda p, x: NONSENSE[name](p, x @ p["w"]) @ p["v"]
    fast = sj.sparsify(fn, {"w": mask, "b": None, "s": None, "u": None, "v": None})
    masked = lambda p, x: fn({**p, "w": jnp.where(mask, p["w"], 0)}, x)
    loss = lambda fn: lambda p: jnp.sum(jnp.sin(fn(p, x)))
    twice = lambda f: jax.grad(lambda p: sum(jnp.sum(g * g) for g in jax.tree.leaves(jax.grad(f)(p))))
    got, want = jax.jit(lambda p: [[of(loss(f))(p) for of in (jax.grad, twice)] for f in (fast, masked)])(params)
    assert_near(got, want)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32])
def test_lookups_of_dead_rows_are_neither_sorted_nor_unique(dtype, monkeypatch):
    monkeypatch.setattr(analysis, "pays", lambda *_: True)
    mask = np.zeros((300, 8), bool)
    mask[[1, 4, 70, 290]] = True
    params, ids = {"e": jnp.asarray(np.random.default_rng(0).standard_normal((300, 8)), jnp.float32)}, jnp.arange(0, 80, 2)
    look = lambda p, ids: p["e"].at[ids].get(mode="clip", indices_are_sorted=True, unique_indices=True)
    fast = sj.sparsify(look, {"e": mask})
    want = jax.jit(look)({"e": np.where(mask, params["e"], 0)}, ids)
    np.testing.assert_array_equal(fast(params, ids.astype(dtype)), want)
    assert "indices_are_sorted=True" not in str(jax.make_jaxpr(fast)(params, ids.astype(dtype)))


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize(
    "select", [lambda need, r: jnp.where(need, r, 0), lambda need, r: r * need.astype(r.dtype)], ids=["where", "product"]
)
def test_what_nobody_needs_is_no_divisor(select, pays, monkeypatch):
    monkeypatch.setattr(analysis, "pays", lambda *_: pays)
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.uniform(0.5, 1.5, shape), jnp.float32)
    params, x, lower = (
        {"w": draw(8, 6), "b": draw(6), "q": draw(8, 6), "v": draw(6, 4)},
        draw(6, 8),
        np.tril(np.ones((6, 6), bool)),
    )
    mask = np.isin(np.arange(6), LIVE) & np.ones((8, 1), bool)
    fn = lambda p, x: select(~lower, (x @ p["q"]) / jnp.where(lower, (x @ p["w"]) ** 2 + 1, p["b"])) @ p["v"]
    fast = sj.sparsify(fn, {"w": mask, "b": None, "q": None, "v": None})
    masked = lambda p, x: fn({**p, "w": jnp.where(mask, p["w"], 0)}, x)
    of = lambda fn: lambda p: (fn(p, x), jax.grad(lambda p: jnp.sum(jnp.sin(fn(p, x))))(p))
    got, want = jax.jit(lambda p: [of(fn)(p) for fn in (fast, masked)])(params)
    assert_near(got, want)


def test_effects_beside_constants_happen_once(monkeypatch):
    monkeypatch.setattr(analysis, "pays", lambda *_: True)
    seen = []

    def fn(p, x):
        def step(carry, _):
            jax.debug.callback(lambda _: seen.append(1), carry[0, 0])
            return jnp.tanh(carry + p["b"]), None

        carry, _ = jax.lax.scan(step, jnp.broadcast_to(p["b"], (3, 6)), None, length=2)
        return jnp.concatenate([x @ p["w"], carry], -1) @ jnp.concatenate([p["w"], p["w"]], 1).T

    mask = np.isin(np.arange(6), LIVE) & np.ones((8, 1), bool)
    sj.sparsify(fn, {"w": mask, "b": None})({"w": jnp.ones((8, 6)), "b": jnp.ones(6)}, jnp.ones((3, 8))).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == 2


def test_random_keys_of_which_branches_use_some(monkeypatch):
    monkeypatch.setattr(analysis, "pays", lambda *_: True)
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.standard_normal((8, 6)), jnp.float32)}
    mask, x = np.isin(np.arange(6), LIVE) & np.ones((8, 1), bool), jnp.ones((3, 8))

    def fn(p, x):
        keys = jax.random.split(jax.random.key(1), 4)
        drop = lambda key, y: jnp.where(jax.random.bernoulli(key, 0.5, y.shape), y, 0) @ p["w"].T
        return jax.lax.cond(x[0, 0] > 0, lambda k, y: drop(k[0], y), lambda k, y: drop(k[::-1][0], y), keys, x @ p["w"])

    assert_near(sj.sparsify(fn, {"w": mask})(params, x), jax.jit(fn)({"w": np.where(mask, params["w"], 0)}, x))
