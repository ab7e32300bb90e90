import collections

import numpy as np
import pytest

from benchmarks.cases import BLOCKS, DENSITIES, QUICK, ROWS, SHAPES, STANDARD, Case, cases, random_mask, real_masks, select


def test_names_are_unique():
    assert collections.Counter(case.name for case in cases()).most_common(1)[0][1] == 1


def test_the_cross_is_full():
    drawn = [case for case in cases() if case.block is not None]
    assert len(drawn) == len(SHAPES) * len(BLOCKS) * len(DENSITIES) * len(ROWS)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("shape", "block"), [((64, 96), 32), ((50, 70), 16), ((33, 20), 1)])
def test_a_random_mask_has_whole_blocks_and_its_density(shape, block, density):
    mask = random_mask(shape, block, density)
    assert mask.shape == shape
    corners = mask[::block, ::block]
    assert (corners.repeat(block, 0).repeat(block, 1)[: shape[0], : shape[1]] == mask).all()
    assert corners.sum() == round(density * corners.size)
    assert (random_mask(shape, block, density) == mask).all()


def test_operands_are_the_same_again_and_zero_where_dead():
    case = Case("small", 3, 40, 24, 8, 0.25)
    (x, w), (x_again, w_again) = case.operands(), case.operands()
    assert (x == x_again).all()
    assert (w == w_again).all()
    assert x.dtype == w.dtype == np.float32
    assert ((w != 0) == case.mask()).all()


@pytest.mark.parametrize("pattern", [p for p in STANDARD + QUICK if "dlmc" not in p])
def test_each_pattern_of_a_suite_selects(pattern):
    assert select((pattern,))


def test_a_regex_that_selects_nothing_is_refused():
    with pytest.raises(ValueError, match="no case matches square7"):
        select(("square7",))


@pytest.fixture
def real(data):
    real_masks.cache_clear()
    return [case for case in cases() if case.block is None]


def test_real_masks_are_read_in_by_out(real):
    case = next(case for case in real if case.name == "dlmc-transformer_vd90_enc0_ffn1-m128")
    mask = case.mask()
    assert mask.shape == (case.k, case.n) == (512, 2048)
    assert mask.mean() == pytest.approx(case.density)
    assert (~mask.any(0)).sum() == 1146  # dead hidden units


def test_the_standard_suite_has_real_masks(real):
    assert {case.family for case in select(STANDARD)} & {case.family for case in real}
