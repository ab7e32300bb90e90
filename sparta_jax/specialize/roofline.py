"""A device's roofline: modelled time from operations and bytes."""

from __future__ import annotations

import dataclasses

from ..kernels import native
from ..machine import current
from ..machine.gpu import BANDWIDTH, PEAK
from ..problem import Cost, Device


@dataclasses.dataclass(frozen=True)
class Roofline:
    """
    Attributes:
      flops_per_s: peak rate of the arithmetic that products run on.
      bytes_per_s: of the memory.
    """

    flops_per_s: float
    bytes_per_s: float

    def seconds(self, cost: Cost) -> float:
        arithmetic = cost.flops / (cost.efficiency * self.flops_per_s) if cost.flops else 0.0
        return max(arithmetic, cost.bytes / self.bytes_per_s) + cost.packing / self.bytes_per_s + cost.seconds


HOPPER = Roofline(PEAK, BANDWIDTH)
OTHER = Roofline(1e14, 1e12)


def roofline(device: Device) -> Roofline:
    """The roofline of a device; where its kind is not known, of a common one of its platform."""
    if device.platform == "cpu":
        machine = current(native.isa(), device.cores)
        return Roofline(machine.peak, machine.bandwidth)
    return HOPPER if device.platform == "cuda" else OTHER
