"""Fused attention: the kernel and every transformation against the reference, in all ways it is written."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax.fused import Grouped, Written, fused
from sparta_jax.kernels import kernels, native
from sparta_jax.problem import Attention, Device
from sparta_jax.specialize import Chooser

NATIVE = Chooser("native")
HAND = [Written("bqhd", "q/c", mask=True), Written("bhqd", "s*c", bias=True), Written("bhqd,bhdk", None, mask=True)]
JAX = [Grouped(0.3), Grouped(0.3, mask=True), Grouped(0.3, bias=True, mask=True, causal=True)]
FORMS = [*HAND, *JAX, Written("bqhd", "q*c", bias=True, mask=True), Written("bhqd", "s/c", mask=True)]
SIZES = [(1, 1, 1, 1, 1), (2, 13, 37, 3, 20), (1, 40, 33, 2, 32), (2, 1, 50, 4, 7)]  # batch, queries, keys, heads, size
SHARED = [(1, 1, 1), (0, 1, 1), (0, 0, 0), (1, 0, 0)]  # along which of batch, heads and queries bias and mask are shared


def operands(form, sizes, shared=(0, 1, 1), seed=0, kv_heads=None):
    rng = np.random.default_rng(seed)
    batch, queries, keys, heads, size = sizes
    kv_heads = kv_heads or heads
    scores = tuple(1 if s else n for s, n in zip(shared, (batch, heads, queries), strict=True)) + (keys,)
    q, k, v = (
        rng.standard_normal(shape)
        for shape in ((batch, queries, heads, size), (batch, keys, kv_heads, size), (batch, keys, kv_heads, size))
    )
    if getattr(form, "layout", "bqhd") != "bqhd":
        q, v, k = q.swapaxes(1, 2), v.swapaxes(1, 2), k.transpose((0, 2, 3, 1) if "bhdk" in form.layout else (0, 2, 1, 3))
    mask = rng.random(scores) < 0.7
    mask[..., 0] = True
    out = [q, k, v] + [0.7] * bool(getattr(form, "scaling", None)) + [rng.standard_normal(scores)] * form.bias
    out = [jnp.asarray(a, jnp.float32) for a in out]
    filled = [jnp.float32(-1e9)] if isinstance(form, Written) else []
    return out + ([jnp.asarray(mask), *filled] if form.mask else [])


def near(got, want, tolerance=1e-5):
    got, want = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(t)]).astype(np.float64) for t in (got, want))
    assert got.shape == want.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    got, want = np.nan_to_num(got), np.nan_to_num(want)
    assert np.linalg.norm(got - want) <= tolerance * max(np.linalg.norm(want), 1e-30)


def call(form):
    return functools.partial(fused, form, NATIVE)


@functools.cache
def both(form):
    """The fused operation and its reference as one program."""
    return jax.jit(lambda *args: (call(form)(*args), form.reference(*args)))


def test_the_kernel_is_there():
    if native.why_unavailable() is None:
        problem = JAX[0].problem(operands(JAX[0], SIZES[1]), Device("cpu", cores=2))
        assert kernels[Attention]["native_attention"].why_not(problem) is None
        assert NATIVE.plan(problem).kernel.name == "native_attention"


@pytest.mark.parametrize(
    ("form", "sizes"), [*zip(FORMS, SIZES * 2, strict=True), *zip(FORMS[6:], SIZES[1:3], strict=True)], ids=str
)
def test_values(form, sizes):
    args = operands(form, sizes)
    near(*both(form)(*args))


@pytest.mark.parametrize(("form", "shared"), list(zip((FORMS[6], JAX[2]) * 2, SHARED, strict=True)), ids=str)
def test_shared_masks(form, shared):
    near(*both(form)(*operands(form, (2, 17, 21, 3, 8), shared)))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa, monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", isa)
    if native.why_unavailable() is not None:
        pytest.skip(f"no {isa} here")
    form = FORMS[6]
    kernel, args = kernels[Attention]["native_attention"], operands(form, (1, 30, 45, 2, 40))
    run = functools.partial(kernel.run, form.problem(args, Device("cpu")), None)
    near(*jax.jit(lambda *args: (run(*args), form.reference(*args)))(*args))


def test_heads_that_share_keys():
    form = Grouped(0.5, mask=True)
    near(*both(form)(*operands(form, (2, 9, 12, 6, 8), kv_heads=2)))


@pytest.mark.parametrize("fill", [-1e9, -np.inf, np.finfo(np.float32).min])
def test_a_row_that_is_masked_everywhere_is_as_the_reference_has_it(fill):
    form = HAND[0]
    args = operands(form, (2, 5, 9, 2, 8), shared=(0, 1, 0))
    args[-2] = np.array(args[-2])
    args[-2][1, 0, 3] = False
    args[-1] = np.float32(fill)
    near(*both(form)(*args))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operand", [0, 1, 2])
def test_what_is_not_finite_spreads_as_in_the_reference(operand, value):
    form = JAX[1]
    args = operands(form, (1, 6, 8, 2, 8))
    args[operand] = np.array(args[operand])
    args[operand][0, 2, 1, 3] = value
    got, want = map(np.asarray, both(form)(*args))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))


TRANSFORMS = {
    "eager": lambda f, a: f(*a),
    "grad": lambda f, a: jax.grad(lambda q, k, v: jnp.sum(f(q, k, v, *a[3:]) ** 2), (0, 1, 2))(*a[:3]),
    "jvp": lambda f, a: jax.jvp(lambda *x: f(*x, *a[3:]), a[:3], a[2::-1] if a[0].shape == a[2].shape else a[:3]),
    "hessian": lambda f, a: jax.jvp(jax.grad(lambda q: jnp.sum(f(q, *a[1:]) ** 2)), a[:1], a[:1]),
    "vmap": lambda f, a: jax.vmap(lambda q, k, v: f(q, k, v, *a[3:]))(*(jnp.stack([x, 2 * x, -x]) for x in a[:3])),
    "vmap of q": lambda f, a: jax.vmap(lambda q: f(q, *a[1:]), 1, 2)(jnp.stack([a[0], -a[0]], 1)),
    "remat": lambda f, a: jax.grad(jax.checkpoint(lambda q: jnp.sum(f(q, *a[1:]) ** 2)))(a[0]),
    "scan": lambda f, a: jax.lax.scan(lambda c, _: (f(c, *a[1:]), None), a[0], None, length=3)[0],
    "vmap of grad": lambda f, a: jax.vmap(jax.grad(lambda q: jnp.sum(f(q, *a[1:]) ** 3)))(jnp.stack([a[0], -a[0]])),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transformations(transform):
    form = FORMS[6] if len(transform) % 2 else JAX[2]
    args = operands(form, (2, 6, 6, 2, 8), shared=(0, 0, 1))
    through = lambda f: (lambda run: run if transform == "eager" else jax.jit(run))(lambda *a: TRANSFORMS[transform](f, a))(
        *args
    )
    near(through(call(form)), through(form.reference), 1e-4)


@pytest.mark.parametrize("axes", [(0, None, None), (None, None, 0), (1, 0, 0)], ids=str)
def test_batches_of_mask_and_fill(axes):
    form = HAND[0]
    args = operands(form, (2, 6, 7, 2, 8))
    batched = [args[0], args[4], args[5]]
    batched = [a if d is None else jnp.stack([a, a], d) for a, d in zip(batched, axes, strict=True)]
    over = lambda f: jax.vmap(lambda q, m, c: f(q, *args[1:4], m, c), axes)(*batched)
    near(*jax.jit(lambda: (over(call(form)), over(form.reference)))())
