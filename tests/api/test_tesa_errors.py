"""What a user does wrong with masks and TeSAs: one error of ours says what, where (the key path), and how to mend it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.usage import KERNEL, LIVE, PARAMS, X, model, refused, sparsify

import sparta_jax as sj
from sparta_jax.errors import SpartaTypeError, SpartaValueError

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


@pytest.mark.parametrize(("transform", "mask"), [(jax.jit, LIVE.mask), (jax.vmap, LIVE.mask[None])])
def test_a_traced_mask(transform, mask):
    run = lambda mask: sparsify({"fc": {"kernel": mask}})(PARAMS, X)
    refused(lambda: transform(run)(jnp.asarray(mask)), SpartaTypeError, KERNEL, "traced", "outside `jit`")


def test_a_maker_that_needs_values_in_a_call():
    maker = {"kernel": lambda leaf: sj.masks.magnitude(leaf, density=0.5)}
    refused(lambda: sparsify(maker)(PARAMS, X), SpartaTypeError, KERNEL, "traced", "outside `jit`")


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
