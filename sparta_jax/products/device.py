"""The device that a lowering is for."""

from __future__ import annotations

import os

import jax

from ..problem import Device

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def default_device(platform: str) -> Device:
    """The device that a lowering for `platform` is for: the GPU that the mesh in use names (`jax.sharding.AbstractDevice`),
    else this process' own where it has one of that platform."""
    named = jax.sharding.get_abstract_mesh().abstract_device
    if platform == "cuda" and named is not None and named.device_kind.startswith("NVIDIA"):
        return Device("cuda", named.device_kind, named.num_cores or 0)
    if platform == "cpu":
        return Device("cpu", cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    here = jax.devices()[0]
    if platform == "cuda" and here.platform in ("gpu", "cuda"):
        return Device("cuda", here.device_kind, getattr(here, "core_count", 0) or 0)
    return Device(platform)
