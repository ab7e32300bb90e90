"""Pictures of sparsity, with matplotlib (the extra `plot`); every function draws into axes and returns them."""

from __future__ import annotations

import importlib
from typing import Any

PICTURES = {"spy": "masks", "masks": "masks", "densities": "densities", "graph": "graph", "sites": "sites"}
__all__ = ["densities", "graph", "masks", "sites", "spy"]


def __getattr__(name: str) -> Any:
    """The pictures, imported when first asked for: matplotlib is an extra."""
    if name not in PICTURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise ImportError("sparta_jax.render draws with matplotlib: `pip install 'sparta-jax[plot]'`") from error
    return getattr(importlib.import_module(f"{__name__}.{PICTURES[name]}_picture"), name)
