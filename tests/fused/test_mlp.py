"""Feed-forward networks as one operation: every transformation equals that of the products one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fused.test_attention import near
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sparta_jax.fused import FeedForward, fused
from sparta_jax.kernels import native_csr_mlp
from sparta_jax.problem import CSR_LAYOUT, MLP, Device, Epilogue, Layout
from sparta_jax.products import Product
from sparta_jax.specialize import Chooser
from sparta_jax.stored import arrays_of, pack
from sparta_jax.tesa import TeSA
from tests.kernels.native_cases import need_native

NATIVE = Chooser("native")
K, HIDDEN, N, ROWS = 24, 56, 24, (4, 40)


def product(k, n, seed, layout=CSR_LAYOUT, planner=NATIVE, **epilogue):
    tesa = TeSA(np.random.default_rng(seed).random((k, n)) < 0.2)
    return Product(tesa, layout, planner, np.dtype(np.float32), epilogue=Epilogue(**epilogue))


def operation(gated=False, bias=True, residual=True, **facts):
    return FeedForward(
        product(K, HIDDEN, 1, bias=bias, activation="silu", **facts),
        product(K, HIDDEN, 2, bias=bias, **facts) if gated else None,
        product(HIDDEN, N, 3, bias=bias, residual=residual, **facts),
    )


def operands(form, rows=ROWS):
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    out = [normal(*rows, K)]
    for p in form.products:
        w = jnp.where(p.pattern.mask, normal(*p.pattern.shape), 0)
        out += [*map(jnp.asarray, arrays_of(pack(w, p.pattern, p.layout))), *[normal(p.n)] * p.epilogue.bias]
    return out + [normal(*rows, N)] * form.down.epilogue.residual


def call(form):
    return functools.partial(fused, form, NATIVE)


FORMS = {
    "plain": operation(bias=False, residual=False),
    "bias and residual": operation(),
    "gated": operation(gated=True, bias=False, residual=False),
    "gated, bias and residual": operation(gated=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_values(form):
    args = operands(FORMS[form])
    near(*jax.jit(lambda *a: (call(FORMS[form])(*a), FORMS[form].reference(*a)))(*args))


def plan(form, rows=ROWS, planner=NATIVE, cores=2):
    return planner.plan(form.problem(operands(form, rows), Device("cpu", cores=cores)))


@need_native()
class TestTheChoice:
    def test_the_native_kernel_where_all_products_are_native_and_by_elements(self):
        form = FORMS["gated"]
        assert plan(form).kernel.name == "native_csr_mlp"
        asked = plan(form).problem
        assert isinstance(asked, MLP)
        assert (asked.m, asked.k, asked.hidden, asked.n) == (160, K, HIDDEN, N)
        assert str(asked) == f"160x{K}x{HIDDEN}x{N} gated"

    def test_not_for_blocks(self):
        self.check_separate(plan(operation(layout=Layout("bsr", (4, 4)))), "needs all products on native_csr_spmm")

    def test_not_where_a_product_is_dense(self):
        self.check_separate(plan(operation(planner=Chooser("dense"))), "got dense_spmm")

    def test_not_for_few_rows(self):
        self.check_separate(plan(FORMS["plain"], (63,)), "needs 64 rows, 32 for each thread")
        assert plan(FORMS["plain"], (63,), cores=1).kernel.name == "native_csr_mlp"

    def test_not_where_a_row_is_too_long_for_the_cache(self):
        up, down = product(2000, 4000, 1), product(4000, 8, 2)
        form = FeedForward(up, None, down)
        avals = [jax.ShapeDtypeStruct((64, 2000), jnp.float32)]
        for p in form.products:
            avals += [jax.ShapeDtypeStruct(p.values_shape(), jnp.float32), *[jax.ShapeDtypeStruct((1,), jnp.int32)] * 2]
        self.check_separate(
            NATIVE.plan(form.problem(avals, Device("cpu", cores=2))), "at most 5120 numbers of a row in cache, of 6000"
        )

    @pytest.mark.parametrize(
        ("rows", "cores", "busiest"), [(128, 2, 1.0), (2048, 2, 1.03125), (264, 8, 24 / 17), (528, 16, 48 / 33), (48, 1, 1.0)]
    )
    def test_panels_that_do_not_divide_among_threads_count(self, rows, cores, busiest):
        made = plan(FORMS["plain"], (rows,), cores=cores)
        assert made.kernel.name == "native_csr_mlp"
        assert native_csr_mlp.busiest(made.problem) == pytest.approx(busiest)

    def test_not_of_mixed_dtypes(self):
        form, args = FORMS["plain"], operands(FORMS["plain"])
        args[0] = args[0].astype(jnp.bfloat16)
        self.check_separate(NATIVE.plan(form.problem(args, Device("cpu", cores=2))), "needs")

    def check_separate(self, made, reason):
        assert made.kernel.name == "dense_mlp"
        assert reason in dict(made.refused)["native_csr_mlp"]


def test_on_a_gpu_the_products_stay_apart():
    made = Chooser().plan(FORMS["gated"].problem(operands(FORMS["gated"]), Device("cuda", "NVIDIA H200", 132)))
    assert made.kernel.name == "dense_mlp"


TRANSFORMS = {
    "eager": lambda f, a: f(*a),
    "grad": lambda f, a: jax.grad(lambda x, w, b: jnp.sum(f(x, w, *a[2:4], b, *a[5:]) ** 2), (0, 1, 2))(a[0], a[1], a[4]),
    "jvp": lambda f, a: jax.jvp(lambda x, r: f(x, *a[1:-1], r), (a[0], a[-1]), (a[0] * 2, a[-1])),
    "hessian": lambda f, a: jax.jvp(jax.grad(lambda x: jnp.sum(f(x, *a[1:]) ** 2)), a[:1], a[:1]),
    "vmap": lambda f, a: jax.vmap(lambda x: f(x, *a[1:]))(jnp.stack([a[0], -a[0]])),
    "vmap along rows": lambda f, a: jax.vmap(lambda x, r: f(x, *a[1:-1], r), 1, 1)(a[0], a[-1]),
    "vmap of a weight": lambda f, a: jax.vmap(lambda w: f(a[0], w, *a[2:]))(jnp.stack([a[1], -a[1]])),
    "remat": lambda f, a: jax.grad(jax.checkpoint(lambda x: jnp.sum(f(x, *a[1:]) ** 2)))(a[0]),
    "scan": lambda f, a: jax.lax.scan(lambda c, _: (f(c, *a[1:]), None), a[0], None, length=2)[0],
    "vmap of grad": lambda f, a: jax.vmap(jax.grad(lambda x: jnp.sum(f(x, *a[1:]) ** 3)))(jnp.stack([a[0], -a[0]])),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transformations(transform):
    form = FORMS["gated, bias and residual"]
    args = operands(form)
    both = lambda *a: (TRANSFORMS[transform](call(form), a), TRANSFORMS[transform](form.reference, a))
    near(*(both if transform == "eager" else jax.jit(both))(*args))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_nothing_is_gathered_where_rows_are_sharded(kind):
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    mesh, form = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2), FORMS["gated, bias and residual"]
    args = operands(form, (8, 130))
    put = lambda a, *axes: jax.device_put(a, NamedSharding(mesh, PartitionSpec(*axes)))
    placed = [put(args[0], "data", "model"), *map(put, args[1:-1]), put(args[-1], "data", "model")]
    compiled = jax.jit(call(form)).lower(*placed).compile()
    assert "all-gather" not in compiled.as_text()
    near(np.asarray(compiled(*placed)), form.reference(*args))
    assert compiled(*placed).sharding.spec[:2] == ("data", "model")


def test_shard_map():
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    mesh, form = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)), FORMS["plain"]
    args = operands(form, (8, 40))
    specs = [PartitionSpec("data"), *[PartitionSpec()] * (len(args) - 1)]
    local = jax.shard_map(call(form), mesh=mesh, in_specs=tuple(specs), out_specs=PartitionSpec("data"))
    near(jax.jit(local)(*args), form.reference(*args))
    gradient = lambda f: jax.jit(jax.grad(lambda x: (f(x, *args[1:]) ** 2).sum()))(args[0])
    near(gradient(local), gradient(form.reference))
