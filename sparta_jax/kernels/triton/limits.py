"""What every kernel of this package asks of a problem."""

from __future__ import annotations

import jax
import numpy as np

from ...problem import Device
from ..gpu.backend import why_missing

OLDER = ("V100", "T4", "P100", "P40", "P4", "K80", "M60", "GTX", "RTX 20", "Quadro", "TITAN")
"""Parts of the names of GPUs before Ampere."""

OPERANDS = ("bfloat16", "float16", "float32")
MAX_ELEMENTS = 2**31 - 1

# Shares of a dense bfloat16 product's peak; estimates, not measurements of these kernels. Triton is assumed to reach two thirds
# of XLA's own product; TF32 has half the rate, and float32 runs outside the tensor cores.
SHARES = {"bfloat16": 0.55, "float16": 0.55, "tf32": 0.27, "float32": 0.01}


def why_not_device(device: Device) -> str | None:
    """A phrase where the device is no NVIDIA GPU since Ampere, or this JAX has no kernels for it."""
    if device.platform != "cuda":
        return "needs an NVIDIA GPU"
    if not device.kind:
        return "needs to know which GPU it is for (without one here: jax.sharding.AbstractDevice)"
    if any(name in device.kind for name in OLDER):
        return f"is written for GPUs since Ampere (A100), not {device.kind}"
    return why_missing("triton")


def why_not_dtypes(a: np.dtype, b: np.dtype, out: np.dtype) -> str | None:
    if a != b:
        return f"needs operands of one dtype, not {a} and {b}"
    if a.name not in OPERANDS:
        return f"takes bfloat16, float16 and float32 operands, not {a}"
    if out.name not in OPERANDS:
        return f"writes bfloat16, float16 or float32, not {out}"
    return None


def why_not_sizes(*sizes: int) -> str | None:
    """A phrase where an operand or result of this many elements cannot be addressed."""
    return "addresses operands with 32 bits" if max(sizes) > MAX_ELEMENTS else None


def uses_tf32(dtype: np.dtype, precision: str | None) -> bool:
    """Whether float32 operands are rounded to TF32: where XLA's own product on these GPUs does so too."""
    return dtype == np.float32 and precision != "highest"


def share(dtype: np.dtype, precision: str | None) -> float:
    """The share of the device's bfloat16 peak that whole, large tiles reach."""
    return SHARES["tf32" if uses_tf32(dtype, precision) else dtype.name]


def as_precision(dtype: np.dtype, precision: str | None) -> jax.lax.Precision:
    """For `plt.dot`: as `uses_tf32` says."""
    return jax.lax.Precision.DEFAULT if dtype != np.float32 or uses_tf32(dtype, precision) else jax.lax.Precision.HIGHEST
