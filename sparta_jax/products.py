"""The products as JAX primitives: differentiation, batching, partitioning, and the plan made in the lowering.

Two layers. The *outer* primitive is what AD, batching and the program see; one of its parameters is a jaxpr that calls
`custom_partitioning`. The *inner* primitive is what each device runs: in its lowering `m` is the shard's own, the platform is
known, and the planner is asked.

    spmm(x [..., K], weight) -> [..., N]                         y = x @ W, or x @ W.T
    sddmm(x [..., K], g [..., N]) -> stored values of a weight    x.T @ g at the live cells
    spmm_epilogue(x, weight, *extras) -> [..., N]                activation(scale * (x @ W) + bias) + residual

The first two are bilinear and closed under transposition, so no kernel needs a derivative of its own; the third one's jvp is
that of the first followed by the epilogue.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from .problem import DENSE, SDDMM, Device, Epilogue, Layout, Planner, SpMM
from .stored import Stored, arrays_of, of_arrays, tables_of, values_shape
from .tesa import TeSA

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_erf": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
UNROLLED_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Product:
    """The static half of a product: all that is known of it but its row count and its device.

    Attributes:
      pattern: the live elements of the stored weight `[K, N]`.
      layout: how the weight is stored.
      planner: who chooses a kernel in the lowering.
      out_dtype: of the result.
      precision: see `SpMM`.
      transposed: whether the weight is read as its transpose.
      epilogue: what is fused behind.
    """

    pattern: TeSA
    layout: Layout
    planner: Planner
    out_dtype: np.dtype
    precision: str | None = None
    transposed: bool = False
    epilogue: Epilogue = Epilogue()

    @property
    def n(self) -> int:
        return self.pattern.shape[0 if self.transposed else 1]

    @property
    def tables(self) -> int:
        """How many index tables follow the values among the operands."""
        return 0 if self.layout == DENSE else 2

    def weight(self, values: jax.Array, tables: Sequence[jax.Array]) -> Stored:
        return of_arrays((values, *tables), self.layout, self.pattern.shape)

    def values_shape(self) -> tuple[int, ...]:
        return values_shape(self.pattern, self.layout)


# -- the three functions


def spmm(product: Product, x: jax.Array, weight: Stored) -> jax.Array:
    """`x [..., K] @ W`, or `x [..., N] @ W.T` if `product.transposed`; differentiable in `x` and in the weight's values."""
    return _bind(spmm_p, product, x, *arrays_of(weight))


def sddmm(product: Product, x: jax.Array, g: jax.Array) -> jax.Array:
    """The values of a weight with `product`'s pattern and layout, from `x [..., K]` and `g [..., N]`: their outer products,
    summed over the leading axes, at the live cells."""
    return _bind(sddmm_p, product, x, g)


def spmm_epilogue(product: Product, x: jax.Array, weight: Stored, *extras: jax.Array) -> jax.Array:
    """`activation(scale * (x @ W) + bias) + residual`; `extras` are the scale `[N]`, the bias `[N]` and the residual `[..., N]`
    that the epilogue has."""
    return _bind(spmm_epilogue_p, product, x, *arrays_of(weight), *extras)


def apply_epilogue(epilogue: Epilogue, y: jax.Array, *extras: jax.Array) -> jax.Array:
    """What an epilogue means, as ordinary operations."""
    rest = list(extras)
    if epilogue.scale:
        y = y * rest.pop(0).astype(y.dtype)
    if epilogue.bias:
        y = y + rest.pop(0).astype(y.dtype)
    if epilogue.activation is not None:
        y = ACTIVATIONS[epilogue.activation](y)
    if epilogue.residual:
        y = y + rest.pop(0).astype(y.dtype)
    return y


def default_device(platform: str) -> Device:
    """The device that a lowering for `platform` is for: the GPU that the mesh in use names (`jax.sharding.AbstractDevice`),
    else this process' own where it has one of that platform."""
    named = jax.sharding.get_abstract_mesh().abstract_device
    if platform == "cuda" and named is not None and named.device_kind.startswith("NVIDIA"):
        return Device("cuda", named.device_kind, named.num_cores or 0)
    if platform == "cpu":
        return Device("cpu", cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    here = jax.devices()[0]
    if platform == "cuda" and here.platform in ("gpu", "cuda"):
        return Device("cuda", here.device_kind, getattr(here, "core_count", 0) or 0)
    return Device(platform)


# -- the inner primitives: what one device runs


def _spmm_problem(product: Product, avals, device: Device) -> SpMM:
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


def _sddmm_problem(product: Product, avals, device: Device) -> SDDMM:
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
    make = {"spmm": _spmm_problem, "spmm_epilogue": _spmm_problem, "sddmm": _sddmm_problem}.get(primitive)
    return None if make is None else make(product, avals, device)


def _run_spmm(product: Product, plan, x, values, *rest):
    tables, extras = rest[: product.tables], list(rest[product.tables :])
    if product.epilogue.residual:
        extras[-1] = extras[-1].reshape(-1, product.n)
    y = plan.run(x.reshape(-1, x.shape[-1]), product.weight(values, tables), *extras)
    return y.reshape(*x.shape[:-1], product.n)


def _run_sddmm(product: Product, plan, x, g):
    return plan.run(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1]))


def on_one_device(ctx: mlir.LoweringRuleContext) -> mlir.LoweringRuleContext:
    """The context of a lowering rule inside `shard_map`, where what varies over devices no longer matters: kernels mix operands
    with constants of their own."""
    varies = lambda a: bool(a.manual_axis_type.varying) if hasattr(a, "manual_axis_type") else False
    if not any(map(varies, (*ctx.avals_in, *ctx.avals_out))):
        return ctx
    plain = lambda avals: [ShapedArray(a.shape, a.dtype) for a in avals]
    return ctx.replace(avals_in=plain(ctx.avals_in), avals_out=plain(ctx.avals_out))


def _inner(name: str, out_aval: Callable, problem: Callable, run: Callable) -> Primitive:
    primitive = Primitive(name + "_local")
    primitive.def_abstract_eval(out_aval)

    def lower(ctx, *operands, product: Product, platform: str):
        plan = product.planner.plan(problem(product, ctx.avals_in, default_device(platform)))
        with warnings.catch_warnings():
            # Since jax 0.11, of kernels that are there for as long as that backend is.
            warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
            return mlir.lower_fun(functools.partial(run, product, plan), multiple_results=False)(on_one_device(ctx), *operands)

    mlir.register_lowering(primitive, functools.partial(lower, platform="other"))
    for platform in PLATFORMS:
        mlir.register_lowering(primitive, functools.partial(lower, platform=platform), platform=platform)
    return primitive


# -- the outer primitives: what the program sees


def _outer(name: str, out_aval: Callable, inner: Primitive, rule: Callable, partition: Callable) -> Primitive:
    primitive = Primitive(name)
    primitive.def_abstract_eval(lambda *avals, call, product: out_aval(*avals, product=product))
    primitive.def_impl(lambda *operands, call, product: _compiled(primitive, call, product, operands))
    mlir.register_lowering(
        primitive,
        lambda ctx, *operands, call, product: mlir.lower_fun(jaxpr_as_fun(call), multiple_results=True)(ctx, *operands),
    )

    def partitioned(product: Product, ranks: tuple[int, ...]) -> Callable:
        local = functools.partial(inner.bind, product=product)

        @custom_partitioning
        def call(*operands):
            return local(*operands)

        call.def_partition(partition=functools.partial(partition, product, local), sharding_rule=rule(product, ranks))
        return call

    _PARTITIONED[primitive] = partitioned
    return primitive


_PARTITIONED: dict[Primitive, Callable] = {}


def _compiled(primitive: Primitive, call, product: Product, operands: Sequence[jax.Array]) -> jax.Array:
    with jax.disable_jit(False):  # a product has no other meaning than its lowering
        return _jitted(primitive, call, product)(*operands)


@functools.lru_cache(maxsize=4096)
def _jitted(primitive: Primitive, call, product: Product) -> Callable:
    return jax.jit(functools.partial(primitive.bind, call=call, product=product))


@functools.lru_cache(maxsize=4096)
def _call(primitive: Primitive, product: Product, shapes: tuple[tuple[tuple[int, ...], np.dtype], ...]):
    """The jaxpr that calls the partitioned product at these shapes."""
    call = _PARTITIONED[primitive](product, tuple(len(shape) for shape, _ in shapes))
    return jax.make_jaxpr(call)(*(jax.ShapeDtypeStruct(*s) for s in shapes))


def _bind(primitive: Primitive, product: Product, *operands) -> jax.Array:
    operands = vary_alike([jnp.asarray(a) for a in operands])
    shapes = tuple((a.shape, np.dtype(a.dtype)) for a in operands)
    return primitive.bind(*operands, product=product, call=_call(primitive, product, shapes))


def vary_alike(operands: list[jax.Array]) -> list[jax.Array]:
    """Inside `shard_map`: all operands made to vary over the same mesh axes, as JAX's own products do.

    Without this the gradient of a replicated weight is not summed over the devices, silently."""
    axes = [jax.typeof(a).manual_axis_type.varying for a in operands]
    union = frozenset().union(*axes)
    return [a if v == union else jax.lax.pcast(a, tuple(union - v), to="varying") for a, v in zip(operands, axes, strict=True)]


def varying_as(value: Any, aval) -> Any:
    """A value made to vary over the mesh axes over which `aval` does."""
    missing = aval.manual_axis_type.varying - jax.typeof(value).manual_axis_type.varying
    return jax.lax.pcast(value, tuple(missing), to="varying") if missing else value


def aval_like(aval, shape: tuple[int, ...], dtype, spec: Sequence[Any]):
    """`aval` (its varying axes, its mesh) with another shape, dtype and explicit sharding."""
    return aval.update(shape=shape, dtype=dtype, weak_type=False, sharding=aval.sharding.update(spec=PartitionSpec(*spec)))


def _spmm_aval(x, *_, product: Product):
    lead = tuple(x.sharding.spec)[: x.ndim - 1]
    return aval_like(x, (*x.shape[:-1], product.n), product.out_dtype, (*lead, None))


def _sddmm_aval(x, _, *, product: Product):
    shape = product.values_shape()
    return aval_like(x, shape, product.out_dtype, [None] * len(shape))


# -- partitioning: leading axes may be sharded, the weight is whole on every device


def _lead(rank: int) -> str:
    return "".join(f"m{i} " for i in range(rank - 1))


def _stored(product: Product) -> str:
    return "k n" if product.layout == DENSE else "e" if product.layout.block is None else "e r c"


def _spmm_rule(product: Product, ranks: tuple[int, ...]) -> str:
    """Factor names need only agree where axes must be sharded alike: the leading ones."""
    tables = ", p, e" if product.tables else ""
    vectors = ", o" * (product.epilogue.scale + product.epilogue.bias)
    extras = vectors + (f", {_lead(ranks[0])}o" if product.epilogue.residual else "")
    contracted, stored = "i", _stored(product).replace("k", "wk").replace("n", "wn")
    return f"{_lead(ranks[0])}{contracted}, {stored}{tables}{extras} -> {_lead(ranks[0])}o"


def _sddmm_rule(product: Product, ranks: tuple[int, ...]) -> str:
    stored = _stored(product).replace("k", "wk").replace("n", "wn")
    return f"{_lead(ranks[0])}i, {_lead(ranks[0])}j -> {stored}"


def _specs(arg) -> tuple[Any, ...]:
    """The leading axes' entries of an operand's sharding."""
    spec = tuple(arg.sharding.spec)
    return (*spec, *[None] * (len(arg.shape) - len(spec)))[: len(arg.shape) - 1]


def _spmm_partition(product: Product, local, mesh, args, result):
    lead = _specs(args[0])
    rows = NamedSharding(mesh, PartitionSpec(*lead, None))
    whole = [NamedSharding(mesh, PartitionSpec(*[None] * len(a.shape))) for a in args]
    operands = [rows, *whole[1:]]
    if product.epilogue.residual:
        operands[-1] = rows
    return mesh, local, rows, tuple(operands)


def _sddmm_partition(product: Product, local, mesh, args, result):
    lead = _specs(args[0])
    rows = NamedSharding(mesh, PartitionSpec(*lead, None))
    axes = [a for entry in lead if entry is not None for a in (entry if isinstance(entry, tuple) else (entry,))]
    summed = (lambda *operands: jax.lax.psum(local(*operands), tuple(axes))) if axes else local
    whole = NamedSharding(mesh, PartitionSpec(*[None] * len(product.values_shape())))
    return mesh, summed, whole, (rows, rows)


spmm_p = _outer("spmm", _spmm_aval, _inner("spmm", _spmm_aval, _spmm_problem, _run_spmm), _spmm_rule, _spmm_partition)
sddmm_p = _outer("sddmm", _sddmm_aval, _inner("sddmm", _sddmm_aval, _sddmm_problem, _run_sddmm), _sddmm_rule, _sddmm_partition)
spmm_epilogue_p = _outer(
    "spmm_epilogue",
    _spmm_aval,
    _inner("spmm_epilogue", _spmm_aval, _spmm_problem, _run_spmm),
    _spmm_rule,
    _spmm_partition,
)


# -- derivatives


def _is_zero(tangent) -> bool:
    return type(tangent) is ad.Zero


def _bilinear_jvp(primitive: Primitive, primals, tangents, *, product: Product, call):
    (a, b, *tables), (da, db, *_) = primals, tangents
    y = _bind(primitive, product, a, b, *tables)
    terms = [_bind(primitive, product, *pair, *tables) for pair in ((da, b), (a, db)) if not any(map(_is_zero, pair))]
    return y, functools.reduce(ad.add_jaxvals, terms) if terms else ad.Zero(jax.typeof(y))


def _spmm_transpose(ct, x, values, *tables, product: Product, call):
    nothing = [None] * len(tables)
    if _is_zero(ct):
        return None, None, *nothing
    if ad.is_undefined_primal(x):
        back = dataclasses.replace(product, transposed=not product.transposed)
        return _as(_bind(spmm_p, back, ct, values, *tables), x.aval), None, *nothing
    plain = dataclasses.replace(product, transposed=False)
    operands = (ct, x) if product.transposed else (x, ct)
    return None, _as(_bind(sddmm_p, plain, *operands), values.aval), *nothing


def _sddmm_transpose(ct, x, g, *, product: Product, call):
    if _is_zero(ct):
        return None, None
    tables = tables_of(product.pattern, product.layout)
    if ad.is_undefined_primal(x):
        back = dataclasses.replace(product, transposed=True)
        return _as(_bind(spmm_p, back, g, ct, *tables), x.aval), None
    return None, _as(_bind(spmm_p, product, x, ct, *tables), g.aval)


def _as(value: jax.Array, aval) -> jax.Array:
    return value if value.dtype == aval.dtype else value.astype(aval.dtype)


def _unfused(product: Product, x, values, *rest):
    plain = dataclasses.replace(product, epilogue=Epilogue())
    y = _bind(spmm_p, plain, x, values, *rest[: product.tables])
    return apply_epilogue(product.epilogue, y, *rest[product.tables :])


def _epilogue_jvp(primals, tangents, *, product: Product, call):
    moving = [i for i, t in enumerate(tangents) if not _is_zero(t)]

    def along(*values):
        operands = list(primals)
        for i, value in zip(moving, values, strict=True):
            operands[i] = value
        return _unfused(product, *operands)

    return jax.jvp(along, [primals[i] for i in moving], [tangents[i] for i in moving])


ad.primitive_jvps[spmm_p] = functools.partial(_bilinear_jvp, spmm_p)
ad.primitive_jvps[sddmm_p] = functools.partial(_bilinear_jvp, sddmm_p)
ad.primitive_jvps[spmm_epilogue_p] = _epilogue_jvp
ad.primitive_transposes[spmm_p] = _spmm_transpose
ad.primitive_transposes[sddmm_p] = _sddmm_transpose


# -- batching: a batch of x is a further leading axis; a batch of weights is one product each


def _each(primitive: Primitive, operands, axes, product: Product):
    size = next(a.shape[d] for a, d in zip(operands, axes, strict=True) if d is not None)
    moved = [a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(operands, axes, strict=True)]
    one = lambda i: _bind(primitive, product, *(a if d is None else a[i] for a, d in zip(moved, axes, strict=True)))
    if size <= UNROLLED_BATCH:
        return jnp.stack([one(i) for i in range(size)]), 0
    return jax.lax.map(one, jnp.arange(size)), 0


def _spmm_batch(primitive: Primitive, operands, axes, *, product: Product, call):
    residual = len(operands) - 1 if product.epilogue.residual else 0
    folding = {0, residual}
    if any(d is not None for i, d in enumerate(axes) if i not in folding) or any(axes[i] is None for i in folding):
        return _each(primitive, operands, axes, product)
    moved = [jnp.moveaxis(a, axes[i], 0) if i in folding else a for i, a in enumerate(operands)]
    return _bind(primitive, product, *moved), 0


def _sddmm_batch(operands, axes, *, product: Product, call):
    return _each(sddmm_p, operands, axes, product)


batching.primitive_batchers[spmm_p] = functools.partial(_spmm_batch, spmm_p)
batching.primitive_batchers[spmm_epilogue_p] = functools.partial(_spmm_batch, spmm_epilogue_p)
batching.primitive_batchers[sddmm_p] = _sddmm_batch
