"""Packing: equal results, small bytes, exact unpacking, and errors that name what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, mask_of, random

import sparta_jax as sj
from sparta_jax.errors import PackedError, SpartaTypeError


def model(params, x):
    positions = params["position"][: x.shape[-2]]
    h = jax.nn.gelu((x + positions) @ params["up"].reshape(40, 64) + params["bias"])
    return h @ params["down"].T


SHAPES = {"position": (32, 40), "up": (40, 8, 8), "bias": (64,), "down": (40, 64)}


@pytest.fixture
def setting(rng):
    params = {k: random(s, rng) / 6 for k, s in SHAPES.items()}
    masks = {k: mask_of(SHAPES[k], 0.3, rng) for k in ("up", "down")}
    masks["up"][0] = masks["down"][0] = True  # every hidden unit is written and read, so nothing is compacted away
    tesa = {k: sj.TeSA(masks[k]) if k in masks else None for k in SHAPES}
    return params, tesa, random((2, 16, 40), rng)


def masked(params, tesa):
    return {k: v if tesa[k] is None else np.where(tesa[k].mask, v, np.float32(0)) for k, v in params.items()}


compiled = jax.jit(model)  # once for all tests, at each shape of x


@pytest.mark.parametrize("implementation", [None, "dense", "xla"])
def test_takes_the_place_of_the_params(implementation, setting):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa, implementation=implementation)
    packed = fast.pack(params, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert_near(fast(packed, x), compiled(masked(params, tesa), x))
    assert_near(jax.jit(fast)(packed, x), compiled(masked(params, tesa), x))


def test_whatever_dead_elements_hold_is_zero(setting):
    params, tesa, x = setting
    spoilt = {k: v if tesa[k] is None else np.where(tesa[k].mask, v, np.float32(np.nan)) for k, v in params.items()}
    fast = sj.sparsify(model, tesa, implementation="xla")
    for run in (lambda: fast(spoilt, x), lambda: fast(fast.pack(spoilt, x), x)):
        assert_near(run(), compiled(masked(params, tesa), x))
    grads = jax.jit(jax.grad(lambda p: jnp.sum(fast(p, x))))(spoilt)
    assert all(np.isfinite(g).all() for g in grads.values())
    assert not any(np.asarray(grads[k])[~t.mask].any() for k, t in tesa.items() if t is not None)


def test_another_length_reads_the_same_packed_params(setting):
    params, tesa, x = setting
    fast = sj.sparsify(model, tesa)
    packed = fast.pack(params, x)
    for y in (x[:, :5], np.tile(x, (1, 2, 1)), x[0]):
        assert_near(fast(packed, y), compiled(masked(params, tesa), y))


@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_bytes_follow_the_density(density, rng):
    grid = (rng.permutation(256) < round(256 * density)).reshape(16, 16)
    tesa = sj.TeSA.blocks(grid, (32, 32), (512, 512))
    fast = sj.sparsify(lambda w, x: x @ w, tesa, implementation="xla")
    packed = fast.pack(random((512, 512), rng), np.ones((4, 512), np.float32))
    assert packed.nbytes <= (density * 1.05 + 0.01) * 512 * 512 * 4


def test_unpack_is_exact(setting):
    params, tesa, x = setting
    for implementation in ("dense", "xla"):
        fast = sj.sparsify(model, tesa, implementation=implementation)
        out = fast.unpack(fast.pack(params, x))
        want = masked(params, tesa)
        assert out.keys() == want.keys()
        assert all(np.array_equal(out[k], want[k]) for k in want)


def test_unpack_names_what_was_compacted_away(setting, rng):
    params, tesa, x = setting
    unread = sj.TeSA.channels(np.arange(64) >= 16, 1, (40, 64))
    fast = sj.sparsify(model, {**tesa, "down": unread})
    with pytest.raises(PackedError, match=r"\['up'\]"):
        fast.unpack(fast.pack(params, x))


def test_unpack_names_what_was_folded(setting):
    params, tesa, x = setting
    fast = sj.sparsify(lambda p, x: model({**p, "down": p["down"] * jnp.exp(p["bias"])}, x), tesa)
    with pytest.raises(PackedError, match=r"\['down'\]"):
        fast.unpack(fast.pack(params, x))


def test_a_call_of_more_needs_names_the_parameter(setting):
    params, tesa, x = setting

    def either(params, x, *, head: bool):
        return model(params, x) @ params["up"].reshape(64, 40).T if head else model(params, x)

    fast = sj.sparsify(either, tesa, static_argnames="head", implementation="xla")
    packed = fast.pack(params, x, head=False)
    with pytest.raises(PackedError, match=r"params\['up'\].*also="):
        fast(packed, x, head=True)
    both = fast.pack(params, x, head=False, also=[((params, x), {"head": True})])
    for head in (False, True):
        assert_near(fast(both, x, head=head), jax.jit(either, static_argnames="head")(masked(params, tesa), x, head=head))


def test_a_packed_tree_of_other_masks_is_refused(setting, rng):
    params, tesa, x = setting
    packed = sj.sparsify(model, tesa).pack(params, x)
    other = {**tesa, "up": sj.TeSA(mask_of(SHAPES["up"], 0.5, rng))}
    with pytest.raises(PackedError, match=r"params\['up'\]"):
        sj.sparsify(model, other)(packed, x)


def test_its_own_tesas_make_the_function_again(setting):
    params, tesa, x = setting
    packed = sj.sparsify(model, tesa, implementation="xla").pack(params, x)
    assert packed.tesa == tesa
    assert_near(sj.sparsify(model, packed.tesa)(packed, x), compiled(masked(params, tesa), x))


def test_values_are_needed(setting):
    _, tesa, x = setting
    structs = {k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in SHAPES.items()}
    with pytest.raises(SpartaTypeError, match="values"):
        sj.sparsify(model, tesa).pack(structs, x)


def test_several_params_arguments(setting):
    params, tesa, x = setting
    split = lambda first, x, second: model({**first, **second}, x)
    keys = ("position", "up"), ("bias", "down")
    parts = [{k: params[k] for k in ks} for ks in keys]
    tesas = tuple({k: tesa[k] for k in ks} for ks in keys)
    fast = sj.sparsify(split, tesas, argnums=(0, 2), implementation="xla")
    packed = fast.pack(parts[0], x, parts[1])
    assert isinstance(packed, tuple)
    assert len(packed) == 2
    assert_near(fast(packed[0], x, packed[1]), compiled(masked(params, tesa), x))
    with pytest.raises(PackedError, match="together"):
        fast(packed[0], x, parts[1])


def test_is_a_tree_of_arrays(setting):
    params, tesa, x = setting
    packed = sj.sparsify(model, tesa, implementation="xla").pack(params, x)
    leaves, tree = jax.tree.flatten(packed)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    again = jax.tree.unflatten(tree, leaves)
    assert again.origin == packed.origin
    assert hash(tree) == hash(jax.tree.structure(again))
