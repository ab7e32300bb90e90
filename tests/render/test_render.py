import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from render.programs import PARAMS, RNG, TESA, X, mlp

import sparta_jax as sj
from sparta_jax import render
from sparta_jax.errors import SpartaTypeError, SpartaValueError
from sparta_jax.render.masks_picture import shares


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


def test_a_shade_says_what_it_stands_for():
    label = lambda tesa, pixels: render.spy(tesa, pixels=pixels).get_xlabel()
    tesa = sj.TeSA.channels(np.arange(64) < 16, 0, (64, 96))
    assert label(tesa, 96) == "64x96, 25.0% live"
    assert label(tesa, 32) == "64x96, 25.0% live\nshade: share of 2x3 elements"
    assert label(sj.TeSA.dense((3, 3, 8, 4)), 32).endswith("share of 3x3x1x1 elements")


def test_a_picture_averages_where_the_screen_is_coarser():
    """Single live columns stay visible: no pixel of the tensor falls between two of the figure."""
    axes = render.spy(sj.TeSA.channels(np.arange(1024) % 16 == 3, 1, (8, 1024)), pixels=1024)
    shown = drawn(axes.figure)[..., :3]
    box = axes.get_window_extent()
    row = shown[shown.shape[0] - round((box.y0 + box.y1) / 2), round(box.x0) + 2 : round(box.x1) - 2]
    blue = row[:, 2] - row[:, 0] > 0.02
    assert np.diff(np.flatnonzero(np.diff(blue.astype(int)) == 1)).max() <= 16 * len(row) / 1024 + 2


def test_edges_are_sharp():
    """Where an element is larger than a pixel of the screen, at most two of those lie between two shades."""
    axes = render.spy(sj.TeSA.channels(np.arange(10) % 2 == 0, 1, (128, 10)))
    shown, box = drawn(axes.figure), axes.get_window_extent()
    middle = shown.shape[0] - round((box.y0 + box.y1) / 2)
    blue = shown[middle - 20 : middle + 20, round(box.x0) + 2 : round(box.x1) - 2]
    blue = (blue[..., 2] - blue[..., 0]) / (blue[..., 2] - blue[..., 0]).max()
    between = (blue > 0.1) & (blue < 0.9)
    assert (between.sum(1) <= 2 * 9).all()


def drawn(figure):
    """`[rows, columns, rgba]` between 0 and 1, on white."""
    figure.set_facecolor("white")
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()) / 255


def test_densities_tells_given_and_propagated():
    ax = render.densities(sj.propagate(mlp, TESA)(PARAMS, X))
    names = [label.get_text() for label in ax.get_yticklabels()]
    given, left = (collection.get_offsets() for collection in ax.collections[1:3])
    row = names.index("p['up0']")
    assert given[row][0] == left[row][0] == pytest.approx(0.5)
    assert (left[:, 0] <= given[:, 0]).all()


def test_densities_of_a_dense_program():
    axes = render.densities(sj.propagate(mlp, None)(PARAMS, X))
    assert [t.get_text() for t in axes.texts] == ["every element is live"]


def stacked(p, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(jnp.einsum("gik,gkn->gin", x, w)), None), x, p)[0]


def test_sites_draws_two_bars_per_product():
    """A product that is computed for each of a batch of weights, in every iteration, counts as often."""
    tesa = sj.TeSA(np.broadcast_to(RNG.random((2, 64, 64)) < 0.1, (3, 2, 64, 64)))
    structs = jax.ShapeDtypeStruct((3, 2, 64, 64), "float32"), jax.ShapeDtypeStruct((2, 512, 64), "float32")
    report = sj.sparsify(stacked, tesa, implementation="xla", unroll=0).report(*structs)
    (site,) = report.sites
    assert site.batch * site.times == 6
    time, size = render.sites(report).axes
    dense, chosen = (patch.get_width() for patch in time.patches)
    unit = {"ms": 1e-3, "µs": 1e-6}[time.get_xlabel().partition(",")[0]]
    assert (dense * unit, chosen * unit) == pytest.approx((report.totals["dense_seconds"], report.totals["seconds"]))
    assert [p.get_width() * 1e3 for p in size.patches] == pytest.approx([site.dense_bytes, site.bytes])
    assert site.dense_bytes == report.totals["dense_bytes"] == 2 * 64 * 64 * 4
    assert "6 times" in time.get_yticklabels()[0].get_text()


UNITS = {3.0: "s, modelled", 2e-3: "ms, modelled", 4e-5: "µs, modelled", 1e-8: "µs, modelled"}


@pytest.mark.parametrize("seconds", UNITS)
def test_times_have_their_unit_and_source(seconds):
    report = sj.sparsify(mlp, TESA).report(PARAMS, X)
    site = dataclasses.replace(report.sites[0], seconds=seconds / 2, dense_seconds=seconds)
    label = lambda *sites: render.sites(dataclasses.replace(report, sites=sites)).axes[0].get_xlabel()
    assert label(site) == UNITS[seconds]
    assert label(dataclasses.replace(site, measured=True)).endswith(", measured")
    assert label(site, dataclasses.replace(site, measured=True)).endswith(", modelled (1 of 2 measured)")


def test_sites_of_a_dense_program():
    time, _ = render.sites(sj.sparsify(mlp, None).report(PARAMS, X)).axes
    assert [t.get_text() for t in time.texts] == ["no product has a sparse weight"]


def test_errors():
    with pytest.raises(SpartaTypeError, match="draws a TeSA"):
        render.spy(np.eye(3))
    with pytest.raises(SpartaValueError, match="no TeSA"):
        render.masks({"a": None})
    with pytest.raises(SpartaValueError, match="no picture"):
        render.spy(sj.TeSA(np.ones((0, 3), bool)))
    with pytest.raises(AttributeError, match="pie"):
        render.pie  # noqa: B018
