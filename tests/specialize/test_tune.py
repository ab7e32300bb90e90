"""Tuning: the measured winner is taken, answers stay exact, and what was timed is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparta_jax as sj
from sparta_jax.api.tune import products_in
from sparta_jax.errors import SpartaTypeError, SpartaValueError
from sparta_jax.machine import forget, read
from sparta_jax.problem import DENSE, SDDMM, Layout
from sparta_jax.products import default_device
from sparta_jax.specialize import tuning

SHAPE = (256, 192)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_CACHE_DIR", str(tmp_path))
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def times(monkeypatch):
    """Injected: `times[name]` for kernels of that name, or of that name and config, a second for all others; and a log."""
    table, log = {}, []

    def measure(plans):
        log.append(plans[0].problem)
        named = lambda p: table.get(f"{p.kernel.name} {p.config}".strip(), table.get(p.kernel.name, 1.0))
        return {(p.kernel.name, str(p.config)): named(p) for p in plans}

    monkeypatch.setattr(tuning, "measure", measure)
    table["log"] = log
    return table


@pytest.fixture
def case(rng):
    """A function of one block-sparse weight, its weight and x, and the exact result."""
    mask = (rng.random((16, 12)) < 0.2).repeat(16, 0).repeat(16, 1)
    w, x = rng.standard_normal(SHAPE, np.float32), rng.standard_normal((32, SHAPE[0]), np.float32)
    exact = x.astype(float) @ np.where(mask, w, 0)
    return sj.sparsify(lambda w, x: x @ w, sj.TeSA(mask)), jnp.asarray(w), jnp.asarray(x), exact


def error(y, exact) -> float:
    return float(np.linalg.norm(np.asarray(y, float) - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("winner", ["dense_spmm", "native_bsr_spmm"])
def test_the_measured_winner_is_taken(winner, times, case):
    fast, w, x, exact = case
    times[winner] = 0.5
    (site,) = fast.tune(w, x).sites
    assert site.kernel == winner
    assert site.measured
    assert site.seconds == 0.5
    assert error(fast(w, x), exact) < 1e-5
    packed = fast.pack(w, x)
    (site,) = fast.report(packed, x).sites
    assert (site.layout == "dense") == (winner == "dense_spmm")
    assert site.kernel == winner
    assert error(fast(packed, x), exact) < 1e-5


@pytest.mark.parametrize("block", [(16, 16), (32, 32)])
def test_pack_follows_the_layout_that_was_measured_best(block, times, case):
    fast, w, x, exact = case
    times[f"native_bsr_spmm {block[0]}x{block[1]}"] = 0.25
    fast.tune(w, x)
    timed = {problem.layout for problem in times["log"]}
    assert DENSE in timed
    packed = fast.pack(w, x)
    layout = fast.report(packed, x).sites[0].layout
    assert layout == (str(Layout("bsr", block)) if Layout("bsr", block) in timed else "dense")
    assert error(fast(packed, x), exact) < 1e-5


def test_what_would_be_packed_in_every_call_is_packed_once(times, case, monkeypatch):
    """Even where a disturbed measurement says that this is slower."""
    fast, w, x, _ = case
    monkeypatch.setattr(
        tuning,
        "measure",
        lambda plans: (
            {(p.kernel.name, str(p.config)): 0.5 if p.problem.layout == DENSE else 0.6 for p in plans}
            | ({("dense_spmm", ""): 1.0} if plans[0].problem.layout == DENSE else {})
        ),
    )
    fast.tune(w, x)
    assert fast.report(fast.pack(w, x), x).sites[0].layout != "dense"


def test_a_near_tie_stays_dense(times, case):
    fast, w, x, _ = case
    times["native_bsr_spmm"] = 0.98
    assert fast.tune(w, x).sites[0].kernel == "dense_spmm"
    assert fast.pack(w, x).nbytes == w.nbytes


@pytest.mark.parametrize(("seconds", "kernel"), [(0.9, "dense_spmm"), (0.8, "native_bsr_spmm")])
def test_what_the_model_doubts_must_be_clearly_faster(seconds, kernel, times, rng, monkeypatch):
    mask = np.ones(SHAPE, bool)
    mask[:16, :16] = False
    w, x = jnp.asarray(rng.standard_normal(SHAPE, np.float32)), jnp.ones((1, SHAPE[0]))
    fast = sj.sparsify(lambda w, x: x @ w, sj.TeSA(mask))
    monkeypatch.setattr(tuning, "HOPELESS", 1e9)
    times["native_bsr_spmm"] = seconds
    assert fast.tune(w, x).sites[0].kernel == kernel


def test_packed_params_are_tuned_in_their_layout(times, case):
    fast, w, x, exact = case
    packed = fast.pack(w, x)
    layout = fast.report(packed, x).sites[0].layout
    times["native_bsr_spmm"] = 0.5
    assert fast.tune(packed, x).sites[0].measured
    assert {str(problem.layout) for problem in times["log"]} == {layout}
    assert error(fast(packed, x), exact) < 1e-5


def test_other_shapes_keep_the_model(times, case):
    fast, w, x, exact = case
    times["dense_spmm"] = 0.1
    fast.tune(w, x)
    assert not fast.report(w, x[:8]).sites[0].measured
    assert error(fast(w, x[:8]), exact[:8]) < 1e-5


def test_a_forced_implementation_stays_forced(times, case):
    _, w, x, _ = case
    fast = sj.sparsify(lambda w, x: x @ w, sj.TeSA(np.asarray(w) > 1), implementation="xla")
    times["dense_spmm"] = 0.1
    assert fast.tune(w, x).sites[0].implementation == "xla"


def test_gradients_stay_exact(times, case):
    fast, w, x, _ = case
    loss = lambda w: jnp.sum(fast(w, x) ** 2)
    before = jax.grad(loss)(w)
    times["dense_spmm"] = 0.1
    fast.tune(w, x)
    assert error(jax.grad(loss)(w), np.asarray(before, float)) < 1e-5


def layers(params, x):
    """Two products in a loop that stays one, and one that is checkpointed."""
    hidden, _ = jax.lax.scan(lambda h, _: (jnp.tanh(h @ params["loop"]), None), x, length=2)
    return jax.checkpoint(lambda h: jax.nn.relu(h @ params["last"] + params["bias"]))(hidden), jnp.argmax(hidden)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_gradients_products_are_timed(compressed, times, rng):
    blocks = lambda rows, columns: (rng.random((rows, columns)) < 0.3).repeat(16, 0).repeat(16, 1)
    masks = {"loop": blocks(8, 8), "last": blocks(8, 6), "bias": None}
    params = {"loop": np.zeros((128, 128)), "last": np.zeros((128, 96)), "bias": np.zeros(96)}
    params = {name: jnp.asarray(rng.standard_normal(w.shape, np.float32)) for name, w in params.items()}
    x = jnp.asarray(rng.standard_normal((64, 128), np.float32))
    fast = sj.sparsify(layers, masks, unroll=False)
    given = fast.compress(params) if compressed else params
    times["native_bsr_sddmm"] = times["native_bsr_spmm"] = 0.25
    fast.tune(given, x, gradients=None if compressed else True)
    kinds = {(type(p).__name__, getattr(p, "transposed", False)) for p in times["log"]}
    assert kinds == {("SpMM", False), ("SpMM", True), ("SDDMM", False)}
    asked = products_in(jax.make_jaxpr(jax.grad(lambda p: jnp.sum(fast(p, x)[0] ** 2)))(given), default_device("cpu"))
    assert set(asked) <= set(fast._chooser.tuned.seconds)


def test_a_gradient_is_timed_where_it_is_asked_for(times, case):
    fast, w, x, _ = case
    fast.tune(w, x)
    assert not any(isinstance(p, SDDMM) for p in times["log"])
    with pytest.raises(SpartaTypeError, match="packed"):
        fast.tune(fast.pack(w, x), x, gradients=True)


def test_static_arguments_of_a_gradient(times, rng):
    fast = sj.sparsify(lambda w, x, flag, scale: x @ w if flag else x, np.eye(64) > 0, static_argnames=("flag", "scale"))
    w, x = jnp.asarray(rng.standard_normal((64, 64), np.float32)), jax.ShapeDtypeStruct((8, 64), np.float32)
    fast.tune(w, x, True, scale=2, gradients=True)
    assert any(isinstance(p, SDDMM) for p in times["log"])


def test_cached_times_are_not_measured_again(times, case):
    fast, w, x, _ = case
    times["native_bsr_spmm"] = 0.5
    first = fast.tune(w, x, cached=True)
    count = len(times["log"])
    times["native_bsr_spmm"] = 2.0
    again = sj.sparsify(lambda w, x: x @ w, fast.pack(w, x).tesa)
    assert again.tune(w, x, cached=True).sites[0].seconds == first.sites[0].seconds == 0.5
    assert len(times["log"]) == count
    assert again.tune(w, x).sites[0].seconds == 1.0
    assert len(times["log"]) == 2 * count


def test_a_damaged_entry_is_measured_again(times, case, cache):
    fast, w, x, _ = case
    fast.tune(w, x, cached=True)
    (file,) = cache.iterdir()
    file.write_text(file.read_text().replace(": 1.0", ': "fast"'))
    count = len(times["log"])
    fast.tune(w, x, cached=True)
    assert len(times["log"]) == 2 * count
    assert file.name.startswith("tuned-")


def test_nothing_to_tune(times, rng):
    fast = sj.sparsify(lambda w, x: x @ w, None)
    x = jnp.asarray(rng.standard_normal((4, 8), np.float32))
    assert fast.tune(jnp.ones((8, 8)), x).sites == ()
    assert not times["log"]
    assert read("tuned", {"cpu": ""}) is None


def test_another_platform_is_refused(case):
    _, w, x, _ = case
    with pytest.raises(SpartaValueError, match="cuda"):
        sj.sparsify(lambda w, x: x @ w, None, platform="cuda").tune(w, x)


def test_timed_for_real(case):
    fast, w, x, exact = case
    (site,) = fast.tune(jax.ShapeDtypeStruct(w.shape, w.dtype), jax.ShapeDtypeStruct(x.shape, x.dtype)).sites
    assert site.measured
    assert 0 < site.seconds < 10
    assert error(fast(w, x), exact) < 1e-5
