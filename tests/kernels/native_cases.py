"""What the tests of the native kernels share: patterns, and the instruction sets of this machine."""

import numpy as np
import pytest

from sparta_jax.kernels import native
from sparta_jax.problem import Device
from sparta_jax.tesa import TeSA

CPU = Device("cpu", cores=2)
ISAS = ("baseline", "avx2", "avx512")


def need_native():
    why = native.why_unavailable()
    return pytest.mark.skipif(why is not None, reason=f"native kernels: {why}")


def block_tesa(shape, block, density, seed=0):
    """A pattern of whole blocks with about `density` of them live, exactly 0 and 1 at the ends."""
    grid = np.random.default_rng(seed).random([-(-n // b) for n, b in zip(shape, block, strict=True)]) < density
    return TeSA.blocks(grid, block, shape)


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def distance(got, want):
    """The relative error, in norms; absolute where `want` is zero."""
    return float(np.linalg.norm(np.asarray(got, np.float64) - want) / (np.linalg.norm(want) or 1.0))
