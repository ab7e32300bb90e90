"""The problems that kernels solve, as frozen facts, and the protocols of those who solve and plan them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import numpy as np

from .tesa import TeSA


@dataclasses.dataclass(frozen=True)
class Device:
    """Where a product runs.

    Attributes:
      platform: as JAX spells it in lowering rules: `"cpu"`, `"cuda"`, `"tpu"`, ...
      kind: the device kind (`"NVIDIA H200"`), `""` where it is not known.
      cores: CPU threads of XLA's pool, or streaming multiprocessors; 0 where it is not known.
    """

    platform: str
    kind: str = ""
    cores: int = 0


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a weight `[K, N]` is stored.

    Attributes:
      format: `"dense"` (one array, zero where dead), `"bsr"` (live blocks) or `"csr"` (live elements).
      block: `(br, bc)` of a blocked format, else None.
    """

    format: str
    block: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.format if self.block is None else f"{self.format}{self.block[0]}x{self.block[1]}"


DENSE = Layout("dense")
CSR_LAYOUT = Layout("csr")


@dataclasses.dataclass(frozen=True)
class Epilogue:
    """What follows a product before its result is written: `activation(scale * y + bias) + residual`.

    Attributes:
      bias: whether a `[N]` vector is added.
      activation: a key of `sparta_jax.products.ACTIVATIONS`, or None.
      residual: whether an array shaped like the result is added last.
      scale: whether a `[N]` vector is multiplied with first.
    """

    bias: bool = False
    activation: str | None = None
    residual: bool = False
    scale: bool = False

    def __bool__(self) -> bool:
        return self.scale or self.bias or self.activation is not None or self.residual

    def __str__(self) -> str:
        vectors = ["scale"] * self.scale + ["bias"] * self.bias
        return "+".join([*vectors, *[self.activation or ""] * bool(self.activation), *["residual"] * self.residual])


@dataclasses.dataclass(frozen=True)
class SpMM:
    """`y[m, n] = epilogue(sum_k x[m, k] w[k, n])`; with `transposed`, `y[m, k] = sum_n x[m, n] w[k, n]`.

    Attributes:
      m: rows of `x`, all leading axes together.
      pattern: the live elements of the stored weight `[K, N]`.
      layout: how the kernel is handed the weight. `DENSE`: one `[K, N]` array, zero where dead, and packing it (if the
        kernel wants it packed) is part of the kernel's run and cost.
      x_dtype, w_dtype, out_dtype: of the operands and the result.
      transposed: the weight is read as its transpose (the product that gives the gradient of `x`).
      precision: `None` or `"default"`, `"high"`, `"highest"`, as `jax.lax.Precision` spells them in lower case.
      epilogue: what is fused behind the product; never with `transposed`.
      device: where it runs.
    """

    m: int
    pattern: TeSA
    layout: Layout
    x_dtype: np.dtype
    w_dtype: np.dtype
    out_dtype: np.dtype
    device: Device
    transposed: bool = False
    precision: str | None = None
    epilogue: Epilogue = Epilogue()

    @property
    def k(self) -> int:
        """The contracted size."""
        return self.pattern.shape[1 if self.transposed else 0]

    @property
    def n(self) -> int:
        """The size of the result's last axis."""
        return self.pattern.shape[0 if self.transposed else 1]


@dataclasses.dataclass(frozen=True)
class SDDMM:
    """`dw[k, n] = sum_m x[m, k] g[m, n]` at the live elements of `pattern`, stored in `layout` (zero at dead ones).

    In a blocked layout whole live blocks are computed: a dead element inside a live block may hold its full product.
    """

    m: int
    pattern: TeSA
    layout: Layout
    x_dtype: np.dtype
    g_dtype: np.dtype
    out_dtype: np.dtype
    device: Device
    precision: str | None = None

    @property
    def k(self) -> int:
        return self.pattern.shape[0]

    @property
    def n(self) -> int:
        return self.pattern.shape[1]


@dataclasses.dataclass(frozen=True)
class Attention:
    """`y[b, t, h] = sum_s softmax_s(score[b, h, t, s]) v[b, s, h']`, where heads may share keys (`h' = h * kv_heads // heads`).

    Attributes:
      operation: how it is written, a `sparta_jax.fused.Operation`: a kernel is given the operands as that has them.
      size, v_size: of a head's queries and keys, and of its values.
      bias, mask: their shapes `[batch, heads, queries, keys]`, 1 along axes that share it; None where there is none.
      dtypes: of the operands.
    """

    operation: Any
    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    size: int
    v_size: int
    bias: tuple[int, ...] | None
    mask: tuple[int, ...] | None
    dtypes: tuple[np.dtype, ...]
    device: Device
    layout: Layout = DENSE

    @property
    def m(self) -> int:
        return self.batch * self.heads * self.queries

    @property
    def k(self) -> int:
        return self.keys

    @property
    def n(self) -> int:
        return self.v_size

    def __str__(self) -> str:
        return f"{self.batch}x{self.heads} heads, {self.queries}x{self.keys}, size {self.size}"


@dataclasses.dataclass(frozen=True)
class MLP:
    """`down(up(x))`, or `down(up(x) * gate(x))`: products one behind the other.

    Attributes:
      operation: how it is written, a `sparta_jax.fused.Operation`: a kernel is given the operands as that has them.
      up, gate, down: what is asked of each product by itself.
    """

    operation: Any
    up: SpMM
    gate: SpMM | None
    down: SpMM
    device: Device
    layout: Layout = DENSE

    @property
    def products(self) -> tuple[SpMM, ...]:
        return (self.up, self.down) if self.gate is None else (self.up, self.gate, self.down)

    @property
    def m(self) -> int:
        return self.up.m

    @property
    def k(self) -> int:
        return self.up.k

    @property
    def hidden(self) -> int:
        """Columns of what lies between."""
        return self.up.n

    @property
    def n(self) -> int:
        return self.down.n

    def __str__(self) -> str:
        return f"{self.m}x{self.k}x{self.hidden}x{self.n}" + (" gated" if self.gate else "")


Problem = SpMM | SDDMM | Attention | MLP


def accumulator(*dtypes: Any) -> np.dtype:
    """The dtype that products of these dtypes are summed in: float64 if one of them is, else float32."""
    return np.dtype(np.float64 if any(np.dtype(d) == np.float64 for d in dtypes) else np.float32)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one call of a kernel takes.

    Attributes:
      flops: floating-point operations executed (two per multiply-add), padding included.
      bytes: bytes moved to and from memory while the product runs; 0 where `efficiency` was measured with them.
      efficiency: the share of the device's peak that the kernel reaches on these flops.
      seconds: a fixed time for dispatch and everything that is neither.
      packing: bytes moved before the product can start, to bring a weight that comes dense into the kernel's own layout, or
        a packed one out of its.
    """

    flops: float
    bytes: float
    efficiency: float = 1.0
    seconds: float = 0.0
    packing: float = 0.0


class Kernel(Protocol):
    """One way to solve one kind of problem. Instances are stateless and hashable; they fill `sparta_jax.kernels.kernels`.

    Attributes:
      name: unique, `<backend>_<format>_<problem>`: `"native_bsr_spmm"`.
      implementation: what a user writes as `implementation=`: `"dense"`, `"xla"`, `"native"`, `"mosaic"`, `"triton"`.
      problem: `SpMM`, `SDDMM`, `Attention` or `MLP`.
    """

    @property
    def name(self) -> str: ...

    @property
    def implementation(self) -> str: ...

    @property
    def problem(self) -> type: ...

    def why_not(self, problem: Any) -> str | None:
        """None if the kernel solves `problem`, else a phrase for the report ("needs blocks of 32 or more")."""
        ...

    def configs(self, problem: Any) -> Iterable[Any]:
        """The configs worth considering: frozen, hashable, printable. At least one where `why_not` is None."""
        ...

    def cost(self, problem: Any, config: Any) -> Cost:
        """The modelled cost of one call."""
        ...

    @property
    def run(self) -> Callable[..., jax.Array]:
        """`run(problem, config, *operands)`, traceable. For `SpMM` the operands are `x [m, k]`, `weight` (an array or a format,
        by `problem.layout`), then `scale [n]`, `bias [n]` and `residual [m, n]` as the epilogue says, the result is `[m, n]`.
        For `SDDMM` they are `x [m, K]` and `g [m, N]`, the result is the stored values: `[K, N]`, `[nnzb, br, bc]` or
        `[nnz]`."""
        ...


@dataclasses.dataclass(frozen=True)
class Plan:
    """A problem, the kernel chosen for it, that kernel's config, and why others were not chosen.

    Attributes:
      seconds: the modelled time of one call.
      dense_seconds: the modelled time of the dense product in its place.
      refused: `(kernel name, reason)` of every kernel that was not taken.
      measured: whether `seconds` was measured, not modelled.
    """

    problem: Any
    kernel: Kernel
    config: Any
    seconds: float
    dense_seconds: float
    refused: tuple[tuple[str, str], ...] = ()
    measured: bool = False

    def run(self, *operands: Any) -> jax.Array:
        return self.kernel.run(self.problem, self.config, *operands)


class Planner(Protocol):
    """Chooses kernels. Hashable: it is a parameter of the products' primitives, asked in their lowering rules."""

    def plan(self, problem: Problem) -> Plan: ...
