"""Whole tiles, and the copies that make them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from ...problem import Device

NUM_SMS = 132
"""Streaming multiprocessors of H100 SXM and H200: taken where the device is not known."""


def num_sms(device: Device) -> int:
    """How many thread blocks run at once."""
    return device.cores or NUM_SMS


def whole(size: int, tile: int) -> int:
    """`size` rounded up to whole tiles."""
    return math.ceil(size / tile) * tile


def parts(side: int, sizes: tuple[int, ...]) -> list[int]:
    """The sizes that divide a side of a packed block, or the side itself."""
    return [size for size in sizes if side % size == 0] or [side]


def padded(a: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`a` with zeros behind its edges."""
    return jnp.pad(a, [(0, new - old) for old, new in zip(a.shape, shape, strict=True)])


def padding_bytes(shape: tuple[int, int], new: tuple[int, int], itemsize: int) -> int:
    """What `padded` reads and writes; nothing where the shape stays."""
    return 0 if shape == new else (math.prod(shape) + math.prod(new)) * itemsize
