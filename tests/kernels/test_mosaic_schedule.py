"""The static lists: every live block and every tile once, thread blocks evenly loaded."""

import numpy as np
import pytest

from sparta_jax.formats.bsr import Pattern
from sparta_jax.kernels.gpu.steps import steps
from sparta_jax.kernels.mosaic.schedule import TILE_DEPTH, balance, tiles
from sparta_jax.tesa import TeSA

DENSITIES = (0.0, 0.3, 1.0)
SHAPE, BLOCK = (72, 100), (16, 32)


def tesa(density: float) -> TeSA:
    grid = np.random.default_rng(3).random([-(-n // b) for n, b in zip(SHAPE, BLOCK, strict=True)]) < density
    return TeSA.blocks(grid, BLOCK, SHAPE)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("density", DENSITIES)
def test_steps_are_the_live_blocks_and_entries_say_where_they_are_stored(density, transposed):
    pattern, listed = Pattern.of(tesa(density), BLOCK), steps(tesa(density), BLOCK, transposed)
    out = np.repeat(np.arange(listed.columns), np.diff(listed.ptr))
    stored = (pattern.columns, pattern.indices) if transposed else (pattern.indices, pattern.columns)
    assert sorted(listed.entry) == list(range(pattern.nnzb))
    np.testing.assert_array_equal(listed.at, stored[0][listed.entry])
    np.testing.assert_array_equal(out, stored[1][listed.entry])


@pytest.mark.parametrize("parts", [(4, 1), (1, 2), (2, 4)])
@pytest.mark.parametrize("density", DENSITIES)
def test_cut_steps_are_those_of_smaller_blocks(density, parts):
    """Listing small blocks and cutting large ones agree on a mask of whole large ones."""
    (cut, out), shape = parts, (64, 96)
    mask = TeSA.blocks(np.random.default_rng(4).random((4, 3)) < density, BLOCK, shape)
    got, expected = steps(mask, BLOCK, False, parts), steps(mask, (BLOCK[0] // cut, BLOCK[1] // out), False)
    np.testing.assert_array_equal(got.ptr, expected.ptr)
    np.testing.assert_array_equal(got.at, expected.at)
    rows = Pattern.of(mask, BLOCK).indices
    np.testing.assert_array_equal(got.at, rows[got.entry // cut] * cut + got.entry % cut)


@pytest.mark.parametrize("ctas", [1, 5, 1000])
@pytest.mark.parametrize("density", DENSITIES)
def test_every_tile_is_made_once_and_the_makespan_is_the_busiest_thread_block(density, ctas):
    listed, rows, depth = steps(tesa(density), BLOCK, False), 3, 16
    made = tiles(listed, depth, rows, ctas)
    assert made.ctas <= ctas
    assert sorted(zip(made.col, made.row, strict=True)) == [(c, r) for c in range(listed.columns) for r in range(rows)]
    work = np.diff(listed.ptr)[made.col] * depth + TILE_DEPTH
    loads = [work[first:last].sum() for first, last in zip(made.ptr, made.ptr[1:], strict=False)]
    assert max(loads) == made.makespan


@pytest.mark.parametrize(("jobs", "bins"), [(1, 1), (7, 3), (100, 16), (3, 8)])
def test_balance_keeps_grahams_bound(jobs, bins):
    weights = np.random.default_rng(jobs).integers(1, 50, jobs).astype(float)
    owner, fullest = balance(weights, bins)
    loads = np.bincount(owner, weights, minlength=bins)
    assert len(loads) == bins
    assert fullest == loads.max() <= weights.sum() / bins + (1 - 1 / bins) * weights.max()
