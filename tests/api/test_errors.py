"""What a user does wrong is said in one error of ours: what, where (the key path), and how to mend it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, random

import sparta_jax as sj
from sparta_jax.errors import PackedError, SpartaError, SpartaTypeError, SpartaValueError

RNG = np.random.default_rng(0)
PARAMS = {"fc": {"bias": random((24,), RNG), "kernel": random((16, 24), RNG)}, "scale": jnp.float32(2)}
X = random((3, 16), RNG)
LIVE = sj.TeSA.blocks(RNG.random((2, 3)) < 0.5, (8, 8), (16, 24))
TESA = {"fc": {"kernel": LIVE}}
OTHER = sj.TeSA(~LIVE.mask)
KERNEL = r"params\['fc'\]\['kernel'\]"


def model(params, x):
    return params["scale"] * (x @ params["fc"]["kernel"]) + params["fc"]["bias"]


def sparsify(tesa=None, fn=model, **options):
    return sj.sparsify(fn, TESA if tesa is None else tesa, **options)


def packed():
    return sparsify().pack(PARAMS, X)


def refused(act, kind, *messages):
    with pytest.raises(kind) as error:
        act()
    assert type(error.value) is kind
    assert isinstance(error.value, SpartaError)
    for message in messages:
        assert error.match(message)


# -- the TeSAs: refused in every way of using them

USES = {
    "call": lambda fast: fast(PARAMS, X),
    "call under jit": lambda fast: jax.jit(fast)(PARAMS, X),
    "gradient": lambda fast: jax.grad(lambda p: fast(p, X).sum())(PARAMS),
    "pack": lambda fast: fast.pack(PARAMS, X),
    "report": lambda fast: fast.report(PARAMS, X),
    "verify": lambda fast: fast.verify(PARAMS, X),
}
TESAS = {
    "another shape": (
        {"fc": {"kernel": LIVE.transpose()}},
        SpartaValueError,
        KERNEL,
        r"\(24, 16\)",
        r"\(16, 24\)",
        "transpose it",
    ),
    "another dtype": ({"fc": {"kernel": LIVE.mask * 1.0}}, SpartaTypeError, KERNEL, "float64", "write `mask != 0`"),
    "another dtype of jax": ({"fc": {"kernel": jnp.ones((16, 24))}}, SpartaTypeError, KERNEL, "float32", "write `mask != 0`"),
    "a path that does not exist": (
        {"fc": {"kernal": LIVE}},
        SpartaValueError,
        r"params\['fc'\]\['kernal'\]",
        "did you mean",
        KERNEL,
    ),
    "a regex that hits nothing": ({".*weights": LIVE}, SpartaValueError, r"'\.\*weights' is found in no path", "fc/kernel"),
    "no regex": ({"(kernel": LIVE}, SpartaValueError, r"'\(kernel' is not a regular expression"),
    "a number": ({"fc": {"kernel": 0.1}}, SpartaTypeError, KERNEL, "expected a TeSA, a boolean array or None, got float"),
    "a tree of a list": ([LIVE], SpartaValueError, r"params\[0\]: there is no such parameter"),
    "for a scalar": ({"scale": LIVE}, SpartaValueError, r"params\['scale'\]", r"\(16, 24\), parameter \(\)"),
    "for a leaf that is None": (
        {"fc": {"kernel": LIVE}, "none": LIVE},
        SpartaValueError,
        r"params\['none'\]: there is no such",
    ),
    "many at once": (
        {"fc": {"kernel": LIVE.transpose(), "bias": np.ones(24), "gain": LIVE}},
        SpartaValueError,
        "3 mismatches",
        KERNEL + ": mask has shape",
        r"params\['fc'\]\['bias'\]: the mask has dtype",
        r"params\['fc'\]\['gain'\]: there is no such",
    ),
}


@pytest.mark.parametrize("name", TESAS)
@pytest.mark.parametrize("use", USES)
def test_a_tesa_that_does_not_fit(use, name):
    tesa, kind, *messages = TESAS[name]
    refused(lambda: USES[use](sparsify(tesa)), kind, *messages)


@pytest.mark.parametrize("name", TESAS)
def test_propagate_refuses_the_same(name):
    tesa, kind, *messages = TESAS[name]
    refused(lambda: sj.propagate(model, tesa)(PARAMS, X), kind, *messages)


def test_a_traced_mask():
    run = lambda mask: sparsify({"fc": {"kernel": mask}})(PARAMS, X)
    for transform in (jax.jit, jax.vmap):
        mask = jnp.asarray(LIVE.mask)[None] if transform is jax.vmap else jnp.asarray(LIVE.mask)
        refused(lambda: transform(run)(mask), SpartaTypeError, KERNEL, "traced", "outside `jit`")  # noqa: B023


def test_a_maker_that_needs_values_in_a_call():
    maker = {"kernel": lambda leaf: sj.masks.magnitude(leaf, density=0.5)}
    refused(lambda: sparsify(maker)(PARAMS, X), SpartaTypeError, KERNEL, "traced", "outside `jit`")


# -- packed trees


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


# -- masks


MASKS = {
    "density above 1": (dict(density=1.5), SpartaValueError, KERNEL, r"density 1\.5 is outside \[0, 1\]"),
    "density below 0": (dict(density=-0.1), SpartaValueError, KERNEL, r"density -0\.1 is outside \[0, 1\]"),
    "density in percent": (dict(density=90), SpartaValueError, KERNEL, r"90 is outside \[0, 1\]"),
    "density that is no number": (dict(density=float("nan")), SpartaValueError, KERNEL, "nan is outside"),
    "block of zero size": (dict(density=0.5, block=(8, 0)), SpartaValueError, KERNEL, r"block \(8, 0\) has a size below 1"),
    "block of another rank": (dict(density=0.5, block=(8,)), SpartaValueError, KERNEL, r"\(8,\) has 1 .*\(16, 24\) needs 2"),
    "block that is a number": (dict(density=0.5, block=8), SpartaTypeError, KERNEL, "block 8 is not a tuple"),
    "paths that hit nothing": (
        dict(density=0.5, paths="weight"),
        SpartaValueError,
        "'weight' is found in no path",
        "fc/kernel",
    ),
}


@pytest.mark.parametrize("maker", [sj.masks.magnitude, sj.masks.random])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name, maker):
    options, kind, *messages = MASKS[name]
    refused(lambda: maker(PARAMS, **options), kind, *messages)


def test_masks_of_traced_params():
    refused(
        lambda: jax.jit(lambda params: sj.masks.magnitude(params, density=0.5))(PARAMS),
        SpartaTypeError,
        KERNEL,
        "traced",
        "outside",
    )


# -- the options of `sparsify`


def needs(n: int) -> str:
    return f"names {n} arguments: `tesa` must be a tuple of as many trees"


OPTIONS = {
    "an unknown implementation": (
        lambda: sparsify(implementation="cuda"),
        SpartaValueError,
        "'cuda' is unknown; there are .*native",
    ),
    "no function": (lambda: sparsify(fn=3), SpartaTypeError, "needs a function, got int"),
    "arguments swapped": (lambda: sj.sparsify(TESA, model), SpartaTypeError, "needs a function, got dict"),
    "too few trees": (lambda: sparsify((TESA,), argnums=(0, 1)), SpartaValueError, r"argnums=\(0, 1\) " + needs(2)),
    "too many trees": (lambda: sparsify((TESA, TESA), argnums=(0,)), SpartaValueError, r"argnums=\(0,\) " + needs(1)),
    "one tree for a tuple": (lambda: sparsify(TESA, argnums=(0,)), SpartaValueError, needs(1)),
    "out of range": (lambda: sparsify(argnums=2)(PARAMS, X), SpartaValueError, r"argnums=\(2,\).* 2 positional.*by position"),
    "negative out of range": (lambda: sparsify(argnums=-3)(PARAMS, X), SpartaValueError, r"argnums=\(-3,\).* 2 positional"),
    "by keyword": (lambda: sparsify()(params=PARAMS, x=X), SpartaValueError, r"argnums=\(0,\).* 0 positional.*by position"),
    "one of two by keyword": (
        lambda: sparsify((None, TESA), fn=lambda x, params: model(params, x), argnums=(0, 1))(X, params=PARAMS),
        SpartaValueError,
        r"argnums=\(0, 1\): argument 1 is the params, and 1 positional",
    ),
    "twice": (lambda: sparsify((TESA, TESA), argnums=(0, -2))(PARAMS, X), SpartaValueError, r"argnums=\(0, -2\).* twice"),
    "params and static": (
        lambda: sparsify(static_argnames="params")(PARAMS, X),
        SpartaValueError,
        r"params \(position 0\) is named as params and as static",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name):
    act, kind, *messages = OPTIONS[name]
    refused(act, kind, *messages)


@pytest.mark.parametrize("use", ["call", "pack", "report"])
def test_an_implementation_that_cannot_serve(use):
    """One error lists all sites."""
    params = {"a": PARAMS["fc"]["kernel"], "b": random((24, 8), RNG)}
    tesa = {"a": LIVE, "b": sj.TeSA(RNG.random((24, 8)) < 0.5)}
    fast = sj.sparsify(lambda p, x: jnp.sin(x @ p["a"]) @ p["b"], tesa, implementation="mosaic", platform="cpu")
    act = {"call": fast, "pack": fast.pack, "report": fast.report}[use]
    messages = [
        "implementation='mosaic' cannot serve these products on cpu",
        r"\n  p\['a'\]: mosaic.* needs",
        r"\n  p\['b'\]: ",
    ]
    refused(lambda: act(params, X), SpartaValueError, *messages)


# -- arguments


def powers(params, x, n=1, *, bias=0.0):
    return model(params, x) ** len(n) + bias if isinstance(n, str) else model(params, x) * n + bias


UNHASHABLE = {
    "by number": (dict(static_argnums=2), (["a"],), {}, r"n \(position 2\)"),
    "by a negative number": (dict(static_argnums=-1), (["a"],), {}, r"n \(position 2\)"),
    "by number, passed by name": (dict(static_argnums=2), (), {"n": ["a"]}, "n is"),
    "by name": (dict(static_argnames="n"), (), {"n": ["a"]}, "n is"),
    "by name, passed by position": (dict(static_argnames=("n",)), (["a"],), {}, r"n \(position 2\)"),
    "keyword only": (dict(static_argnames="bias"), (), {"bias": np.zeros(2)}, "bias is"),
}


@pytest.mark.parametrize("use", ["call", "pack", "report", "verify"])
@pytest.mark.parametrize("name", UNHASHABLE)
def test_an_unhashable_static_argument(name, use):
    options, args, kwargs, where = UNHASHABLE[name]
    fast = sparsify(fn=powers, **options)
    act = fast if use == "call" else getattr(fast, use)
    kind = type((*args, *kwargs.values())[0]).__name__
    refused(
        lambda: act(PARAMS, X, *args, **kwargs),
        SpartaTypeError,
        "static argument " + where,
        f"{kind}, which cannot be hashed",
        "pass a",
    )


@pytest.mark.parametrize("use", ["pack", "report", "verify"])
def test_an_argument_that_is_no_array(use):
    act = getattr(sparsify(), use)
    refused(lambda: act(PARAMS, "x"), SpartaTypeError, "^x is a str, not an array", "static_argnames")
    refused(lambda: act(PARAMS, {"y": [X, "x"]}), SpartaTypeError, r"^x\['y'\]\[1\] is a str")
    refused(lambda: act({**PARAMS, "scale": "2"}, X), SpartaTypeError, r"^params\['scale'\] is a str")


def test_errors_of_the_function_are_its_own():
    """They name it and its line, as under `jax.jit`."""

    def branching(params, x):
        return x if x.sum() > 0 else -x

    with pytest.raises(jax.errors.TracerBoolConversionError, match=rf"branching at {re.escape(__file__)}:\d+"):
        sparsify(fn=branching)(PARAMS, X)
    with pytest.raises(ZeroDivisionError):
        sparsify(fn=lambda params, x: 1 / 0)(PARAMS, X)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        sparsify()(PARAMS)
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        sparsify()(PARAMS, X, y=X)


# -- what is right: arguments as in `jax.jit`

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


# -- params that are not the usual dict of arrays

SPEC = {"w": LIVE}
W = PARAMS["fc"]["kernel"]
UNUSUAL = {
    "a list": ([W], [LIVE], lambda p, x: x @ p[0]),
    "a tuple": ((W,), (LIVE,), lambda p, x: x @ p[0]),
    "one array": (W, LIVE, lambda p, x: x @ p),
    "an array of numpy": ({"w": np.asarray(W)}, SPEC, lambda p, x: x @ p["w"]),
    "an array of numpy in float64": ({"w": np.asarray(W, np.float64)}, SPEC, lambda p, x: x @ p["w"]),
    "a mask of jax": ({"w": W}, {"w": jnp.asarray(LIVE.mask)}, lambda p, x: x @ p["w"]),
    "None among the leaves": ({"w": W, "b": None}, {"w": LIVE, "b": None}, lambda p, x: x @ p["w"]),
    "a float": ({"w": W, "s": 0.5}, SPEC, lambda p, x: x @ p["w"] * (p["s"] * 2)),
    "an integer": ({"w": W, "n": 2}, SPEC, lambda p, x: x @ p["w"] * (p["n"] // 2)),
    "a weak array": ({"w": W, "s": jnp.full((3, 1), 2.0)}, SPEC, lambda p, x: p["s"] / 2 * x @ p["w"]),
    "a random key": ({"w": W, "key": jax.random.key(0)}, SPEC, lambda p, x: x @ p["w"] + 0 * jax.random.uniform(p["key"])),
    "a dead scalar": (
        {"w": W, "s": jnp.float32(5)},
        {"w": LIVE, "s": sj.TeSA(np.array(False))},
        lambda p, x: x @ p["w"] + p["s"],
    ),
    "integers with a mask": (
        {"w": W, "n": jnp.full((16, 24), 7)},
        {"w": LIVE, "n": sj.TeSA.dead((16, 24))},
        lambda p, x: x @ (p["w"] + p["n"].astype(jnp.float32)),
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_params(name):
    params, tesa, fn = UNUSUAL[name]
    fast = sparsify(tesa, fn=fn)
    want = X @ jnp.where(LIVE.mask, W, 0)
    assert_near(fast(params, X), want)
    assert_near(fast(fast.pack(params, X), X), want)


def test_a_mask_on_a_data_argument():
    """What is known of the data, an attention mask say, is told as that of params; it may change from call to call."""
    fast = sj.sparsify(lambda w, x: x @ w, (None, sj.TeSA.channels(np.arange(16) < 8, 1, (3, 16))), argnums=(0, 1))
    w = random((16, 24), RNG)
    for x in (X, X + 1, X.at[:, 8:].set(jnp.nan)):
        assert_near(fast(w, x), x[:, :8] @ w[:8])


def test_nothing_to_prune():
    for tesa in ({}, None, {"fc": None}, lambda path, leaf: None):
        fast = sj.sparsify(model, tesa)
        assert_near(fast(PARAMS, X), model(PARAMS, X))
        assert_near(fast(fast.pack(PARAMS, X), X), model(PARAMS, X))
    empty = sj.sparsify(lambda params, x: x + 1, {})
    assert_near(empty({}, X), X + 1)
    assert_near(empty(empty.pack({}, X), X), X + 1)


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


def test_an_unknown_platform_is_named():
    with pytest.raises(SpartaValueError, match="platform='abacus'.*cpu"):
        sj.sparsify(lambda w, x: x @ w, None, platform="abacus")


def test_propagate_needs_a_function():
    with pytest.raises(SpartaTypeError, match="needs a function"):
        sj.propagate(3, None)
