"""What a user does wrong with packed params: one error of ours says what, where (the key path), and how to mend it."""

import jax
import jax.numpy as jnp
import pytest
from api.programs import assert_near, random
from api.usage import KERNEL, LIVE, OTHER, PARAMS, RNG, TESA, X, model, packed, refused, sparsify

import sparta_jax as sj
from sparta_jax.errors import PackedError, SpartaTypeError, SpartaValueError


def test_packed_with_other_tesas():
    refused(lambda: sparsify({"fc": {"kernel": OTHER}})(packed(), X), PackedError, KERNEL, "another function", "pack again")
    refused(lambda: sparsify({})(packed(), X), PackedError, KERNEL, "pack again")


@pytest.mark.parametrize(
    "fn",
    [
        lambda params, x: x @ (params["fc"]["kernel"] * 2),
        lambda params, x: x @ params["fc"]["kernel"][::-1],
        lambda params, x: x[:, :4] @ params["fc"]["kernel"].reshape(4, 96),
    ],
    ids=["scaled", "reversed", "reshaped"],
)
def test_packed_by_another_function(fn):
    refused(lambda: sparsify(fn=fn)(packed(), X), PackedError, KERNEL, "not packed", "pack again", "also=")


def test_packed_for_calls_of_fewer_needs():
    def deeper(params, x, depth=1):
        for _ in range(depth - 1):
            x = x @ params["fc"]["kernel"] @ params["back"]
        return model(params, x)

    params = {**PARAMS, "back": random((24, 16), RNG)}
    fast = sparsify(fn=deeper, static_argnames="depth")
    tree = fast.pack(params, X)
    assert_near(fast(tree, X), fast(params, X))
    refused(lambda: fast(tree, X, depth=2), PackedError, r"params\['back'\]", "not packed", "also=")
    both = fast.pack(params, X, also=[(params, X, 3)])
    for depth in (1, 2, 3):
        assert_near(fast(both, X, depth), fast(params, X, depth))


def test_packed_params_of_another_tree():
    refused(lambda: sparsify([LIVE], fn=lambda p, x: x @ p[0])(packed(), X), SpartaValueError, r"p\[0\]: there is no such")
    refused(lambda: sparsify({"fc": {"kernel": LIVE[:8]}})(packed(), X), SpartaValueError, KERNEL, r"\(8, 24\)")


def test_packed_where_it_does_not_belong():
    fast = sparsify()
    refused(lambda: fast(PARAMS, packed()), PackedError, "argument 1 came packed, the params are arguments \\(0,\\)")
    refused(lambda: fast(PARAMS, x=packed()), PackedError, "argument 'x' came packed")
    both = sparsify((TESA, TESA), fn=lambda p, q, x: model(p, x) + model(q, x), argnums=(0, 1))
    refused(lambda: both(packed(), PARAMS, X), PackedError, r"arguments \(0, 1\) are the params", "pack them together")
    refused(lambda: fast.verify(packed(), X), SpartaTypeError, "the params themselves")


def test_pack_needs_values():
    structs = jax.eval_shape(lambda: PARAMS)
    refused(lambda: sparsify().pack(structs, X), SpartaTypeError, r"params\['fc'\]\['bias'\] is a ShapeDtypeStruct", "values")


@pytest.mark.parametrize("also", [3, [jnp.ones((2, 4))]], ids=["a number", "an array"])
def test_also_is_a_list_of_calls(also):
    w = jnp.ones((4, 4))
    with pytest.raises(SpartaTypeError, match="also.*list of calls"):
        sj.sparsify(lambda w, x: x @ w, None).pack(w, w, also=also)


def test_params_are_packed_once():
    w = jnp.ones((4, 4))
    fast = sj.sparsify(lambda w, x: x @ w, None)
    with pytest.raises(SpartaTypeError, match="packed already"):
        fast.pack(fast.pack(w, w), w)
    with pytest.raises(SpartaTypeError, match="what `pack` or `compress` returned"):
        fast.unpack(w)
