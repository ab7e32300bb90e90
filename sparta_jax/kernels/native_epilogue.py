"""Epilogues of the native products: all but a scale are fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from ..problem import Epilogue
from ..products import apply_epilogue
from .native import ACTIVATIONS


def why_not_epilogue(epilogue: Epilogue) -> str | None:
    """What keeps the products from an epilogue."""
    return None if epilogue.activation in ACTIVATIONS else f"has no activation {epilogue.activation}"


def with_epilogue(product: Callable[..., jax.Array], epilogue: Epilogue, extras: Sequence[jax.Array]) -> jax.Array:
    """`product(bias=..., activation=..., residual=...)`, which fuses what it is given; with a scale, all is done behind it."""
    if epilogue.scale:
        return apply_epilogue(epilogue, product(), *extras)
    rest = list(extras)
    return product(
        bias=rest.pop(0) if epilogue.bias else None,
        activation=epilogue.activation,
        residual=rest.pop(0) if epilogue.residual else None,
    )
