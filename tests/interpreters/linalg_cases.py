"""Cases of linear algebra, Fourier transforms and the like: what mixes whole matrices or rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from interpreters.case import X, add, gradient
from jax import lax

STACK, SQUARE = (4, 3, 3), (3, 3)


def spd(x):
    """A positive definite matrix of any."""
    return x @ jnp.swapaxes(x, -1, -2) + jnp.eye(x.shape[-1])


def regular(a):
    """A matrix with a large diagonal."""
    return a + 4 * jnp.eye(a.shape[-1])


def parts(fn: Callable) -> Callable:
    """Real and imaginary parts of what `fn` gives."""
    return lambda *xs: [f(y) for y in jax.tree.leaves(fn(*xs)) for f in (jnp.real, jnp.imag)]


add("cholesky", lambda x: lax.linalg.cholesky(spd(x)), STACK)
add("cholesky, gradient", gradient(lambda x: lax.linalg.cholesky(spd(x)), 0), SQUARE)
add("eig", parts(lambda x: lax.linalg.eig(x, compute_left_eigenvectors=False)), STACK)
add("eigh", lambda x: lax.linalg.eigh(x), STACK)
add("hessenberg", lambda x: lax.linalg.hessenberg(x), STACK)
add("householder_product", lax.linalg.householder_product, STACK, (4, 2))
add("lu", lambda x: lax.linalg.lu(x), STACK)
add("qr", lambda x: lax.linalg.qr(x, full_matrices=True), (4, 3, 2))
add("schur", lambda x: lax.linalg.schur(x), STACK)
add("svd", lambda x: lax.linalg.svd(x, full_matrices=False), (4, 3, 2))
add("svd, values alone", lambda x: lax.linalg.svd(x, compute_uv=False), (4, 2, 3))
add("tridiagonal", lambda x: lax.linalg.tridiagonal(x), STACK)
add("lu of one matrix", lambda x: lax.linalg.lu(x), (4, 3))
for _left in (True, False):
    for _lower in (True, False):
        for _transposed in (True, False):
            _fn = partial(lax.linalg.triangular_solve, left_side=_left, lower=_lower, transpose_a=_transposed)
            _shape = (4, 3, 2) if _left else (4, 2, 3)
            add(f"triangular_solve, {_left}, {_lower}, {_transposed}", lambda a, b, f=_fn: f(regular(a), b), STACK, _shape)
add("tridiagonal_solve", lambda a, d, c, b: lax.linalg.tridiagonal_solve(a, d + 8, c, b), X, X, X, (4, 6, 2))
add("solve", lambda a, b: jnp.linalg.solve(regular(a), b), STACK, (4, 3, 2))
add("inv, gradient", gradient(lambda a: jnp.linalg.inv(regular(a)), 0), SQUARE)
add("fft", parts(jnp.fft.fft), X)
add("rfft of two axes", parts(jnp.fft.rfft2), (2, 3, 4))
add("irfft", jnp.fft.irfft, X)
add("fft, gradient", gradient(lambda x: jnp.abs(jnp.fft.rfft(x)), 0), X)
add("approx_top_k", lambda x: lax.approx_max_k(x, 2), X)
add("approx_top_k, not aggregated", lambda x: lax.approx_min_k(x, 2, reduction_dimension=0, aggregate_to_topk=False), X)
if hasattr(lax, "polynomial"):
    add("polynomial", lambda x, a, b: lax.polynomial(x, [a, b, a, np.float32(2)]), X, (1, 6), X)
    add("polynomial, without a constant", lambda x, b: lax.polynomial(x, [np.float32(0), b]), X, X)
add("normal numbers", lambda x: x * jax.random.normal(jax.random.key(3), x.shape), X)
add("random words", lambda x: x + jax.random.bits(jax.random.key(3), (), "uint32").astype(jnp.float32), X)
