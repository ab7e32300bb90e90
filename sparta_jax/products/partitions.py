"""How products are cut over devices: leading axes may be sharded, the weight is whole on every device."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from ..problem import DENSE
from .product import Product


def _lead(rank: int) -> str:
    return "".join(f"m{i} " for i in range(rank - 1))


def _stored(product: Product) -> str:
    return "k n" if product.layout == DENSE else "e" if product.layout.block is None else "e r c"


def spmm_rule(product: Product, ranks: tuple[int, ...]) -> str:
    """Factor names need only agree where axes must be sharded alike: the leading ones."""
    tables = ", p, e" if product.tables else ""
    vectors = ", o" * (product.epilogue.scale + product.epilogue.bias)
    extras = vectors + (f", {_lead(ranks[0])}o" if product.epilogue.residual else "")
    contracted, stored = "i", _stored(product).replace("k", "wk").replace("n", "wn")
    return f"{_lead(ranks[0])}{contracted}, {stored}{tables}{extras} -> {_lead(ranks[0])}o"


def sddmm_rule(product: Product, ranks: tuple[int, ...]) -> str:
    stored = _stored(product).replace("k", "wk").replace("n", "wn")
    return f"{_lead(ranks[0])}i, {_lead(ranks[0])}j -> {stored}"


def _specs(arg) -> tuple[Any, ...]:
    """The leading axes' entries of an operand's sharding."""
    spec = tuple(arg.sharding.spec)
    return (*spec, *[None] * (len(arg.shape) - len(spec)))[: len(arg.shape) - 1]


def spmm_partition(product: Product, local, mesh, args, result):
    lead = _specs(args[0])
    rows = NamedSharding(mesh, PartitionSpec(*lead, None))
    whole = [NamedSharding(mesh, PartitionSpec(*[None] * len(a.shape))) for a in args]
    operands = [rows, *whole[1:]]
    if product.epilogue.residual:
        operands[-1] = rows
    return mesh, local, rows, tuple(operands)


def sddmm_partition(product: Product, local, mesh, args, result):
    lead = _specs(args[0])
    rows = NamedSharding(mesh, PartitionSpec(*lead, None))
    axes = [a for entry in lead if entry is not None for a in (entry if isinstance(entry, tuple) else (entry,))]
    summed = (lambda *operands: jax.lax.psum(local(*operands), tuple(axes))) if axes else local
    whole = NamedSharding(mesh, PartitionSpec(*[None] * len(product.values_shape())))
    return mesh, summed, whole, (rows, rows)
