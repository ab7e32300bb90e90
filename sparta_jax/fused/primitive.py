"""The primitive of all fused operations: differentiation, batching, partitioning, and the plan made in the lowering.

An operation *is* its reference, a JAX function; every transformation is that of the reference, but for a batch, which becomes
part of the leading axis. As with products there are two layers: the outer primitive, which calls `custom_partitioning`, and the
inner one, in whose lowering the shapes are a device's own.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from ..problem import Device, Planner
from ..products import PLATFORMS, aval_like, default_device, on_one_device, vary_alike


class Operand(enum.Enum):
    """What the first axis of an operand is."""

    BATCH = "the batch"
    MAYBE = "the batch, or of size 1 where all of it shares the operand"
    SHARED = "nothing of the batch"


class Operation(Protocol):
    """One fused operation as it is written in a program; frozen and hashable. The first operand and the result have the batch
    as their first axis."""

    @property
    def operands(self) -> tuple[Operand, ...]: ...

    def reference(self, *operands: jax.Array) -> jax.Array:
        """What it means, as ordinary operations."""
        ...

    def problem(self, avals: Sequence[Any], device: Device) -> Any:
        """What a kernel is asked for operands like these; its kernels run on the operands."""
        ...

    def factors(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[str, ...], ...]:
        """A name for each axis of every operand, then of the result: axes of one name are sharded alike, those of no capital
        not at all."""
        ...


def fused(operation: Operation, planner: Planner, *operands: jax.Array) -> jax.Array:
    """The operation's result, by the kernel that the planner chooses."""
    values = vary_alike([jnp.asarray(a) for a in operands])
    shapes = tuple((a.shape, np.dtype(a.dtype)) for a in values)
    return fused_p.bind(*values, operation=operation, planner=planner, call=_call(operation, planner, shapes))


def _result(operation: Operation, avals: Sequence[Any]):
    """The result's aval: of the reference, placed as the first operand along the axes that they share."""
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
    out = jax.eval_shape(operation.reference, *structs)
    *names, result = operation.factors([a.shape for a in avals])
    first = avals[0]
    spec = tuple(first.sharding.spec)
    placed = dict(zip(names[0], (*spec, *[None] * (first.ndim - len(spec))), strict=True))
    return aval_like(first, out.shape, out.dtype, [placed.get(n) if n.isupper() else None for n in result])


# -- what one device runs

fused_local_p = Primitive("fused_local")
fused_local_p.def_abstract_eval(lambda *avals, operation, planner: _result(operation, avals))


def _lower(ctx, *operands, operation: Operation, planner: Planner, platform: str):
    plan = planner.plan(operation.problem(ctx.avals_in, default_device(platform)))
    return mlir.lower_fun(plan.run, multiple_results=False)(on_one_device(ctx), *operands)


mlir.register_lowering(fused_local_p, functools.partial(_lower, platform="other"))
for _platform in PLATFORMS:
    mlir.register_lowering(fused_local_p, functools.partial(_lower, platform=_platform), platform=_platform)


# -- what the program sees

fused_p = Primitive("fused")
fused_p.def_abstract_eval(lambda *avals, operation, planner, call: _result(operation, avals))
mlir.register_lowering(
    fused_p,
    lambda ctx, *operands, call, **_: mlir.lower_fun(jaxpr_as_fun(call), multiple_results=True)(ctx, *operands),
)


@fused_p.def_impl
def _compiled(*operands, operation: Operation, planner: Planner, call):
    with jax.disable_jit(False):
        return _jitted(operation, planner, call)(*operands)


@functools.lru_cache(maxsize=4096)
def _jitted(operation: Operation, planner: Planner, call) -> Callable:
    return jax.jit(functools.partial(fused_p.bind, operation=operation, planner=planner, call=call))


@functools.lru_cache(maxsize=4096)
def _call(operation: Operation, planner: Planner, shapes: tuple[tuple[tuple[int, ...], np.dtype], ...]):
    """The jaxpr that calls the partitioned operation at these shapes."""
    names = operation.factors([shape for shape, _ in shapes])
    local = functools.partial(fused_local_p.bind, operation=operation, planner=planner)

    @custom_partitioning
    def call(*operands):
        return local(*operands)

    def partition(mesh, args, result):
        axes = _mesh_axes(names[0], args[0])
        sharding = lambda own: NamedSharding(mesh, PartitionSpec(*[axes.get(n) for n in own]))
        return mesh, lambda *operands: local(*operands), sharding(names[-1]), tuple(map(sharding, names[:-1]))

    call.def_partition(partition=partition, sharding_rule=_rule(names))
    return jax.make_jaxpr(call)(*(jax.ShapeDtypeStruct(*s) for s in shapes))


def _rule(names: Sequence[tuple[str, ...]]) -> str:
    spelled = [" ".join(n.lower() for n in own) for own in names]
    return ", ".join(spelled[:-1]) + " -> " + spelled[-1]


def _mesh_axes(names: Sequence[str], arg) -> dict[str, Any]:
    """By name: the mesh axes along which an operand's capital axes lie."""
    spec = tuple(arg.sharding.spec)
    return {n: s for n, s in zip(names, (*spec, *[None] * (len(names) - len(spec))), strict=True) if n.isupper()}


# -- derivatives and batches


def _jvp(primals, tangents, *, operation: Operation, **_):
    moving = [i for i, t in enumerate(tangents) if type(t) is not ad.Zero]

    def along(*values):
        operands = list(primals)
        for i, value in zip(moving, values, strict=True):
            operands[i] = value
        return operation.reference(*operands)

    return jax.jvp(along, [primals[i] for i in moving], [tangents[i] for i in moving])


ad.primitive_jvps[fused_p] = _jvp


def _batch(operands, axes, *, operation: Operation, planner: Planner, call):
    """A batch becomes part of the leading axis; where an operand has none, the reference is batched."""
    if any(d is not None for d, kind in zip(axes, operation.operands, strict=True) if kind is Operand.SHARED):
        return jax.vmap(operation.reference, in_axes=axes)(*operands), 0
    size = next(a.shape[d] for a, d in zip(operands, axes, strict=True) if d is not None)
    first, d = operands[0], axes[0]
    length = first.shape[0] if d is None else jnp.moveaxis(first, d, 0).shape[1]
    folded = [_folded(a, d, k, size, length) for a, d, k in zip(operands, axes, operation.operands, strict=True)]
    out = fused(operation, planner, *folded)
    return out.reshape(size, length, *out.shape[1:]), 0


def _folded(a: jax.Array, axis: int | None, kind: Operand, size: int, length: int) -> jax.Array:
    """An operand with `size` batches as part of its first axis, which has then `size * length` elements."""
    if kind is Operand.SHARED or axis is None and kind is Operand.MAYBE and a.shape[0] == 1:
        return a
    stacked = jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
    whole = jnp.broadcast_to(stacked, (size, length, *stacked.shape[2:]))
    return whole.reshape(size * length, *whole.shape[2:])


batching.primitive_batchers[fused_p] = _batch
