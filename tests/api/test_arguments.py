"""Arguments are taken as `jax.jit` takes them: static or not, by position or by name; any of them may be the params."""

import jax
import jax.numpy as jnp
import pytest
from api.programs import assert_near
from api.usage import LIVE, OTHER, PARAMS, TESA, X, model, powers, sparsify

STATICS = [
    dict(static_argnums=2),
    dict(static_argnums=(2,)),
    dict(static_argnums=[2]),
    dict(static_argnames="n"),
    dict(static_argnames=["n"]),
    dict(static_argnums=2, static_argnames=("n", "bias")),
]


@pytest.mark.parametrize("options", STATICS, ids=str)
def test_static_arguments(options):
    """By position or by name, whichever way they were declared; each value is another program."""
    fast, want = sparsify(fn=powers, **options), jax.jit(powers, **options)
    zeroed = {**PARAMS, "fc": {**PARAMS["fc"], "kernel": jnp.where(LIVE.mask, PARAMS["fc"]["kernel"], 0)}}
    for args, kwargs in [((), {}), (("a",), {}), ((), {"n": "ab"}), (("abc",), {"bias": 1.0}), ((), {"n": 2, "bias": 3.0})]:
        assert_near(fast(PARAMS, X, *args, **kwargs), want(zeroed, X, *args, **kwargs))
        tree = fast.pack(PARAMS, X, *args, **kwargs)
        assert_near(fast(tree, X, *args, **kwargs), want(zeroed, X, *args, **kwargs))


def test_a_negative_static_number():
    fast = sparsify(fn=lambda params, x, n: model(params, x) * len(n), static_argnums=-1)
    assert_near(fast(PARAMS, X, "ab"), 2 * sparsify()(PARAMS, X))


def test_both_declared_are_taken_as_they_are():
    """As in JAX: where numbers and names are given, neither is inferred from the other."""
    fast = sparsify(fn=powers, static_argnums=2, static_argnames="bias")
    assert_near(fast(PARAMS, X, n=jnp.float32(3)), sparsify(fn=powers)(PARAMS, X, 3.0))


def test_data_by_keyword_and_as_trees():
    def fn(params, *, batch, shift=(0.0, None)):
        return model(params, batch["x"]) + shift[0]

    fast = sparsify(fn=fn)
    want = sparsify()(PARAMS, X)
    batch = {"x": X, "unused": [None, 1]}
    assert_near(fast(PARAMS, batch=batch), want)
    assert_near(fast(PARAMS, batch=batch, shift=(1.0, None)), want + 1)
    assert_near(fast(fast.pack(PARAMS, batch=batch), batch=batch), want)
    assert fast.verify(PARAMS, batch={"x": X}).ok
    assert fast.report(PARAMS, batch=batch).sites[0].name == "params['fc']['kernel']"


@pytest.mark.parametrize("argnums", [1, -1, (1,), [1], (-1,)])
def test_which_argument_is_the_params(argnums):
    tesa = TESA if isinstance(argnums, int) else (TESA,)
    fast = sparsify(tesa, fn=lambda x, params: model(params, x), argnums=argnums)
    want = sparsify()(PARAMS, X)
    assert_near(fast(X, PARAMS), want)
    tree = fast.pack(X, PARAMS)
    assert_near(fast(X, tree if isinstance(argnums, int) else tree[0]), want)


def test_two_arguments_in_any_order():
    fn = lambda p, x, q: model(p, x) + model(q, x) * 2
    other = jax.tree.map(lambda a: a + 1, PARAMS)
    want = fn(*(jax.tree.map(jnp.asarray, masked_by(t, p)) for t, p in ((LIVE, PARAMS),)), X, masked_by(OTHER, other))
    for argnums, tesa in {(0, 2): (TESA, {"kernel": OTHER}), (-1, 0): ({"kernel": OTHER}, TESA)}.items():
        fast = sparsify(tesa, fn=fn, argnums=argnums)
        assert_near(fast(PARAMS, X, other), want)
        trees = dict(zip((a % 3 for a in argnums), fast.pack(PARAMS, X, other), strict=True))
        assert_near(fast(trees[0], X, trees[2]), want)


def masked_by(tesa, params):
    return {**params, "fc": {**params["fc"], "kernel": jnp.where(tesa.mask, params["fc"]["kernel"], 0)}}


class Callable:
    """A function that is an object."""

    def __call__(self, params, x):
        return model(params, x)


@pytest.mark.parametrize(
    "fn", [Callable(), Callable().__call__, jax.jit(model), jax.checkpoint(model), lambda *args: model(*args)], ids=range(5)
)
def test_every_kind_of_callable(fn):
    assert_near(sparsify(fn=fn)(PARAMS, X), sparsify()(PARAMS, X))
