"""What no caller should do, and what many do at once: corrupt packed trees, and threads."""

import concurrent.futures
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import sparta_jax as sj
from tests.kernels.native_cases import block_tesa, need_native, normal

SHAPE, ROWS, TIMEOUT = (70, 96), 24, 120


def at(array, index, value):
    return array.at[index].set(value)


# Each makes of the layout's `(values, indptr, indices)` what no packing makes.
CORRUPTIONS = {
    "an index too large": lambda v, p, i: (v, p, at(i, 0, 1000)),
    "an index that overflows": lambda v, p, i: (v, p, at(i, -1, 2**31 - 1)),
    "a negative index": lambda v, p, i: (v, p, at(i, 1, -1)),
    "indptr decreases": lambda v, p, i: (v, at(p, 1, p[-1]), i),
    "indptr begins late": lambda v, p, i: (v, at(p, 0, 1), i),
    "indptr begins below zero": lambda v, p, i: (v, at(p, 0, -1), i),
    "indptr ends late": lambda v, p, i: (v, at(p, -1, p[-1] + 7), i),
    "indptr ends early": lambda v, p, i: (v, at(p, -1, p[-1] - 1), i),
    "indptr is short": lambda v, p, i: (v, p[:-1], i),
    "indptr is long": lambda v, p, i: (v, jnp.concatenate([p, p[-1:]]), i),
    "indptr is empty": lambda v, p, i: (v, p[:0], i),
    "indices are short": lambda v, p, i: (v, p, i[:-1]),
    "indices are empty": lambda v, p, i: (v, p, i[:0]),
    "values are short": lambda v, p, i: (v[:-1], p, i),
    "values and indices are short": lambda v, p, i: (v[:-1], p, i[:-1]),
    "values are empty": lambda v, p, i: (v[:0], p, i),
    "values of another rank": lambda v, p, i: (v[None], p, i),
    "indices of another rank": lambda v, p, i: (v, p, i[None]),
    "indices are small integers": lambda v, p, i: (v, p, i.astype(jnp.int16)),
    "indices are numbers": lambda v, p, i: (v, p, i.astype(jnp.float32)),
    "indptr is numbers": lambda v, p, i: (v, p.astype(jnp.float32), i),
    "indptr and indices are unsigned": lambda v, p, i: (v, p.astype(jnp.uint32), i.astype(jnp.uint32)),
}


def corrupted(packed, corrupt):
    """The packed tree with its one sparse entry changed."""
    ((key, stored),) = [(k, s) for k, s in packed.entries.items() if hasattr(s, "indptr")]
    values = "blocks" if hasattr(stored, "blocks") else "values"
    new = corrupt(getattr(stored, values), stored.indptr, stored.indices)
    changed = dataclasses.replace(stored, **dict(zip((values, "indptr", "indices"), new, strict=True)))
    return dataclasses.replace(packed, entries={**packed.entries, key: changed})


def tesa_of(block):
    if block is not None:
        return block_tesa(SHAPE, block, 0.4)
    return sj.TeSA(np.random.default_rng(0).random(SHAPE) < 0.1)


@need_native()
@pytest.mark.parametrize("block", [(16, 16), (8, 4), None], ids=str)
def test_a_corrupt_packed_tree_is_an_exception(block):
    fast = sj.sparsify(lambda w, x: x @ w, tesa_of(block), implementation="native")
    w, x = normal(SHAPE, 1), normal((ROWS, SHAPE[0]), 2)
    packed = fast.pack(w, x)
    want = fast(packed, x)
    said = {}
    for name, corrupt in CORRUPTIONS.items():
        try:
            jax.block_until_ready(jax.jit(fast)(corrupted(packed, corrupt), x))
        except Exception as error:
            said[name] = str(error)
    assert set(said) == set(CORRUPTIONS)
    assert all(said.values())
    assert (fast(packed, x) == want).all()


def together(calls, times):
    """What 16 threads get that call all of these, each beginning with another one."""

    def work(thread):
        order = [(thread + i) % len(calls) for i in range(len(calls))] * times
        return [(i, np.asarray(calls[i]())) for i in order]

    pool = concurrent.futures.ThreadPoolExecutor(16)
    futures = [pool.submit(work, thread) for thread in range(16)]
    done, late = concurrent.futures.wait(futures, timeout=TIMEOUT)
    pool.shutdown(wait=False, cancel_futures=True)
    assert not late, f"{len(late)} of 16 threads wait for each other"
    return [pair for future in done for pair in future.result()]


@need_native()
@pytest.mark.parametrize("blocks", [[(16, 16)], [(32, 32), (8, 4), (16, 1), None]], ids=["one function", "several"])
def test_threads_that_call_at_once_get_what_one_alone_gets(blocks):
    calls = []
    for block in blocks:
        fast = sj.sparsify(lambda w, x: jax.nn.gelu(x @ w), block_or_elements(block), implementation="native")
        w, x = normal((256, 320), 1), normal((96, 256), 2)
        packed, run = fast.pack(w, x), jax.jit(fast)
        calls.append(lambda run=run, packed=packed, x=x: run(packed, x))
        gradient = jax.jit(jax.grad(lambda w, x, fast=fast: jnp.sum(fast(w, x) ** 2), (0, 1)))
        calls.append(lambda gradient=gradient, w=w, x=x: jnp.concatenate([g.ravel() for g in gradient(w, x)]))
    alone = [np.asarray(call()) for call in calls]
    for i, got in together(calls, times=4):
        np.testing.assert_array_equal(got, alone[i])


def block_or_elements(block):
    shape = (256, 320)
    return sj.TeSA(np.random.default_rng(0).random(shape) < 0.1) if block is None else block_tesa(shape, block, 0.2)


@need_native()
def test_threads_that_compile_at_once_get_the_same():
    fast = sj.sparsify(lambda w, x: x @ w, block_or_elements((16, 16)), implementation="native")
    w, x = normal((256, 320), 1), normal((96, 256), 2)
    want = np.asarray(fast(w, x))
    for _, got in together([lambda: jax.jit(lambda w, x: fast(w, x))(w, x)], times=1):
        np.testing.assert_array_equal(got, want)


@need_native()
@pytest.mark.parametrize("block", [(16, 16), None], ids=str)
def test_data_parallel_calls_of_native_kernels_gather_nothing(block):
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, rows = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((), ("data",)))
    fast = sj.sparsify(lambda w, x: jax.nn.relu(x @ w), tesa_of(block), implementation="native")
    w, x = normal(SHAPE, 1), normal((8 * ROWS, SHAPE[0]), 2)
    want = np.asarray(fast(w, x))
    weights = {"params": jax.device_put(w, everywhere), "packed": jax.device_put(fast.pack(w, x), everywhere)}
    split = jax.device_put(x, rows)
    specs = dict(mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("data")), out_specs=PartitionSpec("data"))
    local = {"params": jax.shard_map(fast, **specs), "packed": jax.shard_map(fast, **specs, check_vma=False)}
    for name, weight in weights.items():
        for call in (fast, local[name]):
            compiled = jax.jit(call).lower(weight, split).compile()
            text = compiled.as_text()
            assert "all-gather" not in text
            assert "sparta_" in text
            got = compiled(weight, split)
            assert got.sharding.is_equivalent_to(rows, 2)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
