"""A maker keeps exactly as many units as the density says, the right ones, and leaves the rest of the tree dense."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax import TeSA, masks
from sparta_jax.errors import SpartaError, SpartaTypeError, SpartaValueError

DENSITIES = [0.0, 0.1, 0.5, 0.9, 1.0]


def weights(shapes, seed=0, dtype=np.float32):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda s: generator.standard_normal(s).astype(dtype), shapes, is_leaf=lambda s: isinstance(s, tuple))


PARAMS = weights({"down": {"bias": (8,), "kernel": (13, 18)}, "heads": (3, 10, 9), "steps": (), "up": [(18, 13), (6,)]})
PARAMS["count"] = np.zeros((2, 2), np.int32)
KERNELS = "down/kernel|up/0"


def by_blocks(array, block, reduce):
    """`reduce` over every block, by slicing."""
    grid = [-(-n // b) for n, b in zip(array.shape, block, strict=True)]
    out = np.zeros(grid)
    for index in np.ndindex(*grid):
        out[index] = reduce(array[tuple(slice(i * b, (i + 1) * b) for i, b in zip(index, block, strict=True))])
    return out


def live(tree):
    """The TeSAs that are there, by key path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tesa for path, tesa in leaves}


# -- which leaves

BY_DEFAULT = ["down/kernel", "heads", "up/0"]
MAKERS = {
    "magnitude": lambda params, **kw: masks.magnitude(params, density=0.5, **kw),
    "random": lambda params, **kw: masks.random(params, density=0.5, **kw),
    "channels": lambda params, **kw: masks.channels(params, density=0.5, axis=-1, **kw),
    "nm": lambda params, **kw: masks.nm(params, n=1, m=1, axis=-1, **kw),
    "from_zeros": lambda params, **kw: masks.from_zeros(jax.tree.map(lambda w: w * (w > 0), params), **kw),
}


@pytest.mark.parametrize(
    ("paths", "want"),
    [
        (None, BY_DEFAULT),
        ("kernel", ["down/kernel"]),
        (KERNELS, ["down/kernel", "up/0"]),
        (["kernel", "^up"], ["down/kernel", "up/0", "up/1"]),
        ("bias", ["down/bias"]),
    ],
)
@pytest.mark.parametrize("maker", MAKERS)
def test_prunes_what_is_selected(maker, paths, want):
    made = MAKERS[maker](PARAMS, paths=paths)
    assert sorted(live(made)) == want
    assert jax.tree.structure(made, is_leaf=lambda t: t is None) == jax.tree.structure(PARAMS)
    for path, tesa in live(made).items():
        assert isinstance(tesa, TeSA)
        assert tesa.shape == live(PARAMS)[path].shape


@pytest.mark.parametrize("maker", MAKERS)
def test_makes_a_tree_of_the_same_containers(maker):
    class Pair(NamedTuple):
        kernel: Any
        bias: Any

    made = MAKERS[maker](Pair(PARAMS["heads"], np.ones(3)))
    assert isinstance(made, Pair)
    assert made.bias is None
    assert made.kernel == MAKERS[maker](PARAMS)["heads"] or maker == "random"  # whose masks go by path


def test_flax_containers():
    flax = pytest.importorskip("flax")
    nnx = pytest.importorskip("flax.nnx")
    kernel = PARAMS["down"]["kernel"]
    frozen = masks.magnitude(flax.core.freeze({"fc": {"kernel": kernel, "bias": np.ones(3)}}), density=0.5, paths="kernel$")
    variables = masks.magnitude(nnx.state(nnx.Linear(4, 6, rngs=nnx.Rngs(0))), density=0.5, paths="kernel$")
    assert isinstance(frozen, flax.core.FrozenDict)
    assert live(frozen) == {"fc/kernel": masks.magnitude(kernel, density=0.5)}
    assert [t.nnz for t in jax.tree.leaves(variables)] == [12]


# -- how many, and which


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("block", [(4, 8), (1, 1), (1, 18), (5, 7), (20, 30), (None, 1), (4, None), (None, None)], ids=str)
@pytest.mark.parametrize("maker", [masks.magnitude, masks.random])
def test_keeps_exactly_so_many_blocks(maker, block, density):
    params = {"w": PARAMS["down"]["kernel"]}
    sizes = tuple(n if b is None else b for n, b in zip((13, 18), block, strict=True))
    tesa = maker(params, density=density, block=block)["w"]
    grid = tesa.block_mask(sizes)
    assert grid.sum() == round(density * grid.size)
    assert tesa == TeSA.blocks(grid, sizes, (13, 18))
    if maker is masks.magnitude:
        squares = by_blocks(params["w"].astype(np.float64), sizes, lambda w: np.square(w).sum())
        assert squares[grid].min(initial=np.inf) >= squares[~grid].max(initial=0)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 6), (3, 5, 4), (2, 3, 2, 2), (0, 4), (4, 0)])
@pytest.mark.parametrize("maker", [masks.magnitude, masks.random])
def test_keeps_exactly_so_many_elements(maker, shape, density):
    w = weights({"w": shape})["w"]
    tesa = maker(w, density=density, paths="")
    assert tesa.nnz == round(density * w.size)
    if maker is masks.magnitude:
        assert np.abs(w)[tesa.mask].min(initial=np.inf) >= np.abs(w)[~tesa.mask].max(initial=0)
    whole = maker(w, density=density, paths="", block=(None,) * len(shape))
    assert whole.is_dense or whole.is_dead


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("block", [None, (4, 8), (1, None)], ids=str)
@pytest.mark.parametrize("maker", [masks.magnitude, masks.random])
def test_a_global_budget(maker, block, density):
    params = {"loud": PARAMS["down"]["kernel"] * 10, "quiet": PARAMS["up"][0]}
    made = maker(params, density=density, block=block, scope="global")
    sizes = {k: tuple(w.shape[d] if b is None else b for d, b in enumerate(block or (1, 1))) for k, w in params.items()}
    grids = {k: made[k].block_mask(sizes[k]) for k in params}
    units = sum(g.size for g in grids.values())
    assert sum(g.sum() for g in grids.values()) == round(density * units)
    if maker is masks.magnitude and block is None:
        apart = np.concatenate([np.abs(params[k])[made[k].mask] for k in params])
        assert apart.size == 0 or apart.min() >= max(np.abs(params[k])[~made[k].mask].max(initial=0) for k in params)
        assert made["loud"].density >= made["quiet"].density


@pytest.mark.parametrize("maker", [masks.magnitude, masks.random])
def test_nothing_to_prune(maker):
    for scope in ("tensor", "global"):
        assert maker({"bias": np.ones(3)}, density=0.5, scope=scope) == {"bias": None}
        assert maker({}, density=0.5, scope=scope) == {}


def test_of_equal_magnitude_the_first_stay():
    w = np.array([[1, -1, 2, 1], [1, -2, 1, 1]], np.float32)
    assert masks.magnitude(w, density=0.5).mask.tolist() == [[True, True, True, False], [False, True, False, False]]
    assert masks.magnitude(w * 0, density=0.5, block=(1, 2)).mask.tolist() == [[True] * 4, [False] * 4]
    assert masks.nm(w[:, :2] * 0, n=1, m=2).mask.tolist() == [[True, True], [False, False]]


TYPES = ["float16", "bfloat16", "float32", "float8_e4m3fn", "int8", "uint8", "complex64", "bool"]


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_of_number(dtype):
    w = jnp.asarray([[-128, 1, 64], [2, 0, -16]], jnp.float32)
    w = (jnp.abs(w) if dtype in ("uint8", "bool") else w).astype(dtype)
    assert masks.magnitude(w, density=0.5, paths="").mask[0, 0]
    assert not masks.magnitude(w, density=0.5, paths="").mask[1, 1]
    assert masks.magnitude(w, density=1 / 3, paths="", block=(2, 1)).mask[0, 0]
    assert not masks.from_zeros(w, paths="").mask[1, 1]
    assert masks.magnitude({"w": w}, density=0.5)["w"] is None or jnp.issubdtype(dtype, jnp.floating)


def test_infinity_is_the_largest_and_zero_the_smallest():
    w = np.array([[np.inf, 1], [-np.inf, 0.0]])
    assert masks.magnitude(w, density=0.5).mask.tolist() == [[True, False], [True, False]]
    assert masks.magnitude(w, density=0.75).mask.tolist() == [[True, True], [True, False]]
    assert masks.magnitude(w, density=0.5, block=(2, 1)).mask.tolist() == [[True, False]] * 2


# -- random


def test_random_goes_by_seed_path_and_shape():
    """A leaf keeps its mask when others come or go, and needs no values."""
    params = {"a": np.ones((8, 9)), "b": np.ones((8, 9)), "bias": np.ones(3)}
    made = masks.random(params, density=0.5, seed=3)
    assert made == masks.random(jax.eval_shape(lambda: params), density=0.5, seed=3)
    assert made["b"] == masks.random({"b": params["b"]}, density=0.5, seed=3)["b"]
    assert made["a"] != made["b"]
    assert made["a"] != masks.random(params, density=0.5, seed=4)["a"]


@pytest.mark.parametrize("key", [lambda n: n, np.int64, jax.random.key, jax.random.PRNGKey])
def test_random_takes_seeds_and_keys(key):
    make = lambda n: masks.random(np.ones((8, 8)), density=0.5, seed=key(n))
    assert make(1) == make(1) != make(2)


@pytest.mark.parametrize("density", [0.25, 0.5])
def test_random_favours_nobody(density):
    hits = sum(masks.random(np.ones((5, 7)), density=density, seed=s).mask.astype(int) for s in range(400))
    assert (np.abs(hits / 400 - density) < 0.12).all()


# -- channels, N:M


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channels(axis, density):
    w = PARAMS["heads"]
    tesa = masks.channels({"w": w}, density=density, axis=axis)["w"]
    keep = tesa.channel_mask(axis)
    norms = np.linalg.norm(np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1), axis=1)
    assert keep.sum() == round(density * w.shape[axis])
    assert tesa == TeSA.channels(keep, axis, w.shape)
    assert norms[keep].min(initial=np.inf) >= norms[~keep].max(initial=0)


def test_channels_of_a_global_budget():
    params = {"loud": PARAMS["up"][0] * 100, "quiet": PARAMS["up"][0]}
    made = masks.channels(params, density=0.5, axis=1, scope="global")
    assert made["loud"].is_dense
    assert made["quiet"].is_dead


@pytest.mark.parametrize(("n", "m"), [(0, 4), (1, 2), (2, 4), (4, 8), (3, 3)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_nm(n, m, axis):
    w = weights({"w": (24, 48)})["w"]
    tesa = masks.nm({"w": w}, n=n, m=m, axis=axis)["w"]
    assert tesa.is_nm(n, m, axis)
    assert tesa.nnz == w.size * n // m
    sizes = np.moveaxis(np.abs(w), axis, -1).reshape(-1, m)
    kept = np.moveaxis(tesa.mask, axis, -1).reshape(-1, m)
    assert (np.where(kept, sizes, np.inf).min(1) >= np.where(kept, 0, sizes).max(1)).all()


# -- masks that are there already


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("block", [None, (4, 8), (None, 1)], ids=str)
def test_from_zeros_finds_what_was_pruned(block, density):
    w = PARAMS["down"]["kernel"]
    tesa = masks.magnitude(w, density=density, block=block)
    pruned = {"w": w * tesa.mask, "bias": np.zeros(3)}
    assert masks.from_zeros(pruned) == {"w": None if density == 1 else tesa, "bias": None}
    assert masks.from_zeros(pruned, block=block)["w"] == (None if density == 1 else tesa)


def test_from_zeros_knows_zero_only():
    w = np.array([[0.0, -0.0, 1e-45], [np.nan, 1, np.inf]], np.float32)
    assert masks.from_zeros(w).mask.tolist() == [[False, False, True], [True] * 3]
    assert masks.from_zeros(w, block=(1, 2)).mask.tolist() == [[False, False, True], [True] * 3]
    assert masks.from_zeros(w, block=(2, 2)) is None


class SparseState(NamedTuple):
    """As jaxpruner's: an optimizer's state that carries `uint8` masks, None where nothing is pruned."""

    masks: Any
    inner_state: Any = None


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32", "bfloat16"])
def test_from_masks(dtype, density):
    made = masks.random(PARAMS, density=density)
    want = jax.tree.map(lambda t: None if t.is_dense else t, made)
    tree = jax.tree.map(lambda t: jnp.asarray(t.mask).astype(dtype), made)
    assert masks.from_masks(tree) == want
    assert masks.from_masks(SparseState(tree)) == want
    assert masks.from_masks(tree, PARAMS) == want
    partial = {"heads": tree["heads"], "down": {"kernel": tree["down"]["kernel"]}, "up": None}
    found = masks.from_masks(partial, PARAMS)
    assert found == {**want, "up": [None, None]}


# -- bad input

WHOLE = {"kernel": np.ones((4, 6)), "other": np.ones((6, 4)), "bias": np.ones(4)}
NAMED = r"params\['kernel'\]"
REFUSED = {
    "a density above 1": (lambda: masks.magnitude(WHOLE, density=1.5), rf"{NAMED}, .*density 1.5 is outside \[0, 1\]"),
    "a density below 0": (lambda: masks.random(WHOLE, density=-0.1), rf"{NAMED}, .*density -0.1 is outside"),
    "a density that is NaN": (lambda: masks.channels(WHOLE, density=float("nan"), axis=0), rf"{NAMED}, .*nan is outside"),
    "a density that is a word": (lambda: masks.magnitude(WHOLE, density="half"), rf"{NAMED}, .*'half' is no number"),
    "a block of size 0": (
        lambda: masks.magnitude(WHOLE, density=0.5, block=(0, 2)),
        rf"{NAMED}: block \(0, 2\) has a size below 1",
    ),
    "a block of another rank": (
        lambda: masks.magnitude(WHOLE, density=0.5, block=(2, 2), paths="kernel|bias"),
        r"params\['bias'\]: block \(2, 2\) has 2 entries, .*\(4,\) needs 1",
    ),
    "a block of whole axes, of another rank": (
        lambda: masks.random(WHOLE, density=0.5, block=(None,)),
        rf"{NAMED}: block \(None,\) has 1 entries, .*\(4, 6\) needs 2",
    ),
    "a block that is a number": (lambda: masks.random(WHOLE, density=0.5, block=2), rf"{NAMED}: block 2 is not a tuple"),
    "blocks to look for": (lambda: masks.from_zeros(WHOLE, block=(2,)), rf"{NAMED}: block \(2,\)"),
    "a path that is not there": (
        lambda: masks.magnitude(WHOLE, density=0.5, paths="kernal"),
        "'kernal' is found in no.*kernel",
    ),
    "two of them": (
        lambda: masks.nm(WHOLE, n=1, m=2, paths=["q", "kernel", "xs", "["]),
        "(?s)3 mismatches in paths.*'q'.*'xs'",
    ),
    "a scope that is unknown": (
        lambda: masks.random(WHOLE, density=0.5, scope="layer"),
        "scope='layer'.*'tensor', 'global' and 'erk'",
    ),
    "a NaN": (lambda: masks.magnitude({"kernel": np.full((2, 3), np.nan)}, density=0.5), rf"{NAMED}: has 6 NaNs"),
    "a NaN in N:M": (lambda: masks.nm({"kernel": np.full((2, 3), np.nan)}, n=1, m=2), rf"{NAMED}: has 6 NaNs"),
    "no such axis": (lambda: masks.channels(WHOLE, density=0.5, axis=2), rf"(?s)2 mismatches.*{NAMED}: axis 2 is out of range"),
    "no such axis in N:M": (lambda: masks.nm(WHOLE, n=1, m=2, axis=-3), rf"{NAMED}: axis -3 is out of range"),
    "groups that do not divide": (
        lambda: masks.nm(WHOLE, n=1, m=4),
        r"params\['other'\]: 4 does not divide axis 0 of shape \(6, 4\)",
    ),
    "more than there are": (lambda: masks.nm(WHOLE, n=5, m=4), "5:4 sparsity"),
    "groups of nothing": (lambda: masks.nm(WHOLE, n=0, m=0), "0:0 sparsity"),
    "half an element": (lambda: masks.nm(WHOLE, n=0.5, m=2), "0.5:2 sparsity does not exist: it needs integers"),
    "shapes in the place of values": (
        lambda: masks.magnitude(jax.eval_shape(lambda: WHOLE), density=0.5),
        rf"(?s)2 mismatches.*{NAMED}: is a ShapeDtypeStruct",
    ),
    "words in the place of values": (lambda: masks.from_zeros({"kernel": np.array(["a"])}, paths="k"), rf"{NAMED}: has dtype"),
    "keys in the place of values": (
        lambda: masks.from_zeros({"kernel": jax.random.key(0)}, paths="k"),
        rf"{NAMED}: has dtype key",
    ),
    "a seed below 0": (lambda: masks.random(WHOLE, density=0.5, seed=-1), "seed -1 is negative"),
    "a seed that is a word": (lambda: masks.random(WHOLE, density=0.5, seed="now"), "'now' is neither an integer nor"),
    "masks that are no masks": (lambda: masks.from_masks({"w": np.array([0, 1, 2])}), r"masks\['w'\]: .*other than 0 and 1"),
    "a word among the params": (lambda: masks.magnitude({"kernel": "w"}, density=0.5, paths="k"), rf"{NAMED}: has dtype <U1"),
    "TeSAs for masks": (lambda: masks.from_masks({"w": TeSA.dense((2, 2))}), r"masks\['w'\]: has dtype object"),
    "masks of packed bits": (lambda: masks.from_masks(SparseState([np.uint8([255])])), r"masks\[0\]: .*uint8.*bits packed"),
    "masks of another shape": (
        lambda: masks.from_masks({"kernel": np.eye(4, dtype=np.uint8)}, WHOLE),
        rf"{NAMED}: mask has shape \(4, 4\), parameter \(4, 6\)",
    ),
    "masks of another tree": (lambda: masks.from_masks({"kernel": {"w": np.eye(4) > 0}}, WHOLE), r"\['w'\]: there is no such"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_says_what_is_wrong(name):
    act, message = REFUSED[name]
    with pytest.raises(SpartaError, match=message) as error:
        act()
    assert isinstance(error.value, (SpartaValueError, SpartaTypeError))


TRACED = {
    "magnitude": lambda w: masks.magnitude(w, density=0.5),
    "channels": lambda w: masks.channels(w, density=0.5, axis=0),
    "nm": lambda w: masks.nm(w, n=1, m=2),
    "from_zeros": masks.from_zeros,
    "from_masks": masks.from_masks,
    "a seed": lambda w: masks.random(w, density=0.5, seed=jax.random.key(w[0, 0].astype(int))),
}


@pytest.mark.parametrize("maker", TRACED)
def test_what_is_traced_is_refused(maker):
    def program(w):
        with pytest.raises(SpartaTypeError, match="is traced.*outside `jit`"):
            TRACED[maker](w)
        return w

    jax.jit(program)(jnp.ones((4, 4)))


# -- size


def test_a_large_weight_is_stored_by_its_blocks():
    w = np.random.default_rng(0).standard_normal((1024, 1024), np.float32)
    tesa = masks.magnitude(w, density=0.1, block=(32, 32))
    assert tesa.cells.size <= 32 * 32
    grid = tesa.block_mask((32, 32))
    squares = np.square(w.reshape(32, 32, 32, 32)).sum((1, 3), dtype=np.float64)
    assert grid.sum() == round(0.1 * 32 * 32)
    assert squares[grid].min() >= squares[~grid].max() * (1 - 1e-6)
