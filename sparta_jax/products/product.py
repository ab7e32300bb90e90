"""What is known of a product before it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from ..problem import DENSE, Epilogue, Layout, Planner
from ..stored import Stored, of_arrays, values_shape
from ..tesa import TeSA


@dataclasses.dataclass(frozen=True)
class Product:
    """The static half of a product: all that is known of it but its row count and its device.

    Attributes:
      pattern: the live elements of the stored weight `[K, N]`.
      layout: how the weight is stored.
      planner: who chooses a kernel in the lowering.
      out_dtype: of the result.
      precision: see `SpMM`.
      transposed: whether the weight is read as its transpose.
      epilogue: what is fused behind.
    """

    pattern: TeSA
    layout: Layout
    planner: Planner
    out_dtype: np.dtype
    precision: str | None = None
    transposed: bool = False
    epilogue: Epilogue = Epilogue()

    @property
    def n(self) -> int:
        return self.pattern.shape[0 if self.transposed else 1]

    @property
    def tables(self) -> int:
        """How many index tables follow the values among the operands."""
        return 0 if self.layout == DENSE else 2

    def weight(self, values: jax.Array, tables: Sequence[jax.Array]) -> Stored:
        return of_arrays((values, *tables), self.layout, self.pattern.shape)

    def values_shape(self) -> tuple[int, ...]:
        return values_shape(self.pattern, self.layout)
