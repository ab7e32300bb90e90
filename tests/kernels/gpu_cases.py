"""What the tests of the GPU kernels share: problems, their operands, and an abstract GPU to lower for."""

import jax
import jax.numpy as jnp
import numpy as np

from sparta_jax.formats.bsr import BSR, Pattern
from sparta_jax.problem import Layout, SpMM
from sparta_jax.products import apply_epilogue
from sparta_jax.tesa import TeSA

BF16, F16, F32 = np.dtype(jnp.bfloat16), np.dtype(np.float16), np.dtype(np.float32)
TOLERANCE = {F32: 1e-6, F16: 1e-3, BF16: 8e-3}


def packed(*block: int) -> Layout:
    return Layout("bsr", block)


def mask(shape, cell, live, seed=1) -> TeSA:
    """Cells that are live at random with the density `live`, or as the function `live` of the grid's shape says."""
    grid = tuple(-(-n // c) for n, c in zip(shape, cell, strict=True))
    return TeSA.blocks(live(grid) if callable(live) else np.random.default_rng(seed).random(grid) < live, cell, shape)


def cross(grid) -> np.ndarray:
    """All of row 1 and of column 1, but no more of row 0 and column 0: an empty block column and an empty block row."""
    live = np.zeros(grid, bool)
    live[1:, 1] = live[1, 1:] = True
    return live


def one(grid) -> np.ndarray:
    live = np.zeros(grid, bool)
    live[-1, 0] = True
    return live


def structs(p):
    """The shapes of a problem's operands."""
    s = jax.ShapeDtypeStruct
    if not isinstance(p, SpMM):
        return s((p.m, p.k), p.x_dtype), s((p.m, p.n), p.g_dtype)
    weight = s(p.pattern.shape, p.w_dtype)
    if p.layout.block is not None:
        pattern = Pattern.of(p.pattern, p.layout.block)
        lists = (s(a.shape, a.dtype) for a in (pattern.indptr, pattern.indices))
        weight = BSR(s((pattern.nnzb, *p.layout.block), p.w_dtype), *lists, p.pattern.shape)
    vectors = [s((p.n,), p.x_dtype)] * (p.epilogue.scale + p.epilogue.bias)
    return s((p.m, p.k), p.x_dtype), weight, *vectors, *[s((p.m, p.n), p.x_dtype)] * p.epilogue.residual


def operands(p):
    """Random operands; a product's dense weight comes second, and third in the problem's layout."""
    rng = np.random.default_rng(0)
    draw = lambda s: jnp.asarray(rng.standard_normal(s.shape), s.dtype)
    if not isinstance(p, SpMM):
        return tuple(map(draw, structs(p)))
    x, weight, *extras = structs(p)
    w = jnp.asarray(np.where(p.pattern.mask, rng.standard_normal(p.pattern.shape), 0), p.w_dtype)
    stored = BSR.pack(w, p.pattern, p.layout.block) if isinstance(weight, BSR) else w
    return draw(x), w, stored, list(map(draw, extras))


def reference(p, *arrays) -> np.ndarray:
    """What the layout keeps of the dense product, in float32."""
    if isinstance(p, SpMM):
        x, w, *extras = (jnp.asarray(a, jnp.float32) for a in arrays)
        return np.asarray(apply_epilogue(p.epilogue, x @ (w.T if p.transposed else w), *extras))
    x, g = (np.asarray(a, np.float32) for a in arrays)
    dense = x.T @ g
    if p.layout.block is None:
        return np.where(p.pattern.mask, dense, 0)
    return np.asarray(BSR.pack(jnp.asarray(dense), p.pattern, p.layout.block).blocks)


def agrees(p, got, expected) -> None:
    assert (got.shape, got.dtype) == (expected.shape, p.out_dtype)
    assert np.linalg.norm(np.asarray(got, np.float32) - expected) <= TOLERANCE[p.out_dtype] * np.linalg.norm(expected)


def on(kind: str, cores: int = 132):
    """A context in which programs are lowered for a GPU that is not here."""
    device = jax.sharding.AbstractDevice(device_kind=kind, num_cores=cores, **_PLATFORM)
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), (), abstract_device=device))


try:
    jax.sharding.AbstractDevice(device_kind="", num_cores=1, platform="cuda")
    _PLATFORM = {"platform": "cuda"}
except TypeError:  # jax 0.10
    _PLATFORM = {}
