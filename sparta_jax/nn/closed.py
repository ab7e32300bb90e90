"""Linen modules whose layers cannot be taken out of them."""

from __future__ import annotations

import types
from typing import Any

import flax.linen as nn
import jax

from ..errors import SpartaTypeError


class Closed:
    """Keeps the layers that `setup` made to itself: the masks are of the methods, a layer taken out would compute with none.

    Attributes:
      _closed: whether it does.
    """

    _closed: bool
    _in_setup: bool = False

    def setup(self) -> None:
        object.__setattr__(self, "_in_setup", True)
        super().setup()  # pyright: ignore[reportAttributeAccessIssue]
        object.__setattr__(self, "_in_setup", False)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return value if name.startswith("_") or isinstance(value, types.MethodType) else self._shown(name, value)

    def __getattr__(self, name: str) -> Any:
        """Linen's, for what `setup` has not made yet."""
        return self._shown(name, super().__getattr__(name))  # pyright: ignore[reportAttributeAccessIssue]

    def _shown(self, name: str, value: Any) -> Any:
        given = name in type(self).__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]
        if given or not self._closed or self._in_setup or not _holds_layer(value):
            return value
        raise SpartaTypeError(
            f"{name} is a layer of a sparsified {type(self).__name__}; taken out it would know nothing of the masks: call a "
            "method of the whole, sparsify that layer, or name the `methods` to sparsify"
        )


def _holds_layer(value: Any) -> bool:
    """Whether a layer is in it, by itself or in lists and dicts."""
    return any(isinstance(leaf, nn.Module) for leaf in jax.tree.leaves(value))
