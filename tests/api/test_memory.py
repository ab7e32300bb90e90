"""Packed inference holds the packed bytes and the activations: nowhere a dense copy of a weight."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparta_jax as sj
from tests.kernels.native_cases import need_native

SIZE, ROWS, LAYERS = 512, 16, 3
WEIGHT = 4 * SIZE * SIZE
ACTIVATION = 4 * ROWS * SIZE


def model(params, x):
    for layer in params:
        x = jax.nn.gelu(x @ layer["kernel"] + layer["bias"])
    return x


def masks_of(block, seed=0):
    rng = np.random.default_rng(seed)
    live = [rng.random((SIZE // block, SIZE // block)) < 0.1 for _ in range(LAYERS)]
    return [{"kernel": sj.TeSA.blocks(grid, (block, block), (SIZE, SIZE)), "bias": None} for grid in live]


@need_native()
@pytest.mark.parametrize("block", [32, 8, 1])
def test_a_packed_call_allocates_no_dense_weight(block):
    tesa = masks_of(block)
    params = [{"kernel": jnp.ones((SIZE, SIZE)), "bias": jnp.ones(SIZE)} for _ in range(LAYERS)]
    fast = sj.sparsify(model, tesa, implementation="native")
    x = jnp.ones((ROWS, SIZE))
    packed = fast.pack(params, x)
    stored = sum(leaf.nbytes for leaf in jax.tree.leaves(packed))
    live = 4 * sum(layer["kernel"].nnz for layer in tesa)
    assert stored <= 2.1 * live + LAYERS * 8 * SIZE + 4096  # single elements have an index each
    memory = jax.jit(fast).lower(packed, x).compile().memory_analysis()
    assert memory.argument_size_in_bytes <= stored + ACTIVATION + 1024
    assert memory.temp_size_in_bytes <= 4 * ACTIVATION
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < WEIGHT / 4


RSS = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np
import sparta_jax as sj
from sparta_jax.formats.bsr import Pattern

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

size, block, rows = 8192, 64, 32
grid = np.random.default_rng(0).random((size // block, size // block)) < 0.05
tesa = sj.TeSA.blocks(grid, (block, block), (size, size))
fast = sj.sparsify(lambda w, x: jax.nn.relu(x @ w), tesa, implementation="native")
w, x = jax.ShapeDtypeStruct((size, size), jnp.float32), jax.ShapeDtypeStruct((rows, size), jnp.float32)
shapes = jax.eval_shape(fast.pack, w, x)
((key, entry),) = shapes.entries.items()
pattern = Pattern.of(tesa, entry.blocks.shape[1:])
blocks, tables = jnp.ones(entry.blocks.shape), (jnp.asarray(pattern.indptr), jnp.asarray(pattern.indices))
stored = dataclasses.replace(entry, blocks=blocks, indptr=tables[0], indices=tables[1])
packed = dataclasses.replace(shapes, entries={key: stored})
call, x = jax.jit(fast).lower(packed, x).compile(), jnp.ones(x.shape).block_until_ready()
before = peak()
for _ in range(3):
    call(packed, x).block_until_ready()
print(peak() - before, 4 * size * size, blocks.nbytes)
"""


@need_native()
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_process_grows_by_activations_alone():
    done = subprocess.run([sys.executable, "-c", RSS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    grew, dense, packed = map(int, done.stdout.split())
    assert grew < packed < dense / 8
