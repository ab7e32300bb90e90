"""Every layout of a product is found, and computes what the masked program does, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import LAYOUTS, assert_sides_near, mask_of, masked, random
from batches import batches

import sparta_jax as sj


def gradients(fn):
    return jax.grad(lambda w, x: jnp.sum(jnp.sin(fn(w, x))), (0, 1))


@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("names", batches(LAYOUTS, 11))
def test_equals_the_masked_program(names, density):
    sides, args = {}, {}
    for name in names:
        case, rng = LAYOUTS[name], np.random.default_rng(0)
        tesa = sj.TeSA(mask_of(case.w, density, rng))
        fast = sj.sparsify(case.fn, tesa, implementation="xla" if 0 < density < 1 else None)
        sides[name] = functools.partial(both_sides, fast, masked(case.fn, tesa))
        args[name] = random(case.w, rng), random(case.x, rng)
    assert_sides_near(sides, args, lambda name: 2e-2 if name in ("cast before", "preferred type") else 1e-5)


def both_sides(fast, masked, w, x):
    """Of values, gradients and a call with packed params."""
    want = masked(w, x)
    return (fast(w, x), gradients(fast)(w, x), fast(fast.pack(w, x), x)), (want, gradients(masked)(w, x), want)


@pytest.mark.parametrize("name", LAYOUTS)
def test_is_found(name, rng):
    case = LAYOUTS[name]
    tesa = sj.TeSA(mask_of(case.w, 0.4, rng))
    w, x = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (case.w, case.x))
    report = sj.sparsify(case.fn, tesa, implementation="xla").report(w, x)
    assert len(report.sites) == case.sites
    assert all(s.kernel == "xla_bsr_spmm" and s.name == "w" for s in report.sites)
