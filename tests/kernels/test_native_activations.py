"""float32 activations of the native products against scipy's, element by element."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, ndtr

from sparta_jax.formats.bsr import Pattern
from sparta_jax.kernels import native
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import ISAS, need_native

pytestmark = need_native()

# The exact value, and the relative error that is allowed from -1 on and below.
EXACT = {
    "gelu_erf": (lambda x: x * ndtr(x), 4e-7, 4e-6),
    "gelu_tanh": (lambda x: x * expit(1.5957691216057308 * (x + 0.044715 * x**3)), 4e-7, 2e-5),
    "silu": (lambda x: x * expit(x), 3e-7, 3e-7),
    "tanh": (np.tanh, 3e-7, 3e-7),
    "sigmoid": (expit, 3e-7, 3e-7),
}


@pytest.mark.parametrize("isa", ISAS)
def test_activations_are_accurate_where_they_are_small_too(monkeypatch, isa):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    x = np.concatenate([np.linspace(-10, 10, 8193), [0.0, 1e-30, -1e-30, 50, np.inf, np.nan]]).astype(np.float32)
    pattern = Pattern.of(TeSA.dense((1, 1)), (1, 1))
    column, one = jnp.asarray(x[:, None]), jnp.ones((1, 1, 1))
    product = lambda a: native.spmm(column, one, pattern.indptr, pattern.indices, 1, activation=a)
    results = jax.jit(lambda: {name: product(name)[:, 0] for name in EXACT})()
    for name, (exact, near, far) in EXACT.items():
        with np.errstate(invalid="ignore"):
            want = np.where(x == np.inf, 1.0 if name in ("tanh", "sigmoid") else np.inf, exact(x.astype(np.float64)))
        got = np.asarray(results[name], np.float64)
        for part, tolerance in ((~(x < -1), near), (x < -1, far)):
            np.testing.assert_allclose(got[part], want[part], rtol=tolerance, err_msg=name)
