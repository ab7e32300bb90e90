"""Every format gives back exactly what is live, and nothing of what is dead, whatever the array held there."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import together
from hypothesis import given, settings
from hypothesis import strategies as st

from sparta_jax import TeSA
from sparta_jax.formats.bsr import BSR, Pattern
from sparta_jax.formats.csr import CSR
from sparta_jax.formats.dense import live_elements, masked

FORMATS = {
    "masked dense": lambda weight, tesa, block: masked(weight, tesa),
    "bsr": lambda weight, tesa, block: BSR.pack(weight, tesa, block),
    "csr": lambda weight, tesa, block: CSR.pack(weight, tesa),
}
SHAPES = {  # and a block: that divides, that leaves ragged edges, of one element, larger than the weight
    (16, 24): (4, 8),
    (13, 18): (8, 4),
    (12, 9): (1, 1),
    (40, 7): (1, 32),
    (1, 40): (16, 16),
    (5, 3): (50, 50),
    (0, 8): (4, 4),
    (8, 0): (4, 4),
}
BLOCKS = [(1, 1), (4, 8), (50, 50)]
MASKS = {
    "dead": lambda shape, rng: np.zeros(shape, bool),
    "elements, density 0.1": lambda shape, rng: rng.random(shape) < 0.1,
    "blocks, density 0.5": lambda shape, rng: np.kron(rng.random([-(-n // 4) for n in shape]) < 0.5, np.ones((4, 4), bool)),
    "channels": lambda shape, rng: np.broadcast_to(rng.random(shape[1]) < 0.5, shape),
    "corner": lambda shape, rng: np.indices(shape).sum(0) == sum(shape) - 2,
    "dense": lambda shape, rng: np.ones(shape, bool),
}


def setting(name, shape, dtype, rng):
    mask = MASKS[name](shape, rng)[tuple(map(slice, shape))]
    return TeSA(mask), rng.standard_normal(shape).astype(dtype)


def to_dense(stored):
    return stored if isinstance(stored, jax.Array) else stored.to_dense()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(format, shape, rng):
    """Of all masks, compiled together."""
    dtype = jnp.bfloat16 if shape == (13, 18) else jnp.float32
    settings = {name: setting(name, shape, dtype, rng) for name in MASKS}

    def there_and_back(tesa, w):
        stored = FORMATS[format](masked(w, tesa), tesa, SHAPES[shape])
        return stored, to_dense(stored)

    run = together({name: functools.partial(there_and_back, tesa) for name, (tesa, _) in settings.items()})
    results = run([(weight,) for _, weight in settings.values()])
    for (name, (tesa, weight)), (stored, got) in zip(settings.items(), results, strict=True):
        assert got.dtype == dtype, name
        assert got.shape == shape, name
        np.testing.assert_array_equal(got, np.where(tesa.mask, weight, np.zeros((), dtype)), err_msg=name)
        assert all(leaf.dtype in (dtype, jnp.int32) for leaf in jax.tree.leaves(stored)), name


@pytest.mark.parametrize("format", FORMATS)
def test_eager_a_pytree_and_differentiable(format, rng):
    tesa, weight = setting("blocks, density 0.5", (13, 18), jnp.float32, rng)
    pack = lambda w: FORMATS[format](masked(w, tesa), tesa, (4, 8))
    want = np.where(tesa.mask, weight, 0)
    np.testing.assert_array_equal(to_dense(jax.tree.map(lambda leaf: leaf, pack(weight))), want)
    gradient = jax.jit(jax.grad(lambda w: jnp.sum(to_dense(pack(w)) ** 2) / 2))(weight)
    np.testing.assert_array_equal(gradient, want)


@pytest.mark.parametrize("name", MASKS)
def test_bsr_stores_the_blocks_that_live(name, rng):
    tesa, weight = setting(name, (13, 18), jnp.float32, rng)

    @jax.jit
    def packed(w):
        stored = [BSR.pack(w, tesa, block) for block in BLOCKS]
        return stored, [bsr.columns() for bsr in stored]

    for block, bsr, columns in zip(BLOCKS, *packed(weight), strict=True):
        live = tesa.block_mask(block)
        assert bsr.block == block
        assert bsr.blocks.shape == (bsr.nnzb, *block)
        assert bsr.nnzb == live.sum() == Pattern.of(tesa, block).nnzb
        np.testing.assert_array_equal(np.diff(bsr.indptr), live.sum(0))
        again = np.zeros_like(live)
        again[bsr.indices, columns] = True
        np.testing.assert_array_equal(again, live)


def test_bsr_by_hand():
    """Two block rows, three block columns, both last ones ragged; listed by block column."""
    weight = jnp.arange(3 * 5, dtype=jnp.float32).reshape(3, 5) + 1
    grid = np.array([[True, False, True], [True, False, False]])
    bsr = BSR.pack(weight, TeSA.blocks(grid, (2, 2), (3, 5)), (2, 2))
    assert bsr.indptr.tolist() == [0, 2, 2, 3]
    assert bsr.indices.tolist() == [0, 1, 0]
    assert bsr.columns().tolist() == [0, 0, 2]
    assert bsr.blocks.tolist() == [[[1, 2], [6, 7]], [[11, 12], [0, 0]], [[5, 0], [10, 0]]]


def test_csr_by_hand():
    """Listed by column, within a column by row; made from a dense weight or from its elements in any order."""
    weight = jnp.array([[1.0, 0, 0], [2, 0, 3]])
    packed = CSR.pack(weight, TeSA(np.asarray(weight != 0)))
    listed = CSR.of_coo(jnp.array([3.0, 2, 1]), np.array([1, 1, 0]), np.array([2, 0, 0]), (2, 3))
    for csr in (packed, listed):
        assert csr.values.tolist() == [1, 2, 3]
        assert csr.indptr.tolist() == [0, 2, 2, 3]
        assert csr.indices.tolist() == [0, 1, 1]
        assert csr.columns().tolist() == [0, 0, 2]
        np.testing.assert_array_equal(csr.to_dense(), weight)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32), st.floats(0, 1))
def test_the_transposed_pattern(k, n, br, bc, seed, density):
    tesa = TeSA(np.random.default_rng(seed).random((k, n)) < density)
    pattern = Pattern.of(tesa, (br, bc))
    got, order = pattern.transposed(-(-k // br))
    want = Pattern.of(tesa.transpose(), (bc, br))
    for field in dataclasses.fields(Pattern):
        np.testing.assert_array_equal(getattr(got, field.name), getattr(want, field.name))
    assert sorted(order) == list(range(pattern.nnzb))
    np.testing.assert_array_equal(pattern.columns[order], want.indices)
    np.testing.assert_array_equal(pattern.indices[order], want.columns)


# -- what is dead counts as zero, whatever the array holds there


@pytest.mark.parametrize("name", MASKS)
def test_what_dead_elements_hold_is_not_seen(name, rng):
    tesa, weight = setting(name, (13, 18), jnp.float32, rng)

    def cubed(w):
        zeroed = masked(w, tesa)
        return jnp.sum(zeroed**3), zeroed

    differentiated = jax.jit(jax.grad(cubed, has_aux=True))
    for value in (np.nan, np.inf):
        gradient, zeroed = differentiated(np.where(tesa.mask, weight, np.float32(value)))
        np.testing.assert_array_equal(zeroed, np.where(tesa.mask, weight, 0))
        np.testing.assert_allclose(gradient, np.where(tesa.mask, 3 * weight**2, 0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bfloat16, jnp.complex64, bool], ids=str)
def test_masked_keeps_the_dtype(dtype):
    tesa = TeSA(np.eye(6, dtype=bool))
    out = masked(jnp.asarray(np.ones((6, 6), dtype)), tesa)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, np.eye(6, dtype=bool).astype(dtype))


def test_masked_leaves_a_dense_array_alone():
    weight = jnp.ones((3, 4))
    assert masked(weight, TeSA.dense((3, 4))) is weight


def cut_at_will(draw):
    shape = draw(st.lists(st.integers(0, 20), max_size=3))
    cuts = [sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=3))}) for n in shape]
    cells = np.random.default_rng(draw(st.integers(0, 2**32))).random([len(c) - 1 for c in cuts]) < 0.5
    return TeSA.from_cells(cells, cuts)


@settings(max_examples=15)
@given(st.composite(cut_at_will)())
def test_a_mask_in_a_program_is_the_mask(tesa):
    np.testing.assert_array_equal(jax.jit(lambda: live_elements(tesa))(), tesa.mask)


def test_a_mask_of_blocks_enters_a_program_as_blocks(rng):
    tesa = TeSA.blocks(rng.random((32, 32)) < 0.5, (32, 32), (1024, 1024))
    program = jax.make_jaxpr(lambda: live_elements(tesa))()
    assert sum(np.size(c) for c in program.consts) <= 32 * 32
    np.testing.assert_array_equal(live_elements(tesa), tesa.mask)
