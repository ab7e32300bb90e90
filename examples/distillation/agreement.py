"""How much of what a sentence encoder says is left: its embeddings of sentences held against the dense one's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

Encode = Callable[[np.ndarray, np.ndarray], np.ndarray]
NEIGHBOURS = 10


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Of one sample of sentences.

    Attributes:
      cosine: mean cosine between a sentence's two embeddings; 1 is unharmed.
      low: the fifth percentile of these.
      neighbours: share of a sentence's ten nearest neighbours in the sample that both models name.
    """

    cosine: float
    low: float
    neighbours: float

    @classmethod
    def of(cls, embeddings: np.ndarray, dense: np.ndarray) -> Agreement:
        """Both `[sentences, width]`, of length 1 along the width."""
        cosines = np.sum(embeddings * dense, -1)
        return cls(float(cosines.mean()), float(np.percentile(cosines, 5)), overlap(embeddings, dense))


def overlap(a: np.ndarray, b: np.ndarray, count: int = NEIGHBOURS) -> float:
    """The share of the `count` nearest neighbours by `a` that are so by `b` as well."""
    both = [set(x) & set(y) for x, y in zip(nearest(a, count), nearest(b, count), strict=True)]
    return sum(map(len, both)) / (count * len(a))


def nearest(embeddings: np.ndarray, count: int) -> np.ndarray:
    """`[sentences, count]`: the others of largest cosine, of equal ones the first."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, -1, kind="stable")[:, :count]


def embed(encode: Encode, ids: np.ndarray, mask: np.ndarray, batch: int = 128) -> np.ndarray:
    """`[sentences, width]`, computed `batch` sentences at a time."""
    spots = np.arange(-(-len(ids) // batch) * batch).reshape(-1, batch) % len(ids)
    return np.concatenate([encode(ids[rows], mask[rows]) for rows in spots])[: len(ids)]
