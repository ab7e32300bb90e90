"""A TeSA says exactly what its element mask says, whichever way it was made, cut or combined."""

import copy
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax import TeSA
from sparta_jax.errors import SpartaError, SpartaTypeError, SpartaValueError


def blocky(shape, block, density, seed=0):
    """An element mask of blocks with ragged edges, exactly `round(density * blocks)` of them live."""
    grid = np.zeros([-(-n // b) for n, b in zip(shape, block, strict=True)], bool)
    live = np.random.default_rng(seed).permutation(grid.size)[: round(density * grid.size)]
    grid.ravel()[live] = True
    mask = grid
    for axis, b in enumerate(block):
        mask = np.repeat(mask, b, axis)
    return grid, mask[tuple(map(slice, shape))]


MASKS = {
    f"{'x'.join(map(str, shape)) or 'scalar'} by {'x'.join(map(str, block))} at {density}": (shape, block, density)
    for shape, block in [
        ((), ()),
        ((7,), (2,)),
        ((12, 16), (1, 1)),
        ((12, 16), (4, 8)),
        ((13, 18), (4, 8)),
        ((13, 18), (13, 1)),
        ((1, 1), (5, 5)),
        ((3, 10, 9), (1, 4, 4)),
        ((0, 5), (1, 2)),
        ((4, 0), (4, 1)),
        ((0,), (1,)),
    ]
    for density in (0.0, 0.1, 0.5, 1.0)
}


@pytest.fixture(params=MASKS)
def case(request):
    shape, block, density = MASKS[request.param]
    grid, mask = blocky(shape, block, density)
    return shape, block, grid, mask


def check(tesa: TeSA, want: np.ndarray) -> None:
    assert tesa.shape == want.shape
    assert tesa.mask.dtype == bool
    np.testing.assert_array_equal(tesa.mask, want)
    assert tesa == TeSA(want)
    assert hash(tesa) == hash(TeSA(want))


# -- makers and views


def test_says_what_its_mask_says(case):
    shape, _, _, mask = case
    tesa = TeSA(mask)
    check(tesa, mask)
    assert tesa.ndim == len(shape)
    assert tesa.nnz == mask.sum()
    assert tesa.density == (mask.mean() if mask.size else 1.0)
    assert tesa.is_dense == mask.all()
    assert tesa.is_dead == (mask.size > 0 and not mask.any())
    assert f"density={tesa.density:.4g}" in repr(tesa)


def test_every_maker_makes_the_same(case):
    """One content, one digest: by elements, by blocks, by cells, from an array of JAX, from a list, pickled, copied."""
    shape, block, grid, mask = case
    tesa = TeSA(mask)
    edges = [np.append(np.arange(0, n, b), n) if n else [0] for n, b in zip(shape, block, strict=True)]
    others = [
        TeSA.blocks(grid, block, shape),
        TeSA.from_cells(grid, edges),
        TeSA.from_cells(mask, [range(n + 1) for n in shape]),
        TeSA(jnp.asarray(mask)),
        TeSA(np.array(mask, order="F")),
        TeSA.from_cells(tesa.cells, tesa.cuts),
        pickle.loads(pickle.dumps(tesa)),
        copy.copy(tesa),
        copy.deepcopy(tesa),
    ]
    if mask.size:
        others.append(TeSA(mask.tolist()))
    assert {t.digest for t in others} == {tesa.digest}
    assert {tesa, *others} == {tesa}
    for other in others:
        np.testing.assert_array_equal(other.cells, tesa.cells)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (0, 2)])
def test_dense_and_dead(shape):
    check(TeSA.dense(shape), np.ones(shape, bool))
    check(TeSA.dead(shape), np.zeros(shape, bool))
    assert TeSA.dense(shape).cells.size <= 1


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channels(axis, rng):
    shape = (3, 10, 8)
    live = rng.random(shape[axis]) < 0.5
    tesa = TeSA.channels(live, axis, shape)
    want = np.broadcast_to(live.reshape([-1 if d == axis % 3 else 1 for d in range(3)]), shape)
    check(tesa, want)
    np.testing.assert_array_equal(tesa.channel_mask(axis), live)
    assert tesa.cells.size <= shape[axis]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(("n", "m"), [(0, 4), (1, 2), (2, 4), (4, 4)])
def test_nm(n, m, axis, rng):
    shape = (8, 12)
    groups = [*shape[: axis % 2], shape[axis] // m, m, *shape[axis % 2 + 1 :]]
    live = np.argsort(rng.random(groups), axis=axis % 2 + 1) < n
    tesa = TeSA.nm(live, axis, shape, m)
    check(tesa, live.reshape(shape))
    assert tesa.nnz == n * 8 * 12 // m
    assert tesa.is_nm(n, m, axis)
    assert not n or not tesa.is_nm(n - 1, m, axis)
    assert not tesa.is_nm(n, 5, axis)


def test_nm_of_masks_that_are_blocks():
    tesa = TeSA.channels(np.arange(12) % 4 < 2, 0, (12, 6))
    assert tesa.is_nm(2, 4, 0)
    assert not tesa.is_nm(1, 4, 0)
    assert not tesa.is_nm(2, 4, 1)
    assert not tesa.is_nm(2, 0, 0)
    assert TeSA.dead((0, 8)).is_nm(0, 4, 0)
    assert TeSA.dense((8, 0)).is_nm(0, 4, 0)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 40])
def test_blocks_and_channels_that_hold_a_live_element(case, size):
    shape, _, _, mask = case
    tesa = TeSA(mask)
    want = np.zeros([-(-n // size) for n in shape], bool)
    for index in np.argwhere(mask):
        want[tuple(index // size)] = True
    np.testing.assert_array_equal(tesa.block_mask([size] * len(shape)), want)
    assert tesa.nnzb([size] * len(shape)) == want.sum()
    coarse = tesa.coarsen([size] * len(shape))
    check(coarse, TeSA.blocks(want, [size] * len(shape), shape).mask)
    assert coarse | tesa == coarse
    for axis in range(len(shape)):
        others = tuple(d for d in range(len(shape)) if d != axis)
        np.testing.assert_array_equal(tesa.channel_mask(axis), mask.any(others))


def test_a_large_mask_of_blocks_is_few_cells():
    grid, mask = blocky((4096, 4096), (32, 32), 0.1)
    tesa = TeSA(mask)
    assert tesa.cells.size <= 128 * 128
    assert tesa == TeSA.blocks(grid, (32, 32), (4096, 4096))
    assert tesa.nnz == mask.sum()
    assert TeSA.channels(np.arange(4096) < 100, 1, (4096, 4096)).cells.shape == (1, 2)


# -- operators


def test_and_or(case):
    shape, block, _, mask = case
    other = blocky(shape, [b + 1 for b in block], 0.5, seed=1)[1]
    check(TeSA(mask) & TeSA(other), mask & other)
    check(TeSA(mask) | TeSA(other), mask | other)
    assert TeSA(mask) & TeSA.dense(shape) == TeSA(mask) | TeSA.dead(shape) == TeSA(mask)


def test_refine(case):
    shape, _, _, mask = case
    tesa = TeSA(mask)
    np.testing.assert_array_equal(tesa.refine([range(n + 1) for n in shape]), mask)
    np.testing.assert_array_equal(tesa.refine(tesa.cuts), tesa.cells)


def test_transpose_and_reshape(case):
    shape, _, _, mask = case
    tesa = TeSA(mask)
    check(tesa.transpose(), mask.T)
    check(tesa.transpose(tuple(range(len(shape)))[::-1]), mask.T)
    check(tesa.reshape((mask.size,)), mask.ravel())
    check(tesa.reshape((1, *shape, 1)), mask[None, ..., None])
    assert tesa.reshape((mask.size,)).reshape(shape) == tesa


@pytest.mark.parametrize("axis", [0, -1])
def test_concatenate_and_cut_apart(case, axis):
    shape, block, _, mask = case
    if not shape:
        return
    other = blocky(shape, [b + 1 for b in block], 0.5, seed=1)[1]
    joined = TeSA.concatenate([TeSA(mask), TeSA(other), TeSA(mask)], axis)
    check(joined, np.concatenate([mask, other, mask], axis))
    n = shape[axis]
    middle = [slice(None)] * len(shape)
    middle[axis] = slice(n, 2 * n)
    assert joined[tuple(middle)] == TeSA(other)


INDICES = [slice(None), slice(2, 5), slice(1, None, 2), slice(-3, None), slice(3, 1), (slice(1, 3), slice(None, None, 3)), ()]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_slices(index):
    mask = blocky((13, 18), (4, 8), 0.5)[1]
    check(TeSA(mask)[index], mask[index])


# -- identity


def test_digests_differ_with_content():
    """Masks of up to four elements in up to two axes: each has its own."""
    shapes = [(), (1,), (2,), (3,), (4,), (1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 1), (0,), (0, 1), (1, 0), (0, 0)]
    masks = [
        np.array([n >> i & 1 for i in range(int(np.prod(s)))], bool).reshape(s)
        for s in shapes
        for n in range(2 ** int(np.prod(s)))
    ]
    assert len({TeSA(m).digest for m in masks}) == len(masks)
    assert len({TeSA(m) for m in masks}) == len(masks)


def test_the_digest_is_the_same_in_every_process():
    program = "import numpy as np; from sparta_jax import TeSA; print(TeSA(np.arange(60).reshape(5, 12) % 7 < 3).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == TeSA(np.arange(60).reshape(5, 12) % 7 < 3).digest


def test_is_immutable():
    mask = np.eye(4, dtype=bool)
    tesa = TeSA(mask)
    digest = tesa.digest
    mask[0, 0] = False
    assert tesa.mask[0, 0]
    cuts = [np.array([0, 1, 4]), np.array([0, 4])]
    cells = np.array([[True], [False]])
    other = TeSA.from_cells(cells, cuts)
    cells[0], cuts[0][1] = False, 3
    np.testing.assert_array_equal(other.channel_mask(0), [True, False, False, False])
    for table in (tesa.cells, tesa.cuts[0], tesa.mask, other.cells, other.cuts[0], pickle.loads(pickle.dumps(tesa)).cells):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0
    for name in ("cells", "digest", "anything"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(tesa, name, None)
    assert tesa.digest == digest


def test_is_a_leaf_and_static():
    tesa = TeSA(np.eye(4, dtype=bool))
    assert jax.tree.leaves({"w": tesa}) == [tesa]
    count = jax.jit(lambda x, t: x * t.nnz, static_argnums=1)
    assert count(2.0, tesa) == 8.0
    assert (tesa == np.eye(4, dtype=bool)) is False
    assert tesa != "TeSA"


# -- bad input


def test_traced_masks_are_refused():
    seen = []

    def program(mask):
        for make in (
            TeSA,
            lambda m: TeSA.blocks(m, (2, 2), (8, 8)),
            lambda m: TeSA.channels(m[0], 0, (4, 4)),
            lambda m: TeSA.from_cells(m, [range(5)] * 2),
        ):
            with pytest.raises(SpartaTypeError, match=r"mask is traced.*outside `jit`") as error:
                make(mask)
            seen.append(error.value)
        return mask

    jax.jit(program)(jnp.eye(4, dtype=bool))
    jax.vmap(lambda x: program(jnp.eye(4) * x > 0))(jnp.ones(2))
    assert len(seen) == 8
    assert all(isinstance(e, SpartaError) and isinstance(e, TypeError) for e in seen)


@pytest.mark.parametrize("mask", [np.eye(3), np.eye(3, dtype=int), jnp.eye(3), [[0, 1]], "live", None], ids=repr)
def test_what_is_not_boolean_is_refused(mask):
    with pytest.raises(SpartaTypeError, match=r"not bool: write `mask != 0`"):
        TeSA(mask)


EYE = TeSA(np.eye(4, dtype=bool))
REFUSED = {
    "a block of another rank": (lambda: TeSA.blocks(np.ones((2, 2), bool), (2,), (4, 4)), r"block \(2,\) has 1"),
    "a block of size 0": (lambda: TeSA.blocks(np.ones((2, 2), bool), (2, 0), (4, 4)), r"\(2, 0\) has a size below 1"),
    "a negative block": (lambda: EYE.block_mask((2, -1)), r"\(2, -1\) has a size below 1"),
    "a block of no integers": (lambda: EYE.coarsen((2.0, 2.0)), "not a tuple of integers"),
    "a block that is a number": (lambda: EYE.block_mask(2), "2 is not a tuple of integers"),
    "a grid of another shape": (
        lambda: TeSA.blocks(np.ones((2, 2), bool), (2, 2), (4, 5)),
        r"shape \(4, 5\) has \(2, 3\) blocks of \(2, 2\).* \(2, 2\)",
    ),
    "no such axis": (lambda: TeSA.channels(np.ones(4, bool), 2, (4, 4)), r"axis 2 is out of range .*\(4, 4\)"),
    "no such axis to view": (lambda: EYE.channel_mask(-3), r"axis -3 is out of range"),
    "no such axis of a scalar": (lambda: TeSA.dense(()).channel_mask(0), r"axis 0 is out of range"),
    "another number of channels": (lambda: TeSA.channels(np.ones(3, bool), 1, (4, 4)), r"4 channels.*\(3,\)"),
    "cells and cuts that disagree": (lambda: TeSA.from_cells(np.ones((2, 2), bool), [[0, 1, 2]]), "one more cut than cells"),
    "cuts that do not increase": (lambda: TeSA.from_cells(np.ones(2, bool), [[0, 3, 3]]), "strictly increasing"),
    "cuts that start late": (lambda: TeSA.from_cells(np.ones(2, bool), [[1, 2, 3]]), "from 0"),
    "an axis without cuts": (lambda: TeSA.from_cells(np.ones(0, bool), [[]]), "one more cut than cells"),
    "groups that do not divide": (lambda: TeSA.nm(np.ones((2, 2), bool), 0, (5,), 2), r"groups of 2 .*axis 0.*\(5,\)"),
    "groups of another shape": (lambda: TeSA.nm(np.ones((2, 2), bool), 0, (8,), 2), r"\(4, 2\).*\(2, 2\)"),
    "groups of nothing": (lambda: TeSA.nm(np.ones((2, 2), bool), 0, (4,), 0), "groups of 0"),
    "shapes that differ, and": (lambda: EYE & TeSA.dense((4, 1)), r"\(4, 4\).*\(4, 1\)"),
    "shapes that differ, or": (lambda: EYE | TeSA.dense((4,)), r"\(4, 4\).*\(4,\)"),
    "nothing to concatenate": (lambda: TeSA.concatenate([]), "nothing to concatenate"),
    "shapes that do not join": (lambda: TeSA.concatenate([EYE, TeSA.dense((4, 3))]), r"\(4, 4\), \(4, 3\).*axis 0"),
    "ranks that do not join": (lambda: TeSA.concatenate([EYE, TeSA.dense((4,))]), r"\(4, 4\), \(4,\).*axis 0"),
    "cuts that lose some": (lambda: EYE.refine([[0, 2, 4], [0, 1, 2, 3, 4]]), r"axis 0: cuts \[0, 2, 4\]"),
    "cuts of another rank": (lambda: EYE.refine([[0, 1, 2, 3, 4]]), r"cuts of 1 axes.*\(4, 4\)"),
    "no cuts": (lambda: TeSA.dense((4,)).refine([[]]), r"axis 0: cuts \[\]"),
    "cuts of another size": (lambda: TeSA.dense((4,)).refine([[0, 4, 5]]), r"\[0, 4, 5\]"),
    "cuts out of order": (lambda: TeSA.dense((4,)).refine([[0, 3, 2, 4]]), r"\[0, 3, 2, 4\]"),
    "an element": (lambda: EYE[0], r"shape \(4, 4\) is indexed by slices"),
    "too many slices": (lambda: EYE[:, :, :], "indexed by slices, one per axis"),
    "a step back": (lambda: EYE[::-1], "positive steps"),
    "another number of elements": (lambda: EYE.reshape((3, 5)), r"\(4, 4\).*\(3, 5\)"),
    "a guessed size": (lambda: EYE.reshape((-1, 4)), r"\(4, 4\).*\(-1, 4\)"),
    "no permutation": (lambda: EYE.transpose((0, 0)), r"\(0, 0\)"),
    "a negative shape": (lambda: TeSA.dense((-1, 4)), r"shape \(-1, 4\) has a negative size"),
    "a shape that is a number": (lambda: TeSA.dead(4), "shape 4 is not a tuple of integers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_says_what_is_wrong(name):
    act, message = REFUSED[name]
    with pytest.raises(SpartaError, match=message) as error:
        act()
    assert isinstance(error.value, (SpartaValueError, SpartaTypeError))


@pytest.mark.parametrize("other", [np.eye(4, dtype=bool), True, None])
def test_combines_with_teas_only(other):
    with pytest.raises(TypeError, match="unsupported operand|ufunc"):
        EYE & other
