"""What every kernel of this package asks of a problem."""

from __future__ import annotations

import numpy as np

from ...problem import Device
from ..gpu.backend import why_missing

HOPPER = ("H100", "H200", "H800", "H20", "GH200")
OPERANDS = ("bfloat16", "float16", "float32")
RESULTS = ("bfloat16", "float16", "float32")


def why_not_device(device: Device) -> str | None:
    """A phrase where the device is no Hopper GPU, or this JAX has no kernels for it. Its kind may be unknown: a machine without
    a GPU lowers for one."""
    if device.platform != "cuda":
        return "needs an NVIDIA GPU"
    if device.kind and not any(name in device.kind for name in HOPPER):
        return f"is written for Hopper GPUs (H100, H200), not {device.kind}"
    return why_missing("mosaic_gpu")


def why_not_dtypes(a: np.dtype, b: np.dtype, out: np.dtype, precision: str | None) -> str | None:
    """A phrase where operands `a`, `b` and the result have dtypes that `wgmma` does not take with this precision."""
    if a != b:
        return f"needs operands of one dtype, not {a} and {b}"
    if a == np.float32 and precision == "highest":
        return "would round float32 to TF32, which precision 'highest' forbids"
    if a.name not in OPERANDS:
        return f"takes bfloat16, float16 and float32 operands, not {a}"
    if out.name not in RESULTS:
        return f"writes bfloat16, float16 or float32, not {out}"
    return None
