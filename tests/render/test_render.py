import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import sparta_jax as sj
from sparta_jax import pruning, render
from sparta_jax.errors import SpartaTypeError, SpartaValueError
from sparta_jax.render.masks_picture import shares

mpl.use("Agg")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def mlp(p, x):
    for i in range(2):
        x = x + np.tanh(1.0) * (x @ p[f"up{i}"] + p[f"bias{i}"]) @ p[f"down{i}"]
    return x


SHAPES = dict(up=(32, 64), bias=(64,), down=(64, 32))
PARAMS = {f"{n}{i}": RNG.normal(size=s).astype("float32") for i in range(2) for n, s in SHAPES.items()}
TESA = {"up0": sj.TeSA.channels(np.arange(64) % 2 == 0, 1, (32, 64)), "down1": sj.TeSA(RNG.random((64, 32)) < 0.3)}
X = RNG.normal(size=(4, 32)).astype("float32")


@pytest.mark.parametrize("shape", [(7,), (5, 9), (300, 517), (3, 3, 40, 20)])
@pytest.mark.parametrize("pixels", [4, 256])
def test_shades_are_shares(shape, pixels):
    mask = RNG.random(shape) < 0.3
    image = shares(sj.TeSA(mask), pixels)
    rows, columns = (1, *shape)[-2:]
    assert image.shape == (min(rows, pixels), min(columns, pixels))
    flat = mask.reshape(-1, rows, columns).mean(0)
    edges = [np.linspace(0, n, min(n, pixels) + 1) for n in (rows, columns)]
    sums = np.pad(flat.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    at = lambda rows, columns: bilinear(sums, rows, columns)
    area = np.diff(edges[0])[:, None] * np.diff(edges[1])[None]
    corners = at(edges[0], edges[1])
    np.testing.assert_allclose(image * area, np.diff(np.diff(corners, axis=0), axis=1), atol=1e-9)
    assert image.mean() == pytest.approx(mask.mean())


def bilinear(values, rows, columns):
    """`values` between its entries, which the integral of a step function is."""
    by_row = np.stack([np.interp(rows, np.arange(len(values)), c) for c in values.T], 1)
    return np.stack([np.interp(columns, np.arange(values.shape[1]), r) for r in by_row])


def test_masks_draws_every_tesa():
    figure = render.masks({"a": TESA, "b": None})
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["a/down1", "a/up0"]


def test_densities_tells_given_and_propagated():
    ax = render.densities(sj.propagate(mlp, TESA)(PARAMS, X))
    names = [label.get_text() for label in ax.get_yticklabels()]
    given, left = (collection.get_offsets() for collection in ax.collections[1:3])
    row = names.index("p['up0']")
    assert given[row][0] == left[row][0] == pytest.approx(0.5)
    assert (left[:, 0] <= given[:, 0]).all()


def test_sites_draws_two_bars_per_product():
    report = sj.sparsify(mlp, TESA).report(PARAMS, X)
    figure = render.sites(report)
    time, size = figure.axes
    assert len(time.patches) == len(size.patches) == 2 * len(report.sites)
    assert time.patches[0].get_width() == pytest.approx(report.sites[0].dense_seconds * 1e3)


@pytest.mark.parametrize("details", [False, True])
def test_graph_shows_params_products_and_outputs(details):
    found = sj.propagate(mlp, TESA)(PARAMS, X)
    ax = render.graph(found, details=details, groups={"p['up0']": 0, "p['down0']": [0, 1]})
    assert len(dots(ax)) == 3
    texts = [t.get_text() for t in ax.texts]
    for name in ("p['up0']", "dot_general:3", "output"):
        assert any(t.startswith(name) for t in texts)
    assert ("add:0" in "".join(texts)) == details


def dots(ax):
    return [tuple(dot.get_facecolor()[0]) for dot in ax.collections]


def test_graph_finds_the_dependency_groups():
    """Each hidden layer is one; the residual stream begins and ends with data and output, and is none."""
    found = sj.propagate(mlp, TESA)(PARAMS, X)
    groups = {f"p['{name}{i}']": (i,) for i in range(2) for name in SHAPES}
    assert found.groups == groups
    ours = [str(s.name) for group in pruning.groups(mlp, PARAMS, X) for s in group.slices]
    assert sorted(name.replace("params", "p") for name in ours) == sorted(groups)
    assert len(dots(render.graph(found))) == len(groups)
    assert len(set(dots(render.graph(found)))) == 2
    assert not dots(render.graph(found, groups={}))


def test_flow_reads_what_comes_before():
    found = sj.propagate(mlp, TESA)(PARAMS, X)
    seen = set()
    for fact, read in found.flow():
        assert seen.issuperset(read)
        seen.add(fact.name)
    assert len(seen) == len(found.inputs) + len(found.intermediates) + len(found.outputs)


def test_errors():
    with pytest.raises(SpartaTypeError, match="draws a TeSA"):
        render.spy(np.eye(3))
    with pytest.raises(SpartaValueError, match="no TeSA"):
        render.masks({"a": None})
    with pytest.raises(SpartaValueError, match="no picture"):
        render.spy(sj.TeSA(np.ones((0, 3), bool)))
    with pytest.raises(AttributeError, match="pie"):
        render.pie  # noqa: B018
