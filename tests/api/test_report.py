"""The report names each product, what was done with it, and why; `verify` and `propagate` say what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import mask_of, random

import sparta_jax as sj
from sparta_jax import verify
from sparta_jax.interpreters import Facts, trace
from sparta_jax.problem import SpMM


def model(params, x):
    with jax.named_scope("up"):
        h = jax.nn.relu(x @ params["w"] + params["b"])
    return jnp.sum(jnp.sort(h @ params["v"], axis=0), axis=-1)


def scattered(shape):
    """One live block of 16x16 in every row and column of blocks: nothing is dead everywhere, so nothing is compacted away."""
    rows, columns = shape[0] // 16, shape[1] // 16
    grid = np.zeros((rows, columns), bool)
    grid[np.arange(max(rows, columns)) % rows, np.arange(max(rows, columns)) % columns] = True
    return sj.TeSA.blocks(grid, (16, 16), shape)


@pytest.fixture
def setting(rng):
    shapes = {"w": (64, 96), "b": (96,), "v": (96, 32)}
    tesa = {k: scattered(s) if len(s) == 2 else None for k, s in shapes.items()}
    return {k: random(s, rng) for k, s in shapes.items()}, tesa, random((16, 64), rng)


def test_says_what_and_why(setting):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation="xla")
    first, second = fast.report(params, x).sites
    assert (first.name, first.scope, first.m, first.k, first.n) == ("params['w']", "up", 16, 64, 96)
    assert first.epilogue == "bias+relu"
    assert second.epilogue == ""
    assert "test_report.py" in first.line
    assert second.density == pytest.approx(tesa["v"].density)
    assert first.density <= tesa["w"].density
    assert first.flops < first.dense_flops
    assert any(name == "dense_spmm" for name, _ in first.refused)


def test_packed_params_are_reported_as_they_are_stored(setting):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation="xla")
    packed = fast.pack(params, x)
    report = fast.report(packed, x)
    assert all(s.layout.startswith("bsr") and s.bytes < s.dense_bytes for s in report.sites)
    stored = sum(leaf.nbytes for _, w in packed.weights() for leaf in jax.tree.leaves(w))
    assert report.totals["bytes"] == stored


def test_structs_suffice(setting):
    params, tesa, x = setting
    structs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, x))
    fast = sj.sparsify(model, tesa)
    assert fast.report(*structs) == fast.report(params, x)


def test_prints_itself(setting):
    params, tesa, x = setting
    report = sj.sparsify(model, tesa, implementation="dense").report(params, x)
    text, page, facts = str(report), report._repr_html_(), report.to_dict()
    assert repr(report) == text
    assert "params['w']" in text
    assert "dense:" in text
    assert page.startswith("<details open><summary>cpu: 2 products")
    assert page.count("<tr") == 3
    assert "params[&#x27;w&#x27;]" in page
    assert len(facts["sites"]) == 2
    assert facts["totals"]["dense_flops"] == report.totals["dense_flops"]


def test_what_stays_dense_is_named(rng):
    tesa = sj.TeSA(mask_of((40, 48), 0.2, rng))
    whole = sj.sparsify(lambda w, x: x @ w.astype(jnp.int32), tesa)
    report = whole.report(random((40, 48), rng), jnp.ones((3, 40), jnp.int32))
    assert not report.sites
    assert "int32" in report.dense[0].reason
    assert report.dense[0].name == "w"


def test_where_facts_are_lost_is_named(rng):
    tesa = sj.TeSA(mask_of((40, 48), 0.2, rng))

    def called_back(w, x):
        return x @ jax.pure_callback(lambda w: np.abs(w), jax.typeof(w), w)

    report = sj.sparsify(called_back, tesa).report(random((40, 48), rng), random((5, 40), rng))
    assert not report.sites
    assert [s.name for s in report.without_rule] == ["pure_callback"]


@pytest.mark.parametrize("implementation", [None, "xla"])
def test_verify_finds_them_equal(setting, implementation):
    params, tesa, x = setting
    found = sj.sparsify(model, tesa, implementation=implementation).verify(params, x)
    assert found.ok
    assert found.parted is None
    assert {n for n, _ in found.gradients} == {"params['b']", "params['v']", "params['w']", "x"}


def test_verify_says_where_they_part(setting, monkeypatch):
    from sparta_jax.kernels import kernels

    params, tesa, x = setting
    kernel = kernels[SpMM]["xla_bsr_spmm"]
    run = type(kernel).run
    monkeypatch.setattr(type(kernel), "run", lambda self, problem, *rest: run(self, problem, *rest) * 1.01)
    found = sj.sparsify(model, tesa, implementation="xla").verify(params, x)
    assert not found.ok
    assert "custom_jvp_call [16, 96] in up" in found.parted
    assert "DIFFERENT" in str(found)


def test_propagate_names_every_variable(setting):
    params, tesa, x = setting
    facts = sj.propagate(model, tesa)(params, x)
    assert {f.name for f in facts.inputs} == {"params['b']", "params['v']", "params['w']", "x"}
    assert facts["params['w']"].zero == pytest.approx(1 - tesa["w"].density)
    assert facts["x"].tesa.shape == x.shape
    assert facts.outputs[0].shape == (16,)
    assert "params['v']" in str(facts)


KINKS = {1e-8: True, 5e-4: False}


@pytest.mark.parametrize("distance", KINKS)
def test_verify_knows_kinks(distance, rng):
    """Where round-off carries the argument of relu over zero, all gradients jump; elsewhere a jump is wrong."""
    w, x = (rng.normal(size=(32, 32)).astype("float32") for _ in range(2))
    x[3, 0] -= (x[3].astype("float64") @ w[:, 5] - distance) / w[0, 5]
    dense = lambda w, x: jax.nn.relu(x @ w)
    over = lambda w, x: jax.nn.relu((x @ w).at[3, 5].set(-distance))
    stage = verify.Stage(trace(dense, w, x)[0], Facts({}, {}, ()), lambda inputs, _: [over(*inputs)])
    found = verify.verify([stage], lambda leaves: leaves, [jnp.asarray(w), jnp.asarray(x)], ["w", "x"])
    assert found.error > 0.01 > max(found.outputs)
    assert found.ok == KINKS[distance]
    assert ("a kink lies there" in str(found)) == found.ok


def test_rich_prints_the_same(setting):
    console = pytest.importorskip("rich.console")
    params, tesa, x = setting
    report = sj.sparsify(model, tesa).report(params, x)
    printed = console.Console(width=200)
    with printed.capture() as captured:
        printed.print(report)
    out = captured.get()
    assert "params['w']" in out
    assert "in doubt" in out
