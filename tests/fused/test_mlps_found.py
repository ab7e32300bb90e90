"""Where sparse products one behind the other are found to be a feed-forward network, and where they are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from fused.test_attention import near

import sparta_jax as sj
from sparta_jax.products import default_device
from tests.kernels.native_cases import need_native

K, HIDDEN, ROWS = 128, 256, (3, 16 * default_device("cpu").cores)


def weights(rng):
    shapes = {"up": (K, HIDDEN), "gate": (K, HIDDEN), "down": (HIDDEN, K), "b": (HIDDEN,), "c": (K,)}
    return {name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in shapes.items()}


def plain(p, x):
    return jax.nn.relu(x @ p["up"] + p["b"]) @ p["down"] + p["c"]


def residual(p, x):
    return x + jax.nn.gelu(x @ p["up"] + p["b"], approximate=False) @ p["down"] + p["c"]


def gated(p, x):
    return (jax.nn.silu(x @ p["up"]) * (x @ p["gate"])) @ p["down"]


def gate_first(p, x):
    return x + ((x @ p["gate"] + p["b"]) * jax.nn.sigmoid(x @ p["up"])) @ p["down"]


def einsums(p, x):
    h = jnp.tanh(jnp.einsum("btk,kn->btn", x, p["up"]))
    return jnp.einsum("btn,nk->btk", h, p["down"])


def turned(p, x):
    return jnp.swapaxes(jax.nn.relu(jnp.swapaxes(x, 0, 1) @ p["up"]) @ p["down"], 0, 1)


def read_elsewhere(p, x):
    h = jax.nn.relu(x @ p["up"])
    return h @ p["down"], h


def read_by_the_gate(p, x):
    h = jax.nn.relu(x @ p["up"])
    return (h * h) @ p["down"]


def rounded_between(p, x):
    return jax.nn.relu(x @ p["up"]).astype(jnp.bfloat16).astype(jnp.float32) @ p["down"]


def rows_exchanged(p, x):
    return jnp.swapaxes(jax.nn.relu(x @ p["up"]), 0, 1) @ p["down"]


def gate_of_another(p, x):
    return (jax.nn.silu(x @ p["up"]) * (jnp.flip(x, 0) @ p["gate"])) @ p["down"]


def scaled(p, x):
    return ((x @ p["up"]) * p["b"] + 1) @ p["down"]


def three(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"]) @ p["c"]


def four(p, x):
    return jax.nn.relu(three(p, x)) @ p["d"]


def gate_in_the_middle(p, x):
    h = jnp.tanh(x @ p["a"])
    return ((h @ p["b"]) * jax.nn.sigmoid(h @ p["c"])) @ p["d"]


def dense_first(p, x):
    return three(p, x)


FOUND = [plain, residual, gated, gate_first, einsums, turned]
NOT_FOUND = [read_elsewhere, read_by_the_gate, rounded_between, rows_exchanged, gate_of_another, scaled]


def scattered(shape, seed):
    """Live elements so far apart that blocks would hold mostly zeros; every row and column has some."""
    mask = np.random.default_rng(seed).random(shape) < 0.08
    rows, columns = shape
    mask[np.arange(max(shape)) % rows, np.arange(max(shape)) % columns] = True
    return sj.TeSA(mask)


def sides(fn, rng, dtype=jnp.float32):
    params, x = weights(rng), jnp.asarray(rng.standard_normal((*ROWS, K)), dtype)
    tesa = {name: scattered(p.shape, i) if p.ndim == 2 else None for i, (name, p) in enumerate(params.items())}
    masked = {name: p if tesa[name] is None else jnp.where(tesa[name].mask, p, 0) for name, p in params.items()}
    fast = sj.sparsify(fn, tesa, implementation="native")
    return fast, fast.pack(params, x), x, masked


@need_native()
class TestFound:
    @pytest.mark.parametrize("fn", FOUND, ids=lambda f: f.__name__)
    def test_found(self, fn, rng):
        fast, packed, x, masked = sides(fn, rng)
        (record,) = fast.report(packed, x).fused
        assert (record.name, record.kernel) == ("mlp", "native_csr_mlp")
        assert f"fused: mlp {ROWS[0] * ROWS[1]}x{K}x{HIDDEN}x{K}" in str(fast.report(packed, x))
        lowered = jax.jit(fast).lower(packed, x).as_text()
        assert "sparta_csr_mlp" in lowered
        assert "sparta_csr_spmm" not in lowered
        if fn in (residual, gated):
            sides_of = lambda f, p: jax.vjp(lambda x: f(p, x), x)[1](x)  # their results have the shape of x
            near(*jax.jit(lambda packed: (sides_of(fast, packed), sides_of(fn, masked)))(packed))
        near(*jax.jit(lambda packed, x: (fast(packed, x), fn(masked, x)))(packed, x))

    @pytest.mark.parametrize("fn", NOT_FOUND, ids=lambda f: f.__name__)
    def test_not_found(self, fn, rng):
        fast, packed, x, _ = sides(fn, rng)
        assert not fast.report(packed, x).fused

    def test_params_that_come_as_they_are_are_multiplied_one_by_one(self, rng):
        fast, _, x, masked = sides(gated, rng)
        assert not fast.report(masked, x).fused
        near(fast(masked, x), gated(masked, x))

    def test_few_rows_are_multiplied_one_by_one(self, rng):
        fast, packed, x, masked = sides(residual, rng)
        (record,) = fast.report(packed, x[0, :7]).fused
        assert (record.kernel, record.implementation) == ("dense_mlp", "dense")
        assert "native_csr_mlp needs" in str(fast.report(packed, x[0, :7]))
        near(fast(packed, x[0, :7]), residual(masked, x[0, :7]))

    def test_one_vector_has_no_rows(self, rng):
        fast, _, x, masked = sides(plain, rng)
        packed = fast.pack(masked, x[0, 0])
        assert not fast.report(packed, x[0, 0]).fused
        near(fast(packed, x[0, 0]), plain(masked, x[0, 0]))

    def test_dead_columns_between(self, rng):
        params, x = weights(rng), jnp.asarray(rng.standard_normal((*ROWS, K)), jnp.float32)
        dead = scattered((K, HIDDEN), 0).mask & (np.arange(HIDDEN) % 3 > 0)
        tesa = {"up": sj.TeSA(dead), "gate": None, "down": scattered((HIDDEN, K), 1), "b": None, "c": None}
        masked = {name: p if tesa[name] is None else jnp.where(tesa[name].mask, p, 0) for name, p in params.items()}
        fast = sj.sparsify(residual, tesa, implementation="native")
        near(fast(fast.pack(params, x), x), residual(masked, x))

    def test_a_model_keeps_its_values_under_vmap_and_scan(self, rng):
        fast, packed, x, masked = sides(residual, rng)
        step = lambda f, p: lambda x: jax.lax.scan(lambda c, _: (f(p, c) / 8, None), x, None, length=3)[0]
        near(jax.jit(step(fast, packed))(x), jax.jit(step(residual, masked))(x))
        xs = jnp.stack([x, -x])
        near(jax.jit(jax.vmap(fast, (None, 0)))(packed, xs), jax.vmap(residual, (None, 0))(masked, xs))

    @pytest.mark.parametrize(
        ("fn", "layers"),
        [(three, 1), (four, 2), (gate_in_the_middle, 1), (dense_first, 1)],
        ids=lambda f: getattr(f, "__name__", f),
    )
    def test_products_in_a_row_are_each_in_one_network(self, fn, layers, rng):
        params = {n: jnp.asarray(rng.standard_normal((K, K)) / 4, jnp.float32) for n in "abcd"}
        x = jnp.asarray(rng.standard_normal((*ROWS, K)), jnp.float32)
        tesa = {n: None if fn is dense_first and n == "a" else scattered((K, K), i) for i, n in enumerate(params)}
        masked = {n: p if tesa[n] is None else jnp.where(tesa[n].mask, p, 0) for n, p in params.items()}
        fast = sj.sparsify(fn, tesa, implementation="native")
        packed = fast.pack(params, x)
        assert [f.kernel for f in fast.report(packed, x).fused] == ["native_csr_mlp"] * layers
        assert jax.jit(fast).lower(packed, x).as_text().count("sparta_csr_mlp") >= layers
        near(*jax.jit(lambda packed, x: (fast(packed, x), fn(masked, x)))(packed, x))

    def test_in_a_loop_products_stay_apart(self, rng):
        def loop(p, x):
            step = lambda carry: (carry[0] + 1, plain(p, carry[1]) / 8)
            return jax.lax.while_loop(lambda carry: carry[0] < 3, step, (0, plain(p, x)))[1]

        fast, packed, x, masked = sides(loop, rng)
        assert len(fast.report(packed, x).fused) == 1
        near(*jax.jit(lambda packed, x: (fast(packed, x), loop(masked, x)))(packed, x))

    @pytest.mark.slow
    def test_training_on_compressed_params(self, rng):
        fast, _, x, masked = sides(residual, rng)
        params = fast.compress(masked, x)
        assert [f.name for f in fast.report(params, x).fused] == ["mlp"]
        loss = lambda f: jax.jit(jax.value_and_grad(lambda p: jnp.sum(f(p, x) ** 2)))
        (got, gradient), (want, dense) = loss(fast)(params), loss(residual)(masked)
        near(got, want)
        live = {n: jnp.where(masked[n] != 0, g, 0) for n, g in dense.items()}
        near(gradient.unpacked(), live)

    def test_halves_are_not_rounded_between(self, rng):
        halves = lambda p, x: plain(jax.tree.map(lambda a: a.astype(jnp.bfloat16), p), x)
        fast, _, x, masked = sides(halves, rng, dtype=jnp.bfloat16)
        packed = fast.pack(masked, x)
        assert [f.kernel for f in fast.report(packed, x).fused] == ["native_csr_mlp"]
        exact = plain(jax.tree.map(lambda a: a.astype(jnp.bfloat16).astype(jnp.float32), masked), x.astype(jnp.float32))
        near(fast(packed, x), exact, 4e-3)

    def test_flax(self, rng):
        class Block(nn.Module):
            @nn.compact
            def __call__(self, x):
                h = nn.LayerNorm()(x)
                return x + nn.Dense(K)(nn.gelu(nn.Dense(HIDDEN)(h)))

        x = jnp.asarray(rng.standard_normal((*ROWS, K)), jnp.float32)
        params = Block().init(jax.random.key(0), x)
        tesa = jax.tree.map(lambda p: scattered(p.shape, p.shape[0]) if p.ndim == 2 else None, params)
        masked = jax.tree.map(
            lambda t, p: p if t is None else jnp.where(t.mask, p, 0), tesa, params, is_leaf=lambda t: t is None
        )
        fast = sj.sparsify(Block().apply, tesa, implementation="native")
        packed = fast.pack(params, x)
        assert [f.kernel for f in fast.report(packed, x).fused] == ["native_csr_mlp"]
        near(fast(packed, x), Block().apply(masked, x))
