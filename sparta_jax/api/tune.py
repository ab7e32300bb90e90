"""Tuning one call: the problems of its sites, timed."""

from __future__ import annotations

import jax

from ..errors import SpartaValueError
from ..interpreters import weight_entries
from ..problem import DENSE, Device, SpMM
from ..specialize import Chooser, tune
from ..stored import layout_of
from .analysis import Analysis
from .compress import problems_of


def tuned(analysis: Analysis, device: Device, cached: bool) -> Chooser:
    """The call's chooser, with what the candidates at its sites were measured to take.

    Raises:
      SpartaValueError: if the function is made for another platform than this process computes on.
    """
    here = jax.default_backend().replace("gpu", "cuda")
    if device.platform != here:
        raise SpartaValueError(f"`tune` times kernels, and this process computes on {here}, not on {device.platform}")
    return tune(analysis.chooser, problems(analysis, device), cached)


def problems(analysis: Analysis, device: Device) -> list[SpMM]:
    """What kernels are asked at every site, packed weights in the layouts that they have; of compressed ones also in a
    gradient."""
    compressed = problems_of(analysis, device)
    stored = {k: v for p in analysis.call.packed for k, v in p.entries.items()}
    found = []
    for place in analysis.places:
        for site in place.rewritten.sites:
            if site in compressed:
                found += compressed[site]
                continue
            for entry in weight_entries(site, place.origins):
                layout = layout_of(stored[entry.key]) if entry.key in stored else DENSE
                found.append(analysis.problem(site, entry.index, layout, device))
    return found
