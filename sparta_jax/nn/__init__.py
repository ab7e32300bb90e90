"""Modules in, modules out: `nn.linen.sparsify` and `nn.nnx.sparsify`. Needs the extra `flax`."""

from __future__ import annotations

import importlib
from types import ModuleType

WRAPPERS = ("linen", "nnx")


def __getattr__(name: str) -> ModuleType:
    """`linen` and `nnx`, imported when first asked for: Flax is an extra."""
    if name not in WRAPPERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        importlib.import_module("flax")
    except ImportError as error:
        raise ImportError(f"sparta_jax.nn.{name} wraps Flax modules: `pip install 'sparta-jax[flax]'`") from error
    return importlib.import_module(f"{__name__}.{name}")
