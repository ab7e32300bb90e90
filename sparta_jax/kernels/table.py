"""The table of kernels, by kind of problem."""

from __future__ import annotations

from ..problem import MLP, SDDMM, Attention, Kernel, SpMM

kernels: dict[type, dict[str, Kernel]] = {SpMM: {}, SDDMM: {}, Attention: {}, MLP: {}}


def register(kernel: Kernel) -> Kernel:
    """Adds a kernel under its name; a second one of that name is an error."""
    table = kernels[kernel.problem]
    if kernel.name in table:
        raise ValueError(f"kernel {kernel.name} is registered twice")
    table[kernel.name] = kernel
    return kernel
