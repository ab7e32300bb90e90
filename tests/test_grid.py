"""Every operation of a grid gives the elements that numpy gives, in the one canonical form."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparta_jax.grid import Grid, combine, concatenate, contract

SIZES = st.sampled_from([0, 1, 1, 2, 3, 4, 6, 8, 12])
shapes = st.lists(SIZES, max_size=3).map(tuple)
full_shapes = st.lists(SIZES.filter(bool), max_size=3).map(tuple)


@st.composite
def tables(draw, shape=shapes, values=(False, True)):
    """An array that is uniform, blocky, made of whole slices, or has no structure; blocks end where they like."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    cuts = [draw(st.sets(st.integers(1, max(n - 1, 1)), max_size=draw(st.sampled_from([0, 2, n])))) for n in shape]
    edges = [[0, *sorted(c for c in cut if c < n), n] if n else [0] for cut, n in zip(cuts, shape, strict=True)]
    cells = np.random.default_rng(draw(st.integers(0, 2**32))).choice(values, [len(e) - 1 for e in edges])
    for axis, edge in enumerate(edges):
        cells = np.repeat(cells, np.diff(edge), axis)
    return cells


def check(grid: Grid, want: np.ndarray) -> None:
    """Same elements; and the form of a grid of these elements, whichever way it was made."""
    assert grid.shape == want.shape
    assert grid.ndim == want.ndim
    assert grid.size == want.size
    np.testing.assert_array_equal(grid.elements(), want)
    assert grid == Grid.of_elements(want)
    for axis, cut in enumerate(grid.cuts):
        assert cut[0] == 0
        assert (np.diff(cut) > 0).all()
        assert grid.cells.shape[axis] == len(cut) - 1


def test_a_few_by_hand():
    grid = Grid.of_elements(np.array([[0, 0, 1], [0, 0, 1], [1, 1, 1]], bool))
    np.testing.assert_array_equal(grid.cells, [[False, True], [True, True]])
    assert [c.tolist() for c in grid.cuts] == [[0, 2, 3], [0, 2, 3]]
    assert grid.weights.tolist() == [[4, 2], [2, 1]]
    assert grid.nnz == 5
    assert Grid.uniform((0, 3), True).is_uniform
    assert Grid.uniform((0, 3), True).cuts[0].tolist() == [0]


@given(tables(values=(0, 1, 2)))
def test_holds_its_elements(table):
    grid = Grid.of_elements(table)
    check(grid, table)
    assert not grid.cells.flags.writeable
    assert grid.nnz == np.count_nonzero(table)
    assert Grid.of_elements(table > 0).nnz == np.count_nonzero(table)
    assert (grid.weights * grid.cells).sum() == table.sum()
    assert grid.is_uniform == (len(np.unique(table)) <= 1)
    check(grid.map(lambda cells: cells > 1), table > 1)


@given(st.data())
def test_equal_content_is_equal_cells_and_cuts(data):
    """Cutting finer than needed, anywhere, and making the grid again changes nothing."""
    table = data.draw(tables())
    grid = Grid.of_elements(table)
    finer = [np.union1d(c, [data.draw(st.integers(0, int(c[-1])))]) for c in grid.cuts]
    cells = grid.refined(finer)
    again = Grid.make(cells.copy(), finer)
    assert again == grid
    assert [c.tolist() for c in again.cuts] == [c.tolist() for c in grid.cuts]
    np.testing.assert_array_equal(again.cells, grid.cells)
    if table.size:
        flipped = table.copy()
        flipped.flat[data.draw(st.integers(0, table.size - 1))] ^= True
        assert Grid.of_elements(flipped) != grid


@given(shapes, st.booleans())
def test_uniform_is_one_cell(shape, value):
    check(Grid.uniform(shape, value), np.full(shape, value))


def test_the_maker_keeps_its_array_writeable():
    table = np.arange(6).reshape(2, 3)
    grid = Grid.of_elements(table)
    assert table.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        grid.cells[0, 0] = 7


@given(tables(), st.randoms(use_true_random=False))
def test_transpose(table, random):
    axes = random.sample(range(table.ndim), table.ndim)
    check(Grid.of_elements(table).transpose(axes), table.transpose(axes))


@given(st.data())
def test_reshape(data):
    table = data.draw(tables(full_shapes))
    shape, rest = [], table.size
    while rest > 1:
        shape.append(data.draw(st.sampled_from([d for d in range(2, rest + 1) if rest % d == 0])))
        rest //= shape[-1]
    for at in data.draw(st.lists(st.integers(0, len(shape)), max_size=2)):
        shape.insert(at, 1)
    check(Grid.of_elements(table).reshape(shape), table.reshape(shape))


@pytest.mark.parametrize(("old", "new"), [((0, 3), (3, 0)), ((0,), (4, 0, 2)), ((2, 0), (0,)), ((1, 1), ()), ((), (1, 1))])
@pytest.mark.parametrize("value", [False, True])
def test_reshape_of_nothing_and_of_one(old, new, value):
    check(Grid.uniform(old, value).reshape(new), np.full(new, value))


def test_reshape_cuts_only_what_is_merged():
    """Heads split and merged: a dead channel block stays a block, whatever the batch and sequence."""
    mask = np.zeros((8, 128, 64), bool)
    mask[:, :, 16:48] = True
    heads = Grid.of_elements(mask).reshape((8, 128, 4, 16))
    assert heads.cells.shape == (1, 1, 3, 1)
    assert heads.reshape((1024, 64)).cells.shape == (1, 3)


@given(st.data())
def test_broadcast(data):
    table = data.draw(tables())
    shape = tuple(data.draw(SIZES) if n == 1 and data.draw(st.booleans()) else n for n in table.shape)
    lead = tuple(data.draw(st.lists(st.sampled_from([0, 1, 3]), max_size=2)))
    check(Grid.of_elements(table).broadcast((*lead, *shape)), np.broadcast_to(table, (*lead, *shape)))


@given(st.data())
def test_broadcast_in_dim(data):
    table = data.draw(tables(full_shapes))
    axes = sorted(data.draw(st.permutations(range(table.ndim + 2)))[: table.ndim])
    shape = [3] * (table.ndim + 2)
    for n, axis in zip(table.shape, axes, strict=True):
        shape[axis] = n
    want = np.broadcast_to(np.expand_dims(table, [d for d in range(len(shape)) if d not in axes]), shape)
    check(Grid.of_elements(table).broadcast(shape, axes), want)


@given(st.data())
def test_slice(data):
    table = data.draw(tables())
    starts = [data.draw(st.integers(0, n)) for n in table.shape]
    limits = [data.draw(st.integers(a, n)) for a, n in zip(starts, table.shape, strict=True)]
    strides = [data.draw(st.integers(1, 4)) for _ in table.shape]
    grid = Grid.of_elements(table)
    check(grid.slice(starts, limits, strides), table[tuple(map(slice, starts, limits, strides))])
    check(grid.slice(starts, limits), table[tuple(map(slice, starts, limits))])


@given(st.data())
def test_take_and_reverse(data):
    table = data.draw(tables(full_shapes.filter(bool)))
    axis = data.draw(st.integers(0, table.ndim - 1))
    indices = np.array(data.draw(st.lists(st.integers(0, table.shape[axis] - 1), max_size=6)), int)
    grid = Grid.of_elements(table)
    check(grid.take(axis, indices), np.take(table, indices, axis))
    axes = data.draw(st.sets(st.integers(0, table.ndim - 1)))
    check(grid.reverse(list(axes)), np.flip(table, tuple(axes)))


@given(tables(), tables(), st.data())
def test_concatenate(first, second, data):
    if not first.ndim:
        return
    axis = data.draw(st.integers(0, first.ndim - 1))
    other = data.draw(tables((*first.shape[:axis], data.draw(SIZES), *first.shape[axis + 1 :])))
    parts = [first, other, first]
    check(concatenate([Grid.of_elements(p) for p in parts], axis), np.concatenate(parts, axis))


@given(st.data())
def test_pad_is_that_of_lax(data):
    table = data.draw(tables())
    low, high = ([data.draw(st.integers(-2, 3)) for _ in table.shape] for _ in range(2))
    interior = [data.draw(st.integers(0, 2)) for _ in table.shape]
    spread = [n + (n - 1) * i if n else 0 for n, i in zip(table.shape, interior, strict=True)]
    if any(a + b + n < 0 for a, b, n in zip(low, high, spread, strict=True)):
        return
    value = data.draw(st.booleans())
    want = np.asarray(jax.lax.pad(table, value, list(zip(low, high, interior, strict=True))))
    check(Grid.of_elements(table).pad(value, low, high, interior), want)


@given(st.data())
def test_reduce(data):
    table = data.draw(tables(values=(0, 1, 2)))
    axes = tuple(d for d in range(table.ndim) if data.draw(st.booleans()))
    for fn in (np.logical_or, np.logical_and):
        for keepdims in (False, True):
            want = fn.reduce(table > 0, axes, keepdims=keepdims)
            check(Grid.of_elements(table > 0).reduce(axes, fn, keepdims), np.asarray(want))
    if table.size:
        check(Grid.of_elements(table).reduce(axes, np.maximum), np.asarray(table.max(axes)))


@given(st.data())
def test_block(data):
    table = data.draw(tables())
    sizes = [data.draw(st.integers(1, 13)) for _ in table.shape]
    for fn in (np.logical_or, np.logical_and):
        want = table
        for axis, (n, size) in enumerate(zip(table.shape, sizes, strict=True)):
            want = fn.reduceat(want, np.arange(0, n, size), axis) if n else want
        np.testing.assert_array_equal(Grid.of_elements(table).block(sizes, fn), want)


@given(st.data())
def test_combine(data):
    table = data.draw(tables())
    others = [
        data.draw(tables(tuple(1 if data.draw(st.integers(0, 3)) == 0 else n for n in table.shape[skip:])))
        for skip in (0, min(1, table.ndim))
    ]
    grids = [Grid.of_elements(t) for t in (table, *others)]
    check(combine(lambda a, b, c: a & (b | c), *grids), table & (others[0] | others[1]))
    check(combine(np.logical_xor, *grids[:2]), table ^ others[0])


@settings(max_examples=100)
@given(st.data())
def test_contract_is_einsum(data):
    """Live where some contracted position is live on both sides; batch axes anywhere."""
    sizes = {axis: data.draw(st.sampled_from([1, 2, 3, 4, 6] * 3 + [0])) for axis in "abmnkl"}
    lhs, rhs = ("".join(data.draw(st.permutations(axes))) for axes in ("abmkl", "ablkn"))
    lhs, rhs = (data.draw(st.sampled_from([names, names.replace("a", ""), names.replace("l", "")])) for names in (lhs, rhs))
    shared = set(lhs) & set(rhs)
    lhs, rhs = ("".join(c for c in names if c in shared | set("mn")) for names in (lhs, rhs))
    batch, contracted = [c for c in "ab" if c in shared], [c for c in "kl" if c in shared]
    left = data.draw(tables(tuple(sizes[c] for c in lhs)))
    right = data.draw(tables(tuple(sizes[c] for c in rhs)))
    got = contract(
        Grid.of_elements(left),
        Grid.of_elements(right),
        [lhs.index(c) for c in contracted],
        [rhs.index(c) for c in contracted],
        [lhs.index(c) for c in batch],
        [rhs.index(c) for c in batch],
    )
    want = np.einsum(f"{lhs},{rhs}->{''.join(batch)}mn", left.astype(int), right.astype(int)) > 0
    check(got, want)


def test_large_masks_stay_few_cells():
    """4096 x 4096, in blocks of 32: movement and products work on the 128 x 128 cells."""
    rng = np.random.default_rng(0)
    blocks = rng.random((128, 128)) < 0.1
    grid = Grid.make(blocks, [np.arange(0, 4097, 32)] * 2)
    assert grid.cells.shape == (128, 128)
    assert grid.nnz == blocks.sum() * 32 * 32
    assert math.prod(grid.reshape((4096, 8, 512)).cells.shape) <= 128 * 128
    assert contract(grid, grid, [1], [0]).cells.size <= 128 * 128
