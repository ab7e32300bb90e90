"""What was done at one place of a program."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class SiteRecord:
    """What was done at one product.

    Attributes:
      name: the key paths of the params its weight derives from.
      scope: the module path, `""` where the program names none.
      line: the user's source line.
      m, k, n: rows, contracted size, columns; `batch` such products.
      dtypes: of x, the weight and the result.
      density: share of live elements of the weight.
      cells: cells that the weight's mask is stored in.
      epilogue: what is fused behind.
      layout: how the weight is handed over.
      implementation, kernel, config: what was chosen.
      flops, dense_flops: executed, and of the dense product.
      bytes, dense_bytes: that the stored weight takes, and the dense one; of all `batch`.
      packing_bytes, packing_seconds: moved, and modelled, to bring the dense weight into its layout, once; of all `batch`.
      seconds, dense_seconds: modelled, of one of `batch` products, once.
      refused: `(kernel, reason)` of those that were not taken.
      times: how often a call computes it (the iterations of the loop around it, where they are known).
      measured: whether `seconds` was measured by `tune`, not modelled.
    """

    name: str
    scope: str
    line: str
    m: int
    k: int
    n: int
    batch: int
    dtypes: tuple[str, str, str]
    density: float
    cells: int
    epilogue: str
    layout: str
    implementation: str
    kernel: str
    config: str
    flops: float
    dense_flops: float
    bytes: int
    dense_bytes: int
    packing_bytes: int
    packing_seconds: float
    seconds: float
    dense_seconds: float
    refused: tuple[tuple[str, str], ...]
    times: int = 1
    measured: bool = False

    @property
    def stayed_dense(self) -> bool:
        return self.implementation == "dense"


@dataclasses.dataclass(frozen=True)
class Stayed:
    """Something that was left as it was, or taken otherwise than it stands, and why.

    Attributes:
      name: of the params it concerns, of a module or of a primitive.
      line: the user's source line.
      reason: a phrase.
    """

    name: str
    line: str
    reason: str


@dataclasses.dataclass(frozen=True)
class FusedRecord:
    """Operations that are one (attention), or products one behind the other (a feed-forward network), and what was chosen.

    Attributes:
      name: what it is ("attention", "mlp").
      scope: the module path where it ends, `""` where the program names none.
      line: the user's source line.
      sizes: of what it works on.
      times: how often it runs.
      implementation, kernel: what was chosen; the first is `"dense"` where it stays what it was.
      seconds, dense_seconds: modelled time of one call, and of what the program says itself, sparse products by their kernels.
      refused: `(kernel name, reason)` of those that were not taken.
    """

    name: str
    scope: str
    line: str
    sizes: str
    times: int
    implementation: str
    kernel: str
    seconds: float
    dense_seconds: float
    refused: tuple[tuple[str, str], ...]

    def text(self) -> str:
        often = f" ({self.times} times)" if self.times > 1 else ""
        told = f"{self.kernel}{often}, modelled {self.seconds * 1e3:.3g} ms of {self.dense_seconds * 1e3:.3g}"
        reasons = [f"{kernel} {why}" for kernel, why in self.refused] if self.implementation == "dense" else []
        return "; ".join([f"{self.name} {self.sizes}: {self.scope or self.line}: {told}", *reasons])
