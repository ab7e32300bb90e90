"""Attention whose batch or heads lie on several devices is computed there."""

import functools

import jax
import numpy as np
import pytest
from fused.test_attention import JAX, NATIVE, near, operands
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sparta_jax.fused import Grouped, Written, fused


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("form", [JAX[1], Written("bhqd", "q/c", bias=True)], ids=str)
def test_nothing_is_gathered(form, kind):
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    args = operands(form, (8, 6, 9, 4, 8))
    spec = ("data", "model") if isinstance(form, Written) else ("data", None, "model")
    put = lambda a, *axes: jax.device_put(a, NamedSharding(mesh, PartitionSpec(*axes)))
    placed = [put(a, *spec) for a in args[:3]] + [put(a, "data") if a.ndim else put(a) for a in args[3:]]
    compiled = jax.jit(functools.partial(fused, form, NATIVE)).lower(*placed).compile()
    assert "all-gather" not in compiled.as_text()
    near(np.asarray(compiled(*placed)), form.reference(*args))
    assert compiled(*placed).sharding.spec[0] == "data"


def test_shard_map():
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    mesh, form = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)), Grouped(0.5)
    args = operands(form, (8, 3, 5, 2, 8))
    local = jax.shard_map(
        functools.partial(fused, form, NATIVE), mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data")
    )
    near(jax.jit(local)(*args), form.reference(*args))
    gradient = lambda f: jax.jit(jax.grad(lambda q: (f(q, *args[1:]) ** 2).sum()))(args[0])
    near(gradient(local), gradient(form.reference))
