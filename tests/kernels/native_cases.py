"""What the tests of the native kernels share: patterns, and the instruction sets of this machine."""

import numpy as np
import pytest
from scipy.special import expit, ndtr

from sparta_jax.formats.bsr import Pattern
from sparta_jax.kernels import native
from sparta_jax.problem import DENSE, Device, Layout
from sparta_jax.tesa import TeSA

CPU = Device("cpu", cores=2)
ISAS = ("baseline", "avx2", "avx512")


# Activations in float64, by NumPy and SciPy.
EXACT = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu_tanh": lambda x: x * expit(x * (2 * np.sqrt(2 / np.pi) + 2 * np.sqrt(2 / np.pi) * 0.044715 * x * x)),
    "gelu_erf": lambda x: x * ndtr(x),
    "silu": lambda x: x * expit(x),
    "tanh": np.tanh,
    "sigmoid": expit,
}


def need_native():
    why = native.why_unavailable()
    return pytest.mark.skipif(why is not None, reason=f"native kernels: {why}")


def block_tesa(shape, block, density, seed=0):
    """A pattern of whole blocks with about `density` of them live, exactly 0 and 1 at the ends."""
    grid = np.random.default_rng(seed).random([-(-n // b) for n, b in zip(shape, block, strict=True)]) < density
    return TeSA.blocks(grid, block, shape)


def blocks_of(dense, tesa, block):
    """The live blocks of `dense [K, N]` as a blocked layout stores them, by NumPy."""
    (br, bc), pattern = block, Pattern.of(tesa, block)
    padded = np.pad(dense, [(0, -size % b) for size, b in zip(dense.shape, block, strict=True)])
    tiles = padded.reshape(padded.shape[0] // br, br, padded.shape[1] // bc, bc)
    return tiles[pattern.indices, :, pattern.columns, :]


def live_values(dense, tesa, layout: Layout):
    """What `layout` stores of `dense [K, N]`: single elements and the whole by `tesa`, blocks entire."""
    if layout.block is not None:
        return blocks_of(dense, tesa, layout.block)
    return np.where(tesa.mask, dense, 0) if layout == DENSE else dense.T[tesa.mask.T]


def exact_epilogue(epilogue, sums, *extras):
    """`apply_epilogue` in float64, by NumPy; without a scale."""
    y, extras = sums, [a.astype(np.float64) for a in extras]
    y = y + extras.pop(0) if epilogue.bias else y
    y = y if epilogue.activation is None else EXACT[epilogue.activation](y)
    return y + extras.pop() if epilogue.residual else y


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def distance(got, want):
    """The relative error, in norms; absolute where `want` is zero."""
    return float(np.linalg.norm(np.asarray(got, np.float64) - want) / (np.linalg.norm(want) or 1.0))
