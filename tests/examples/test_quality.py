import numpy as np
import pytest

from examples.sentence_encoder import pairs, quality


def embeddings(seed: int, width: int = 8) -> np.ndarray:
    out = np.random.default_rng(seed).normal(size=(len(pairs.sentences()), width))
    return out / np.linalg.norm(out, axis=-1, keepdims=True)


def test_pairs_are_thirty_six_in_groups_of_nine():
    assert [len(group) for group in pairs.PAIRS.values()] == [9, 9, 9, 9]
    every = [pair for group in pairs.PAIRS.values() for pair in group]
    assert len(set(every)) == 36
    assert pairs.sentences()[2:4] == list(every[1])


def test_an_unharmed_model_has_quality_one():
    e = embeddings(0)
    got = quality.Quality.of(e, e)
    assert got.cosine == pytest.approx(1)
    assert got.rank_correlation == pytest.approx(1)
    assert np.mean(list(got.group_similarity.values())) == pytest.approx(quality.pair_similarity(e).mean())


def test_a_rotation_of_all_embeddings_keeps_the_ranking_and_not_the_cosine():
    e = embeddings(1)
    got = quality.Quality.of(-e, e)
    assert got.cosine == pytest.approx(-1)
    assert got.rank_correlation == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_spearman_sees_order_only(seed):
    a, b = np.random.default_rng(seed).normal(size=(2, 20))
    rho = quality.spearman(a, b)
    assert quality.spearman(np.exp(a), b**3) == pytest.approx(rho)
    assert quality.spearman(-a, b) == pytest.approx(-rho)
    d = np.argsort(np.argsort(a)) - np.argsort(np.argsort(b))  # the textbook formula, without ties
    assert rho == pytest.approx(1 - 6 * np.sum(d**2) / (20 * (20**2 - 1)))


def test_equal_values_share_their_rank_and_a_constant_has_no_correlation():
    np.testing.assert_array_equal(quality.ranks(np.array([3.0, 1.0, 3.0, 7.0])), [1.5, 0, 1.5, 3])
    assert np.isnan(quality.spearman(np.ones(5), np.arange(5.0)))
