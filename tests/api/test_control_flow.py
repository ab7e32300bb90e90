"""Sparse weights in loops, branches and calls: values and derivatives are those of the masked program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.control_flow import (
    CASES,
    LAYERS,
    ONE,
    STACK,
    STACKED,
    dense_layer,
    loss,
    masked,
    masks_for,
    over,
    reverse,
    values_for,
)
from api.programs import assert_near, assert_sides_near, random
from batches import batches
from jax import lax

import sparta_jax as sj


def unrolls(case):
    return (None, False) if case.stacked else (None,)


def drawn(case):
    """Its masks, its arguments."""
    rng = np.random.default_rng(0)
    return masks_for(case.params, rng), values_for(case.params, rng)


@pytest.mark.parametrize("names", batches(CASES, 7))
def test_equals_the_masked_program(names):
    """Its loops written out and not; where written out, with packed params, too."""
    sides, args = {}, {}
    for name in names:
        masks, args[name] = drawn(CASES[name])
        sides[name] = functools.partial(both_sides, CASES[name], masks)
    assert_sides_near(sides, args)


def both_sides(case, masks, p, x):
    derivative = reverse if case.reverse else lambda f: lambda p, x: jax.jvp(f, (p, x), (p, x))
    of = lambda f: (f(p, x), derivative(f)(p, x))
    fast = {unroll: sj.sparsify(case.fn, masks, implementation="xla", unroll=unroll) for unroll in unrolls(case)}
    want = of(masked(case.fn, masks))
    packed = fast[None].pack(p, x)
    return [*map(of, fast.values()), fast[None](packed, x)], [*(want for _ in fast), want[0]]


@pytest.mark.parametrize(("name", "unroll"), [(name, unroll) for name, case in CASES.items() for unroll in unrolls(case)])
def test_the_report_counts_products_and_loops(name, unroll):
    case = CASES[name]
    masks, (p, x) = drawn(case)
    report = sj.sparsify(case.fn, masks, implementation="xla", unroll=unroll).report(p, x)
    if case.sites is not None:
        assert len(report.sites) == (case.sites if unroll is None else -(-case.sites // LAYERS))
    assert bool(report.loops) == case.stacked


@pytest.mark.parametrize("unroll", [None, False])
@pytest.mark.parametrize("alike", [True, False])
def test_layers_have_their_own_masks_where_they_are_written_out(alike, unroll, rng):
    masks, (p, x) = masks_for(STACKED, rng, alike), values_for(STACKED, rng)
    fast = sj.sparsify(over(dense_layer), masks, implementation="xla", unroll=unroll)
    assert_near(fast(p, x), jax.jit(masked(over(dense_layer), masks))(p, x))
    densities = [s.density for s in fast.report(p, x).sites]
    union = masks["w"].any(0).mean()
    of_each = [m.mean() for m in masks["w"]]
    assert densities[-1] == pytest.approx(union if unroll is False else of_each[-1])
    assert unroll is False or all(density <= mask for density, mask in zip(densities, of_each, strict=True))


def test_the_report_names_layers_and_loops(rng):
    masks, (p, x) = masks_for(STACKED, rng), values_for(STACKED, rng)
    report = sj.sparsify(over(dense_layer), masks, implementation="xla").report(p, x)
    assert [s.name for s in report.sites] == ["p['w'][0]", "p['w'][1]"]
    assert all("control_flow.py" in s.line for s in report.sites)
    assert [(note.name, note.reason) for note in report.loops] == [("p['w']", "written out, 2 layers")]
    report = sj.sparsify(over(dense_layer), masks, implementation="xla", unroll=False).report(p, x)
    assert [(s.name, s.times) for s in report.sites] == [("p['w']", 2)]
    assert "stays a loop over the union of its masks: asked for" in str(report)


def test_a_long_loop_stays_a_loop(rng):
    masks = {"w": np.broadcast_to(np.kron([[1, 0], [1, 1]], np.ones((8, 8))) > 0, (70, 16, 16))}
    p, x = {"w": random((70, 16, 16), rng)}, random((2, 16), rng)
    fn = over(lambda x, q: jnp.sin(x @ q["w"]))
    fast = sj.sparsify(fn, masks, implementation="xla")
    assert "70 layers, more than 64" in str(fast.report(p, x))
    assert len(fast.report(p, x).sites) == 1
    assert_near(fast(p, x), jax.jit(masked(fn, masks))(p, x))
    assert len(sj.sparsify(fn, masks, implementation="xla", unroll=True).report(p, x).sites) == 70


def test_an_unserved_implementation_is_named_inside_a_loop(rng):
    masks, (p, x) = masks_for(STACKED, rng), values_for(STACKED, rng)
    fast = sj.sparsify(over(dense_layer), masks, implementation="mosaic", platform="cpu", unroll=False)
    with pytest.raises(sj.SpartaError, match=r"p\['w'\]"):
        fast(p, x)


TRANSFORMED = {"scan over layers": None, "scan in remat": False, "while_loop": None, "cond": None, "lstm": None}


@pytest.mark.parametrize("names", batches(TRANSFORMED, 3))
def test_under_transformations(names):
    def transformed(f, reverses, p, x):
        xs = jnp.stack([x, -x])
        yield jax.vmap(f, (None, 0))(p, xs)
        yield jax.jvp(f, (p, x), (p, x))
        yield lax.scan(lambda c, x: (c + loss(f)(p, x), None), 0.0, xs)[0]
        if reverses:
            yield reverse(jax.checkpoint(f))(p, x)

    def both(case, masks, unroll, p, x):
        fast = sj.sparsify(case.fn, masks, implementation="xla", unroll=unroll)
        return [list(transformed(f, case.reverse, p, x)) for f in (fast, masked(case.fn, masks))]

    sides, args = {}, {}
    for name in names:
        masks, args[name] = drawn(CASES[name])
        sides[name] = functools.partial(both, CASES[name], masks, TRANSFORMED[name])
    assert_sides_near(sides, args)


def test_packed_weights_of_a_loop_stay_dense(rng):
    masks, (p, x) = masks_for(STACKED, rng), values_for(STACKED, rng)
    fast = sj.sparsify(over(dense_layer), masks, implementation="xla", unroll=False)
    packed = fast.pack(p, x)
    assert_near(fast(packed, x), jax.jit(masked(over(dense_layer), masks))(p, x))
    assert [s.layout for s in fast.report(packed, x).sites] == ["dense"]


@pytest.mark.parametrize("name", ["scan over layers", "cond", "lstm"])
def test_without_jit(name, rng):
    case = CASES[name]
    masks, (p, x) = masks_for(case.params, rng), values_for(case.params, rng)
    fast = sj.sparsify(case.fn, masks, implementation="xla")
    want = jax.jit(masked(case.fn, masks))(p, x)
    with jax.disable_jit():
        got = fast(p, x)
    assert_near(got, want)


@pytest.mark.parametrize("unroll", [None, False])
def test_effects_are_kept_in_order(unroll, rng):
    seen = []

    def layer(carry, q):
        x, i = carry
        jax.debug.callback(lambda i, v: seen.append((int(i), float(v))), i, x.sum(), ordered=True)
        return (jnp.sin(x @ q["w"]), i + 1), None

    fn = lambda p, x: lax.scan(layer, (x, 0), p)[0][0]
    params = {"w": STACK}
    masks, (p, x) = masks_for(params, rng), values_for(params, rng)
    masked(fn, masks)(p, x).block_until_ready()
    jax.effects_barrier()
    want, seen = list(seen), seen
    seen.clear()
    sj.sparsify(fn, masks, implementation="xla", unroll=unroll)(p, x).block_until_ready()
    jax.effects_barrier()
    assert [i for i, _ in seen] == [0, 1]
    np.testing.assert_allclose(seen, want, rtol=1e-5, atol=1e-5)


def test_an_effect_in_a_dead_branch_stays(rng):
    seen = []

    def noted(x):
        jax.debug.callback(lambda v: seen.append(float(v)), x[0, 0])
        return x * 0

    fn = lambda p, x: (x @ p["w"], lax.cond(x[0, 0] < 9, noted, lambda x: x * 0, x))[0]
    masks, (p, x) = masks_for(ONE, rng), values_for(ONE, rng)
    sj.sparsify(fn, masks, implementation="xla")(p, x).block_until_ready()
    jax.effects_barrier()
    assert seen == [float(x[0, 0])]


def test_stacks_of_other_dtypes_are_sliced_too(rng):
    """Random keys and integers that are scanned over beside the weights."""

    def fn(p, x):
        keys, steps = jax.random.split(jax.random.key(0), LAYERS), jnp.arange(LAYERS)
        layer = lambda x, q: (jnp.sin(x @ q[0]) * jax.random.normal(q[1], x.shape), (q[1], q[2] + 1))
        x, (keys, steps) = lax.scan(layer, x, (p["w"], keys, steps))
        return x, jax.random.key_data(keys), steps

    params = {"w": STACK}
    masks, (p, x) = masks_for(params, rng), values_for(params, rng)
    fast = sj.sparsify(fn, masks, implementation="xla")
    assert len(fast.report(p, x).sites) == LAYERS
    assert_near(fast(p, x), jax.jit(masked(fn, masks))(p, x))


def test_host_functions_in_loops_over_params_are_told_apart(rng):
    def loop(factor, w):
        host = lambda v: np.asarray(v) * np.float32(factor)
        call = lambda v: jax.pure_callback(host, jax.ShapeDtypeStruct(v.shape, v.dtype), v, vmap_method="sequential")
        return lax.map(call, w)

    fn = lambda p, x: jnp.tanh(x @ loop(2, p["w"])) - jnp.tanh(x @ loop(3, p["w"]))
    masks, (p, x) = masks_for(ONE, rng), values_for(ONE, rng)
    fast, want = sj.sparsify(fn, masks, implementation="xla"), jax.jit(masked(fn, masks))(p, x)
    assert_near(fast(p, x), want)
    assert_near(fast(fast.pack(p, x), x), want)


def test_rematerialisation_survives_being_written_out(rng):
    """In a loop it need not forbid XLA to compute things once; outside it must."""
    layer = jax.checkpoint(lambda x, q: jnp.sin(x @ q["w"]), prevent_cse=False)
    masks, (p, x) = masks_for({"w": STACK}, rng), values_for({"w": STACK}, rng)
    fast = sj.sparsify(over(layer), masks, implementation="xla")
    text = str(jax.make_jaxpr(fast)(p, x))
    assert text.count("prevent_cse=True") == LAYERS
    assert "prevent_cse=False" not in text
    assert_near(jax.jit(reverse(fast))(p, x), jax.jit(reverse(masked(over(layer), masks)))(p, x))


def test_lost_zeros_inside_a_loop_are_named(rng):
    masks, (p, x) = masks_for(ONE, rng), values_for(ONE, rng)
    host = lambda w: jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct(w.shape, w.dtype), w)
    fn = lambda p, x: lax.fori_loop(0, 2, lambda _, c: c @ host(p["w"]), x)
    assert "no rule: pure_callback" in str(sj.sparsify(fn, masks, implementation="xla").report(p, x))


def test_facts_alone_see_each_layer(rng):
    masks, (p, x) = masks_for(STACKED, rng), values_for(STACKED, rng)
    kinds = [
        {f.name.split(":")[0] for f in sj.propagate(over(dense_layer), masks, unroll=u)(p, x).intermediates}
        for u in (True, False)
    ]
    assert "scan" not in kinds[0]
    assert "scan" in kinds[1]


def test_a_layer_picked_by_a_counter_has_the_union_of_the_masks(rng):
    fn = lambda p, x: lax.while_loop(
        lambda c: c[0] < x.sum() * 0 + LAYERS, lambda c: (c[0] + 1, jnp.sin(c[1] @ p["w"][c[0]])), (0, x)
    )[1]
    masks, (p, x) = masks_for({"w": STACK}, rng), values_for({"w": STACK}, rng)
    fast = sj.sparsify(fn, masks, implementation="xla")
    assert_near(fast(p, x), jax.jit(masked(fn, masks))(p, x))
    (site,) = fast.report(p, x).sites
    assert (site.name, site.density) == ("p['w']", pytest.approx(masks["w"].any(0).mean()))
