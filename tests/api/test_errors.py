"""What a user does wrong with options and arguments: one error of ours says what, where (the key path), and how to mend it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import random
from api.usage import LIVE, PARAMS, RNG, TESA, X, model, powers, refused, sparsify

import sparta_jax as sj
from sparta_jax.errors import SpartaTypeError, SpartaValueError

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


def test_an_unknown_platform_is_named():
    with pytest.raises(SpartaValueError, match="platform='abacus'.*cpu"):
        sj.sparsify(lambda w, x: x @ w, None, platform="abacus")


def test_propagate_needs_a_function():
    with pytest.raises(SpartaTypeError, match="needs a function"):
        sj.propagate(3, None)
