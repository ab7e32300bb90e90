"""The library of native CPU kernels: found, loaded and registered with XLA when first asked for, never at import."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ..problem import Device

LIBRARY = Path(__file__).parent / "_native.so"
TARGETS = (
    "sparta_spmm",
    "sparta_sddmm",
    "sparta_pack",
    "sparta_unpack",
    "sparta_csr_spmm",
    "sparta_csr_mlp",
    "sparta_csr_sddmm",
    "sparta_csr_copy",
    "sparta_attention",
)
Table = jax.Array | np.ndarray  # of indices, int32

# As `Activation` in cpu/products.h counts them.
ACTIVATIONS = (None, "relu", "gelu_tanh", "gelu_erf", "silu", "tanh", "sigmoid")

# Dtypes that may meet in one product: those with sums in float32, and float64 with its own.
SINGLE = tuple(np.dtype(d) for d in (jnp.float32, jnp.bfloat16, jnp.float16))
DOUBLE = (np.dtype(np.float64),)


def why_not_dtypes(*dtypes: np.dtype) -> str | None:
    """What keeps the products from operands and results of these dtypes."""
    if all(d in SINGLE for d in dtypes) or all(d in DOUBLE for d in dtypes):
        return None
    return "needs float32, bfloat16 or float16, or float64 alone, got " + ", ".join(map(str, dtypes))


def sums_dtype(dtype: np.dtype) -> np.dtype:
    """What products of operands of this dtype are summed in."""
    return np.dtype(np.float64 if dtype in DOUBLE else np.float32)


def why_not_device(device: Device) -> str | None:
    """What keeps all native kernels from a device."""
    if device.platform != "cpu":
        return "runs on CPUs"
    why = why_unavailable()
    return None if why is None else f"native kernels: {why}"


def why_unavailable() -> str | None:
    """None if the native kernels can be called, else a phrase for reports and `doctor`.

    `SPARTA_JAX_DISABLE_NATIVE=1` in the environment turns them off; it is read at each call.
    """
    if os.environ.get("SPARTA_JAX_DISABLE_NATIVE") == "1":
        return "turned off by SPARTA_JAX_DISABLE_NATIVE=1"
    library = _loaded()
    if isinstance(library, str):
        return library
    if library.sparta_isa(forced_isa().encode()) is None:
        return f"SPARTA_JAX_ISA={forced_isa()}: this machine has no such instruction set"
    return None


def isa() -> str:
    """The instruction set in use: `"avx512"`, `"avx2"` or `"baseline"`; `"none"` where the kernels are unavailable."""
    library = _loaded()
    if why_unavailable() is not None or isinstance(library, str):
        return "none"
    return library.sparta_isa(forced_isa().encode()).decode()


def forced_isa() -> str:
    """What `SPARTA_JAX_ISA` asks for, `""` where it leaves the choice to the library; read at each trace."""
    return os.environ.get("SPARTA_JAX_ISA", "")


@functools.cache
def _loaded() -> ctypes.CDLL | str:
    """The library with its targets registered, or why there is none."""
    if not LIBRARY.is_file():
        return "not built (no C++ compiler when sparta_jax was installed)"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.sparta_isa.restype = ctypes.c_char_p
        library.sparta_isa.argtypes = [ctypes.c_char_p]
        # Registration comes after the client: a refusal before it (an FFI version that this jaxlib does not know) would
        # surface as the failure of the user's first array.
        jax.devices("cpu")
        for name in TARGETS:
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    except Exception as error:  # whatever goes wrong here, XLA's own operations still work
        return f"cannot be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return library


def spmm(
    x: jax.Array,
    blocks: jax.Array,
    indptr: Table,
    indices: Table,
    n: int,
    *,
    dtype: np.dtype | None = None,
    order: Table | None = None,
    bias: jax.Array | None = None,
    activation: str | None = None,
    residual: jax.Array | None = None,
) -> jax.Array:
    """`activation(x @ W + bias) + residual`, or with `order` the product with the transpose of `W`.

    Everything between the operands and the result is computed in float32 (float64 where the operands are), and rounded once.

    Args:
      x: `[m, k]`, of float32, bfloat16, float16, or of float64 where everything is.
      blocks: `[nnzb, br, bc]`, the live blocks, listed by block column; of a dtype like those of `x`.
      indptr: `i32[ceil(n / bc) + 1]`, which entries a block column owns; with `order` those of the transposed pattern.
      indices: `i32[nnzb]`, the block row of each entry; with `order` of the transposed pattern.
      n: the size of the result's last axis.
      dtype: of the result; None: that of `x`.
      order: `i32[nnzb]`, which block each entry of the transposed pattern is; every block is then read as its transpose.
      bias: `[n]`, cast to `dtype`.
      activation: one of `ACTIVATIONS`.
      residual: `[m, n]`, cast to `dtype`.

    Returns:
      `dtype[m, n]`.

    Raises:
      jax.errors.JaxRuntimeError: when it runs, if the tables do not fit the blocks or point outside.
    """
    dtype = np.dtype(x.dtype if dtype is None else dtype)
    none = jnp.zeros((0,), dtype)
    call = jax.ffi.ffi_call("sparta_spmm", jax.ShapeDtypeStruct((x.shape[0], n), dtype))
    return call(
        x,
        blocks,
        indptr,
        indices,
        jnp.zeros((0,), jnp.int32) if order is None else order,
        none if bias is None else bias.astype(dtype),
        none if residual is None else residual.astype(dtype),
        transposed=order is not None,
        activation=np.int32(ACTIVATIONS.index(activation)),
        isa=forced_isa(),
    )


def sddmm(
    x: jax.Array, g: jax.Array, indptr: Table, indices: Table, block: tuple[int, int], dtype: np.dtype | None = None
) -> jax.Array:
    """The live blocks of `x.T @ g`, summed as `spmm` sums.

    Args:
      x: `[m, k]`.
      g: `[m, n]`, of a dtype like those of `x`.
      indptr: `i32[ceil(n / bc) + 1]`, which entries a block column owns.
      indices: `i32[nnzb]`, the block row of each entry.
      block: `(br, bc)`.
      dtype: of the result; None: that of `x`.

    Returns:
      `dtype[nnzb, br, bc]`, zero behind the edges of `[k, n]`.

    Raises:
      jax.errors.JaxRuntimeError: when it runs, if the tables do not fit or point outside.
    """
    (m, k), (br, bc) = x.shape, block
    dtype = np.dtype(x.dtype if dtype is None else dtype)
    size, sums = indices.shape[0] * br * bc, sums_dtype(np.dtype(x.dtype))
    scratch = -(-m // 16) * 16 * (-(-k // br) * br + -(-g.shape[1] // bc) * bc) + (0 if dtype == sums else size)
    results = jax.ShapeDtypeStruct((indices.shape[0], br, bc), dtype), jax.ShapeDtypeStruct((scratch,), sums)
    return jax.ffi.ffi_call("sparta_sddmm", results)(x, g, indptr, indices, isa=forced_isa())[0]


def pack(dense: jax.Array, indptr: Table, indices: Table, block: tuple[int, int]) -> jax.Array:
    """The blocks `[nnzb, br, bc]` of `dense [k, n]`, as `BSR.pack` gathers them."""
    blocks = jax.ShapeDtypeStruct((indices.shape[0], *block), dense.dtype)
    return jax.ffi.ffi_call("sparta_pack", blocks)(dense, indptr, indices)


def unpack(blocks: jax.Array, indptr: Table, indices: Table, shape: tuple[int, ...]) -> jax.Array:
    """The dense matrix `[k, n]` of `blocks [nnzb, br, bc]`, as `BSR.to_dense` makes it."""
    return jax.ffi.ffi_call("sparta_unpack", jax.ShapeDtypeStruct(shape, blocks.dtype))(blocks, indptr, indices)
