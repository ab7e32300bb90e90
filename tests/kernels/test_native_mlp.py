"""The native kernel of feed-forward networks equals its products one by one, whatever the size, dtype and instruction set."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import together

from sparta_jax.kernels import native, native_csr
from sparta_jax.problem import CSR_LAYOUT
from sparta_jax.stored import pattern_of, values_at
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import EXACT, ISAS, distance, need_native, normal

pytestmark = need_native()

TOLERANCE = {"float32": 2e-6, "float64": 1e-13, "bfloat16": 5e-3, "float16": 1e-3}

# m, k, columns between, n, density
CASES = [
    (1, 20, 50, 30, 0.3),
    (16, 64, 96, 64, 0.1),
    (17, 33, 41, 7, 0.3),
    (70, 50, 75, 50, 0.0),
    (33, 17, 16, 33, 1.0),
    (200, 130, 257, 100, 0.05),
    (90, 3, 5, 2, 0.5),
    (40, 900, 6000, 40, 0.01),  # a row so long that panels are one vector wide
    (0, 24, 24, 24, 0.5),
    (40, 24, 24, 0, 0.5),
]


def layer(k, n, density, seed, dtype, bias=True, activation=None):
    """A layer and its dense weight."""
    tesa = TeSA(np.random.default_rng(seed).random((k, n)) < density)
    w = np.where(tesa.mask, normal((k, n), seed), 0).astype(jnp.dtype(dtype))
    pattern = pattern_of(tesa, CSR_LAYOUT)
    extra = normal((n,), seed + 1).astype(jnp.dtype(dtype)) if bias else None
    return native_csr.Layer(values_at(w, tesa, CSR_LAYOUT), pattern.indptr, pattern.indices, extra, activation), w


def exact(x, layer, w):
    y = x @ w.astype(np.float64) + (0 if layer.bias is None else layer.bias.astype(np.float64))
    return y if layer.activation is None else EXACT[layer.activation](y)


def case(m, k, hidden, n, density, *, gated=False, dtype="float32", activation="gelu_erf", residual=True, threads=2):
    """A call to compile, its operands and the exact result."""
    (up, up_w), (gate, gate_w), (down, down_w) = (
        layer(k, hidden, density, 3, dtype, activation=activation),
        layer(k, hidden, density, 5, dtype, bias=residual, activation="tanh" if residual else None),
        layer(hidden, n, density, 7, dtype, bias=residual, activation=None if residual else "relu"),
    )
    x, added = normal((m, k), 1).astype(jnp.dtype(dtype)), normal((m, n), 2).astype(jnp.dtype(dtype))
    wide = x.astype(np.float64)
    between = exact(wide, up, up_w) * (exact(wide, gate, gate_w) if gated else 1)
    want = exact(between, down, down_w) + (added.astype(np.float64) if residual else 0)

    def run(x, added):
        return native_csr.mlp(x, up, gate if gated else None, down, n, threads=threads, residual=added if residual else None)

    return run, (x, added), want


def check(cases, dtype="float32"):
    wrong, results = {}, together({name: fn for name, (fn, _, _) in cases.items()})([a for _, a, _ in cases.values()])
    for (name, (_, _, want)), got in zip(cases.items(), results, strict=True):
        assert (got.shape, got.dtype) == (want.shape, dtype), name
        if not distance(got, want) < TOLERANCE[dtype]:
            wrong[name] = distance(got, want)
    assert not wrong


@pytest.mark.parametrize("isa", ISAS)
def test_equals_the_products_one_by_one(isa, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    check({f"{sizes} {gated=}": case(*sizes, gated=gated) for sizes in CASES for gated in (False, True)})


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        sizes = itertools.product((CASES[2], CASES[5]), (False, True))
        check({f"{s} {gated=}": case(*s, gated=gated, dtype=dtype, activation="silu") for s, gated in sizes}, dtype)


@pytest.mark.parametrize("activation", native.ACTIVATIONS)
def test_epilogues(activation):
    flags = itertools.product((False, True), repeat=2)
    check({f"{g=} {r=}": case(*CASES[2], gated=g, residual=r, activation=activation) for g, r in flags})


def test_any_number_of_threads():
    check({f"{threads} threads": case(300, 64, 200, 48, 0.2, gated=True, threads=threads) for threads in (0, 1, 2, 3, 7)})


@pytest.mark.parametrize("which", ["up", "gate", "down"])
def test_corrupt_tables_are_refused(which):
    layers = {"up": layer(64, 48, 0.3, 3, "float32")[0], "gate": layer(64, 48, 0.3, 5, "float32")[0]}
    layers["down"] = layer(48, 40, 0.3, 7, "float32")[0]
    good = layers[which]
    far, negative, ends = good.indices.copy(), good.indices.copy(), good.indptr.copy()
    far[-1], negative[0], ends[3] = 64, -1, ends[-1] + 1
    corrupt = [
        good._replace(indices=far),
        good._replace(indices=negative),
        good._replace(indptr=ends),
        good._replace(indptr=good.indptr[:-1]),
        good._replace(indptr=good.indptr + 1),
        good._replace(indices=good.indices[:-1]),
        good._replace(values=good.values[:-1]),
        good._replace(bias=jnp.ones((7,))),
    ]
    x = jnp.ones((40, 64))
    for bad in corrupt:
        given = {**layers, which: bad}
        with pytest.raises(jax.errors.JaxRuntimeError, match="CSR|csr_mlp"):
            native_csr.mlp(x, given["up"], given["gate"], given["down"], 40, threads=2).block_until_ready()
    native_csr.mlp(x, *layers.values(), 40, threads=2).block_until_ready()
