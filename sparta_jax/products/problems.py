"""What a kernel is asked of a product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..problem import SDDMM, Device, SpMM
from .product import Product


def spmm_problem(product: Product, avals, device: Device) -> SpMM:
    x, values = avals[:2]
    return SpMM(
        m=math.prod(x.shape[:-1]),
        pattern=product.pattern,
        layout=product.layout,
        x_dtype=np.dtype(x.dtype),
        w_dtype=np.dtype(values.dtype),
        out_dtype=product.out_dtype,
        device=device,
        transposed=product.transposed,
        precision=product.precision,
        epilogue=product.epilogue,
    )


def sddmm_problem(product: Product, avals, device: Device) -> SDDMM:
    x, g = avals
    return SDDMM(
        m=math.prod(x.shape[:-1]),
        pattern=product.pattern,
        layout=product.layout,
        x_dtype=np.dtype(x.dtype),
        g_dtype=np.dtype(g.dtype),
        out_dtype=product.out_dtype,
        device=device,
        precision=product.precision,
    )


def problem_of(primitive: str, product: Product, avals: Sequence[Any], device: Device) -> SpMM | SDDMM | None:
    """What a kernel is asked where a primitive of that name is bound to operands of these types; None if it is no product."""
    make = {"spmm": spmm_problem, "spmm_epilogue": spmm_problem, "sddmm": sddmm_problem}.get(primitive)
    return None if make is None else make(product, avals, device)
