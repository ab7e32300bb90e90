"""Regions: where the matrix of a product lies in the param that it is a mere rearrangement of."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from ..compressed import Steps, rearranged
from ..interpreters import Equation, Origins, Site, Variable


@dataclasses.dataclass(frozen=True)
class Region:
    """A matrix whose element `(i, j)` is the param's element number `offset + i * strides[0] + j * strides[1]`.

    Attributes:
      offset: of its first element.
      shape: `(k, n)`.
      strides: in elements, 0 along an axis of size 1.
    """

    offset: int
    shape: tuple[int, int]
    strides: tuple[int, int]

    @property
    def transposed(self) -> Region:
        (k, n), (down, along) = self.shape, self.strides
        return Region(self.offset, (n, k), (along, down))


@dataclasses.dataclass(frozen=True)
class Source:
    """What the weights of a site are made of.

    Attributes:
      param: the input variable.
      regions: one per weight of the site's batch.
      dtypes: to which they are cast, one after the other.
    """

    param: Variable
    regions: tuple[Region, ...]
    dtypes: tuple[Any, ...]


def source_of(site: Site, origins: Origins) -> Source | None:
    """The param that a site's weight is a part of; None where it is more than rearranged and cast."""
    chain, variable = [], site.weight
    while variable not in origins.params:
        equation = origins.definition.get(variable)
        if equation is None or len(equation.inputs) != 1 or not isinstance(equation.inputs[0], Variable):
            return None
        chain.append((equation, variable))
        variable = equation.inputs[0]
    if 0 in variable.shape:
        return None
    base = np.empty(variable.shape, np.int8)  # never read: its memory says what lies where
    part: Any = base
    dtypes = ()
    for equation, result in reversed(chain):
        if equation.name == "convert_element_type":
            dtypes = (*dtypes, equation.params["new_dtype"])
        elif (part := _part(equation, result, part)) is None:
            return None
    found = _regions(base, site.normal.w(part))
    return None if found is None else Source(variable, found, dtypes)


@functools.lru_cache(maxsize=1024)
def regions_of(shape: tuple[int, ...], steps: Steps) -> tuple[Region, ...] | None:
    """The matrices `[b, k, n]` that an array is after these steps; None where they are no strided parts of it."""
    if 0 in shape:
        return None
    base = np.empty(shape, np.int8)
    return _regions(base, rearranged(base, steps))


def _regions(base: np.ndarray, parts: Any) -> tuple[Region, ...] | None:
    if not np.may_share_memory(base, parts):
        return None
    start, (k, n) = base.__array_interface__["data"][0], parts.shape[1:]
    strides = tuple(int(s) if size > 1 else 0 for s, size in zip(parts.strides[1:], (k, n), strict=True))
    offsets = [part.__array_interface__["data"][0] - start for part in parts]
    return tuple(Region(offset, (k, n), (strides[0], strides[1])) for offset in offsets)


def _part(equation: Equation, result: Variable, array: np.ndarray) -> Any:
    """What an equation that only moves elements makes of an array; None for any other equation."""
    params = equation.params
    if equation.name in ("reshape", "squeeze", "copy", "copy_p", "name"):
        return array.reshape(result.shape)
    if equation.name == "broadcast_in_dim" and np.prod(result.shape) == array.size:
        return array.reshape(result.shape)
    if equation.name == "transpose":
        return array.transpose(params["permutation"])
    if equation.name == "slice":
        steps = params["strides"] or [1] * array.ndim
        return array[tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]
    if equation.name == "split":
        place, axis = equation.outputs.index(result), params["axis"]
        start = sum(params["sizes"][:place])
        return array[(slice(None),) * axis + (slice(start, start + params["sizes"][place]),)]
    return None
