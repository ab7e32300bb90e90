"""What the configs of all GPU kernels say."""

from __future__ import annotations

from typing import Protocol


class Tile(Protocol):
    """The tile `[rows, cols]` of the result, contracting `depth` in every step."""

    @property
    def rows(self) -> int: ...

    @property
    def cols(self) -> int: ...

    @property
    def depth(self) -> int: ...


class Split(Tile, Protocol):
    """A tile whose sum is cut into `splits` parts, each of which has an item of its own."""

    @property
    def splits(self) -> int: ...
