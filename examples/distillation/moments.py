"""Least squares of a masked kernel: what it needs of inputs and targets, and its solution."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import sparta_jax as sj

RIDGE = 1e-3  # of the mean of the diagonal


def ridge(gram: np.ndarray) -> np.ndarray:
    """A little of the mean of the diagonal, on the diagonal."""
    return RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram), dtype=gram.dtype)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of inputs `x [tokens, fan_in]` and targets `y [tokens, fan_out]`; what tokens leave open stays `near [fan_in, fan_out]`.

    Attributes:
      gram: `[fan_in, fan_in]`, of centred inputs, with the ridge on its diagonal.
      cross: `[fan_in, fan_out]`, of centred inputs and targets, and the ridge's pull.
      mean_x, mean_y: over the tokens.
    """

    gram: np.ndarray
    cross: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, near: np.ndarray) -> Moments:
        mean_x, mean_y = x.mean(0), y.mean(0)
        x, y = x - mean_x, y - mean_y
        gram, cross = x.T @ x, x.T @ y
        return cls(gram + ridge(gram), cross + ridge(gram) @ near, mean_x, mean_y)

    def solve(self, tesa: sj.TeSA) -> dict[str, Any]:
        """The kernel and the bias that are best where only some elements live."""
        kernel = np.zeros(tesa.shape)
        patterns, which = np.unique(tesa.mask, axis=1, return_inverse=True)
        for i, rows in enumerate(patterns.T):
            columns = which == i
            kernel[np.ix_(rows, columns)] = np.linalg.solve(self.gram[np.ix_(rows, rows)], self.cross[np.ix_(rows, columns)])
        return {"kernel": kernel.astype(np.float32), "bias": (self.mean_y - self.mean_x @ kernel).astype(np.float32)}
