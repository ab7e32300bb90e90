"""Every layout of a product is found, and computes what the masked program does, values and gradients."""

import jax
import jax.numpy as jnp
import pytest
from api.programs import LAYOUTS, assert_near, mask_of, masked, random

import sparta_jax as sj


@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", LAYOUTS)
def test_equals_the_masked_program(name, density, rng):
    case = LAYOUTS[name]
    tesa = sj.TeSA(mask_of(case.w, density, rng))
    w, x = random(case.w, rng), random(case.x, rng)
    fast, want = sj.sparsify(case.fn, tesa, implementation="xla" if 0 < density < 1 else None), masked(case.fn, tesa)
    tolerance = 2e-2 if name in ("cast before", "preferred type") else 1e-5
    assert_near(fast(w, x), want(w, x), tolerance)
    loss = lambda fn: lambda w, x: jnp.sum(jnp.sin(fn(w, x)))
    assert_near(jax.grad(loss(fast), (0, 1))(w, x), jax.grad(loss(want), (0, 1))(w, x), tolerance)
    assert_near(fast(fast.pack(w, x), x), want(w, x), tolerance)


@pytest.mark.parametrize("name", LAYOUTS)
def test_is_found(name, rng):
    case = LAYOUTS[name]
    tesa = sj.TeSA(mask_of(case.w, 0.4, rng))
    w, x = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (case.w, case.x))
    report = sj.sparsify(case.fn, tesa, implementation="xla").report(w, x)
    assert len(report.sites) == case.sites
    assert all(s.kernel == "xla_bsr_spmm" and s.name == "w" for s in report.sites)
