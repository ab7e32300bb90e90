"""Every score, unit and budget keeps exactly as many units as the density says; ERK's shares are the formula's."""

import jax
import numpy as np
import pytest

from sparta_jax import TeSA, masks
from sparta_jax.errors import SpartaError
from sparta_jax.masks.budgets import erk_counts, erk_densities

DENSITIES = [0.0, 0.05, 0.3, 0.75, 1.0]
SHAPES = {"conv": (3, 3, 4, 16), "fc": (64, 48), "qkv": (32, 48), "tiny": (16, 8)}


def drawn(seed: int):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


PARAMS, OWN = drawn(0), {name: np.abs(array) for name, array in drawn(1).items()}
TIED = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
SCORES = {"magnitude": None, "own": OWN, "tied": TIED, "jax": jax.tree.map(jax.numpy.asarray, OWN)}

last = lambda shape, size: (*(max(n, 1) for n in shape[:-1]), size)
# unit: (the maker, a unit's sizes in a leaf of some shape)
UNITS = {
    "element": (masks.by_score, {}, lambda shape: (1,) * len(shape)),
    "channel": (masks.channels, {"axis": -1}, lambda shape: last(shape, 1)),
    "head": (masks.heads, {"heads": 4}, lambda shape: last(shape, shape[-1] // 4)),
}


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("scope", ["tensor", "global", "erk"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("score", SCORES)
def test_as_many_units_live_as_the_density_says(score, unit, scope, density):
    maker, options, size = UNITS[unit]
    scores = (SCORES[score],) if maker is masks.by_score else ()
    options = options if scores else {**options, "scores": SCORES[score]}
    tesas = maker(PARAMS, *scores, density=density, scope=scope, **options)
    grids = {name: tesa.block_mask(size(tesa.shape)) for name, tesa in tesas.items()}
    live = {name: int(grid.sum()) for name, grid in grids.items()}
    if scope == "tensor":
        assert live == {name: round(density * grid.size) for name, grid in grids.items()}
    assert sum(live.values()) == round(density * sum(g.size for g in grids.values())) or scope == "tensor"
    for name, tesa in tesas.items():
        assert tesa == TeSA.blocks(grids[name], size(tesa.shape), tesa.shape)
        values = np.abs(PARAMS[name]) if SCORES[score] is None else np.asarray(SCORES[score][name])
        if unit == "element":
            assert values[tesa.mask].min(initial=np.inf) >= values[~tesa.mask].max(initial=0)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("score", SCORES)
def test_blocks_layers_and_nm_by_score(score, density):
    scores = SCORES[score]
    matrices = {name: PARAMS[name] for name in ("fc", "qkv", "tiny")}
    given = None if scores is None else {name: scores[name] for name in matrices}
    for name, tesa in masks.by_score(matrices, given, density=density, block=(8, None)).items():
        assert tesa.nnzb((8, tesa.shape[1])) == round(density * (tesa.shape[0] // 8)), name
    whole = masks.layers(PARAMS, density=density, scores=scores)
    assert sum(t.is_dense for t in whole.values()) == round(density * len(PARAMS))
    assert all(t.is_dense or t.is_dead for t in whole.values())
    for tesa in masks.nm(PARAMS, n=1, m=2, axis=-1, scores=scores).values():
        assert tesa.is_nm(1, 2, -1)
        assert tesa.nnz * 2 == np.prod(tesa.shape)


def test_the_scores_decide():
    scores = {"fc": np.zeros((64, 48)), "qkv": np.ones((32, 48))}
    scores["fc"][:, 7] = 2
    made = masks.channels(PARAMS, density=1 / 48, axis=1, paths="fc|qkv", scores=scores)
    assert np.flatnonzero(made["fc"].channel_mask(1)).tolist() == [7]
    assert np.flatnonzero(made["qkv"].channel_mask(1)).tolist() == [0]  # of equal ones the first
    assert masks.layers(PARAMS, density=0.5, paths="fc|qkv", scores=scores)["fc"].is_dead
    shapes = jax.eval_shape(lambda: PARAMS)
    assert masks.by_score(shapes, OWN, density=0.1) == masks.by_score(PARAMS, OWN, density=0.1)


# -- ERK

NETWORKS = {
    "lenet": ([(784, 300), (300, 100), (100, 10)], 0.05),
    "digits": ([(64, 300), (300, 100), (100, 10)], 0.05),
    "convolutions": ([(3, 3, 3, 64), (3, 3, 64, 64), (3, 3, 64, 128), (1, 1, 128, 256), (256, 10)], 0.1),
    "one": ([(64, 64)], 0.3),
    "nothing": ([(8, 9), (10, 11)], 0.0),
    "everything": ([(8, 9), (10, 11)], 1.0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_erk_is_the_formula(name):
    """`density = scale * sum(shape) / prod(shape)` for one scale, where that is not above 1; the average is what was asked."""
    shapes, density = NETWORKS[name]
    sizes = [int(np.prod(s)) for s in shapes]
    found = np.array(erk_densities(shapes, sizes, density))
    raw = np.array([sum(s) / np.prod(s) for s in shapes])
    below = found < 1
    assert np.isclose((found * sizes).sum(), density * sum(sizes))
    assert np.ptp((found / raw)[below], axis=0) <= 1e-9 if below.any() else density == 1
    if below.any() and not below.all():
        assert raw[~below].min() * (found / raw)[below].min() >= 1 - 1e-9
    counts = np.array(erk_counts(shapes, sizes, density))
    assert counts.sum() == round(density * sum(sizes))
    assert (np.abs(counts - found * sizes) < 1).all()


def test_erk_of_lenet_by_hand():
    """LeNet-300-100 at 95 %: 266,200 weights, 1,594 rows and columns."""
    scale = 0.05 * 266200 / 1594
    want = [scale * 1084 / 235200, scale * 400 / 30000, scale * 110 / 1000]
    assert np.allclose(erk_densities(NETWORKS["lenet"][0], [235200, 30000, 1000], 0.05), want)


NAMED = r"params\['fc'\]"
REFUSED = {
    "a score that is missing": (
        lambda: masks.by_score(PARAMS, {"fc": OWN["fc"]}, density=0.5),
        r"(?s)3 mismatches.*\['conv'\]: has no score",
    ),
    "a score of another shape": (
        lambda: masks.by_score(PARAMS, {**OWN, "fc": np.ones((3, 4)), "tiny": np.ones(2)}, density=0.5),
        rf"(?s)2 mismatches.*{NAMED}: its score has shape \(3, 4\), the parameter \(64, 48\)",
    ),
    "a score of nothing": (lambda: masks.by_score(PARAMS, {**OWN, "x": 1}, density=0.5), r"scores\['x'\]: there is no such"),
    "a negative score": (lambda: masks.by_score(PARAMS, PARAMS, density=0.5), rf"(?s){NAMED}: its score has negative"),
    "a score that is NaN": (lambda: masks.nm(PARAMS, n=1, m=2, scores={**OWN, "fc": OWN["fc"] * np.nan}), rf"{NAMED}.*NaN"),
    "heads that do not divide": (
        lambda: masks.heads(PARAMS, density=0.5, heads=5),
        rf"(?s)4 mismatches.*{NAMED}: axis 1 .*5 equal",
    ),
    "half a head": (lambda: masks.heads(PARAMS, density=0.5, heads=0.5), "heads=0.5 is no integer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_says_what_is_wrong(name):
    act, message = REFUSED[name]
    with pytest.raises(SpartaError, match=message):
        act()
