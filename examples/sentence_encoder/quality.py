"""What pruning does to embeddings: how far they move, and whether the similarity of sentences keeps its order."""

from __future__ import annotations

import dataclasses

import numpy as np

from .pairs import PAIRS


@dataclasses.dataclass(frozen=True)
class Quality:
    """Embeddings of the sentences in `pairs` by a pruned model, held against those by the unpruned one.

    Attributes:
      cosine: mean cosine between a sentence's two embeddings; 1 is unharmed.
      rank_correlation: Spearman's, between the two models' similarities of the pairs; 1 is the same order, 0 is chance.
      group_similarity: mean similarity of the pairs of each group, by the pruned model.
    """

    cosine: float
    rank_correlation: float
    group_similarity: dict[str, float]

    @classmethod
    def of(cls, pruned: np.ndarray, unpruned: np.ndarray) -> Quality:
        """Both `[sentences, width]`, of length 1 along the width, in the order of `pairs.sentences`."""
        similarity = pair_similarity(pruned)
        cosine = float(np.mean(np.sum(pruned * unpruned, axis=-1)))
        return cls(cosine, spearman(similarity, pair_similarity(unpruned)), group_means(similarity))


def pair_similarity(embeddings: np.ndarray) -> np.ndarray:
    """`[pairs]`: the dot product of neighbours `2 i` and `2 i + 1` of `embeddings [2 pairs, width]`."""
    return np.sum(embeddings[0::2] * embeddings[1::2], axis=-1)


def group_means(similarity: np.ndarray) -> dict[str, float]:
    ends = np.cumsum([len(pairs) for pairs in PAIRS.values()])
    return {name: float(np.mean(part)) for name, part in zip(PAIRS, np.split(similarity, ends[:-1]), strict=True)}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two samples `[n]`: the correlation of their ranks; NaN where one is constant."""
    x, y = (ranks(v) - (len(v) - 1) / 2 for v in (a, b))
    scale = np.sqrt(np.sum(x**2) * np.sum(y**2))
    return float(np.sum(x * y) / scale) if scale else float("nan")


def ranks(values: np.ndarray) -> np.ndarray:
    """`f64[n]`: how many values are smaller, plus half of the others that are equal (so equal values share their mean rank)."""
    smaller = np.sum(values[None, :] < values[:, None], axis=1)
    equal = np.sum(values[None, :] == values[:, None], axis=1)
    return smaller + (equal - 1) / 2
