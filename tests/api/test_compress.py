"""Compressed params: one array per param, live elements only; calls and gradients equal those of masked params."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.masked_model import MASKS, PARAMS, RNG, SHAPES, TESA, TOKENS, fast, loss, masks, model
from api.programs import LAYOUTS, assert_near, mask_of, masked, random

import sparta_jax as sj
from sparta_jax.compressed import Channels, Flat, Matrices, Whole
from sparta_jax.errors import PackedError, SpartaTypeError

QUICK = ("heads in", "two readers", "remat")


@pytest.mark.parametrize("implementation", ["native", pytest.param("xla", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in LAYOUTS])
def test_every_layout(name, implementation, rng):
    case = LAYOUTS[name]
    tesa, w, x = sj.TeSA(mask_of(case.w, 0.4, rng)), random(case.w, rng), random(case.x, rng)
    sparse = sj.sparsify(case.fn, tesa, implementation=None if "cast" in name or "type" in name else implementation)
    lean = sparse.compress(w, x)
    assert jax.tree.structure(lean.values) == jax.tree.structure(w)
    y, g = jax.jit(jax.value_and_grad(loss(sparse)))(lean, x)
    want, dense = jax.jit(jax.value_and_grad(loss(masked(case.fn, tesa))))(w, x)
    tolerance = 2e-2 if "cast" in name or "type" in name else 1e-5
    assert_near([y, sparse.unpack(g)], [want, dense], tolerance)


@pytest.mark.parametrize(("implementation", "call"), [(None, ()), ("native", (TOKENS,))], ids=["params alone", "a call"])
def test_takes_the_place_of_the_params(implementation, call):
    sparse = fast(implementation)
    lean = sparse.compress(PARAMS, *call)
    assert jax.tree.structure(lean.values) == jax.tree.structure(PARAMS)
    assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(lean))
    assert lean.tesa == TESA
    unpack, reference = jax.jit(sparse.unpack), jax.jit(jax.value_and_grad(lambda p, t: loss(model)(masks(p), t)))
    value, grads = jax.jit(jax.value_and_grad(loss(sparse)))(lean, TOKENS)
    assert_near(unpack(lean), jax.jit(masks)(PARAMS), 0)
    assert_near((value, unpack(grads)), reference(PARAMS, TOKENS))


def test_live_elements_only():
    lean = fast().compress(PARAMS)
    kinds = {k: type(s) for k, s in zip(sorted(SHAPES), lean.form.storages, strict=True)}
    assert kinds["heads"] is kinds["out"] is Channels
    assert kinds["gain"] is Whole
    assert kinds["bias"] is Channels
    sizes = {k: v.size for k, v in lean.values.items()}
    assert all(sizes[k] == MASKS[k].sum() for k in ("heads", "out", "bias"))
    assert lean.nbytes < 0.75 * sum(v.nbytes for v in PARAMS.values())


@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_bytes_follow_the_density(density, rng):
    grid = (rng.permutation(256) < round(256 * density)).reshape(16, 16)
    tesa = sj.TeSA.blocks(grid, (32, 32), (512, 512))
    sparse = sj.sparsify(lambda w, x: x @ w, tesa)
    w, x = random((512, 512), rng), random((4, 512), rng)
    lean = sparse.compress(w, x)
    assert lean.nbytes <= (density * 1.05 + 0.01) * 512 * 512 * 4
    assert_near(sparse(lean, x), x @ jnp.where(tesa.mask, w, 0))


def test_what_an_optimizer_writes_into_dead_elements_counts_as_zero(rng):
    """A block that holds dead elements is stored whole."""
    mask = mask_of((64, 64), 0.3, rng) & (rng.random((64, 64)) < 0.9)
    sparse = sj.sparsify(lambda w, x: x @ w, sj.TeSA(mask), implementation="xla")
    w, x = random((64, 64), rng), random((8, 64), rng)
    lean = sparse.compress(w, x)
    (storage,) = lean.form.storages
    assert isinstance(storage, Matrices)
    assert mask.sum() < lean.values.size < 64 * 64
    noisy = jax.tree.map(lambda v: jnp.where(v == 0, jnp.nan, v), lean)
    value, grads = jax.jit(jax.value_and_grad(loss(sparse)))(noisy, x)
    want, dense = jax.jit(jax.value_and_grad(loss(lambda w, x: x @ jnp.where(mask, w, 0))))(w, x)
    assert_near([value, sparse.unpack(grads)], [want, dense])
    assert not np.asarray(grads.values)[np.isnan(noisy.values)].any()
    assert_near(sparse.unpack(noisy), jnp.where(mask, w, 0), 0)


def test_params_stacked_for_a_scan(rng):
    """Each layer reads its own part of one array."""
    stack = {"w": random((3, 32, 32), rng) / 6, "b": random((3, 32), rng)}
    tesa = {"w": sj.TeSA(np.stack([mask_of((32, 32), 0.3, rng) for _ in range(3)])), "b": None}

    def scanned(params, x):
        return jax.lax.scan(lambda h, p: (jnp.tanh(h @ p["w"] + p["b"]), None), x, params)[0]

    sparse, x = sj.sparsify(scanned, tesa, implementation="native"), random((4, 32), rng)
    lean = sparse.compress(stack, x)
    assert [site.layout for site in sparse.report(lean, x).sites] == [str(lean.form.storages[1].layout)] * 3
    want = lambda params, x: scanned({**params, "w": jnp.where(tesa["w"].mask, params["w"], 0)}, x)
    got = jax.jit(lambda lean, x: sparse.unpack(jax.grad(loss(sparse))(lean, x)))(lean, x)
    assert_near(got, jax.jit(jax.grad(loss(want)))(stack, x))


def test_tunes_what_training_asks():
    sparse = sj.sparsify(lambda w, x: x @ w, TESA["up"], implementation="native")
    lean, x = sparse.compress(PARAMS["up"]), random((8, 32), RNG)
    report = sparse.tune(lean, x)
    assert [site.layout for site in report.sites] == [str(lean.form.storages[0].layout)]
    assert {getattr(p, "transposed", "sampled") for p in sparse._chooser.tuned.seconds} == {False, True, "sampled"}


def test_data_parallel_training_gathers_nothing():
    """The gradients are summed over the devices, and that is all that they send each other."""
    sparse = sj.sparsify(lambda w, x: jnp.tanh(x @ w), TESA["up"], implementation="native")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("data",), ()))
    lean, x = sparse.compress(PARAMS["up"]), random((32, 32), RNG)
    step = jax.jit(jax.grad(loss(sparse)), in_shardings=(whole, rows), out_shardings=whole)
    program = step.lower(lean, x).compile().as_text()
    assert "all-gather" not in program
    assert "all-reduce" in program
    assert_near(step(lean, x), jax.grad(loss(sparse))(lean, x))


def test_an_ensemble_under_vmap():
    sparse, scales = fast(), jnp.array([1.0, -0.5])
    scaled = lambda scale: jax.tree.map(lambda v: v * scale, PARAMS)
    together = jax.jit(jax.vmap(lambda scale: sparse.compress(scaled(scale))))(scales)
    got = jax.jit(jax.vmap(sparse, (0, None)))(together, TOKENS)
    assert_near(got, jax.jit(jax.vmap(lambda scale: model(masks(scaled(scale)), TOKENS)))(scales))


def test_a_step_may_donate_its_params():
    sparse = fast()
    lean = jax.tree.map(jnp.array, sparse.compress(PARAMS))
    step = jax.jit(lambda p: jax.tree.map(lambda a, g: a - 0.1 * g, p, jax.grad(loss(sparse))(p, TOKENS)), donate_argnums=0)
    want = step(jax.tree.map(jnp.array, lean))
    assert_near(step(lean), want, 0)
    assert all(a.is_deleted() for a in jax.tree.leaves(lean))


@pytest.mark.slow
def test_values_of_another_dtype():
    """As with the params themselves, it is the values' dtype that counts."""
    sparse = fast()
    lean = jax.tree.map(lambda a: a.astype(jnp.bfloat16), sparse.compress(PARAMS))
    got = sparse(lean, TOKENS)
    assert got.dtype == jnp.bfloat16
    assert_near(got.astype(jnp.float32), model(masks(PARAMS), TOKENS), 3e-2)


def test_made_inside_a_jitted_function():
    sparse = fast()
    made = jax.jit(sparse.compress)(PARAMS)
    assert_near(made, sparse.compress(PARAMS), 0)
    assert jax.tree.structure(made) == jax.tree.structure(sparse.compress(PARAMS))
    assert hash(jax.tree.structure(made)) == hash(jax.tree.structure(sparse.compress(PARAMS)))


def test_packs():
    sparse = fast("native")
    packed = sparse.pack(sparse.compress(PARAMS), TOKENS)
    assert_near(sparse(packed, TOKENS), model(masks(PARAMS), TOKENS))


def test_several_params_arguments():
    split = lambda first, tokens, second: model({**first, **second}, tokens)
    parts = [{k: v for k, v in PARAMS.items() if (k == "embed") == first} for first in (True, False)]
    sparse = sj.sparsify(split, tuple({k: TESA[k] for k in part} for part in parts), argnums=(0, 2))
    alone, called = sparse.compress(*parts), sparse.compress(parts[0], TOKENS, parts[1])
    for lean in (alone, called):
        assert_near(sparse(lean[0], TOKENS, lean[1]), model(masks(PARAMS), TOKENS))
        assert_near(sparse.unpack(lean), tuple(masks(part) for part in parts), 0)
    with pytest.raises(PackedError, match="compress them together"):
        sparse(alone[0], TOKENS, parts[1])


def test_nothing_sparse_is_kept_whole():
    sparse = sj.sparsify(model, {})
    lean = sparse.compress(PARAMS)
    assert all(isinstance(s, Whole) for s in lean.form.storages)
    assert_near(sparse(lean, TOKENS), model(PARAMS, TOKENS))


def test_single_elements_are_kept_flat_where_no_product_is_faster():
    lean = fast("dense").compress(PARAMS, TOKENS)
    assert isinstance(lean.form.storages[sorted(SHAPES).index("embed")], Flat)
    assert lean.values["embed"].shape == (MASKS["embed"].sum(),)


def test_errors():
    sparse, lean = fast(), fast().compress(PARAMS)
    structs = jax.eval_shape(lambda: PARAMS)
    with pytest.raises(SpartaTypeError, match=r"params\['bias'\] is a ShapeDtypeStruct"):
        sparse.compress(structs)
    with pytest.raises(SpartaTypeError, match="compressed already"):
        sparse.compress(lean)
    with pytest.raises(SpartaTypeError, match="the params themselves"):
        sparse.verify(lean, TOKENS)
    with pytest.raises(PackedError, match=r"params\['up'\].*another function|another function.*\n.*params\['up'\]"):
        sj.sparsify(model, {**TESA, "up": None})(lean, TOKENS)
    with pytest.raises(
        PackedError, match=r"params\['bias'\]: the compressed array has shape \(1,\), its live elements \(31,\)"
    ):
        sparse(jax.tree.map(lambda a: a[:1], lean), TOKENS)
    with pytest.raises(PackedError, match="argument 1 came compressed"):
        sparse(PARAMS, lean)
