import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from render.programs import PARAMS, TESA, X, mlp

import sparta_jax as sj
from sparta_jax import render

DRAWN = {
    "masks": lambda: render.masks(TESA | {"a/long/path/of/modules/encoder/layer_0/kernel": sj.TeSA.dense((8, 8))}),
    "densities": lambda: render.densities(sj.propagate(mlp, TESA)(PARAMS, X)).figure,
    "graph": lambda: render.graph(sj.propagate(mlp, TESA)(PARAMS, X)).figure,
    "sites": lambda: render.sites(sj.sparsify(mlp, TESA).report(PARAMS, X)),
}


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", DRAWN)
def test_words_are_read_on_any_paper(name, style):
    """Words stand out from white and from black, in any style, lie within the figure, and do not cover one another."""
    with plt.style.context(style):
        figure = DRAWN[name]()
        figure.canvas.draw()
    page = figure.bbox.padded(1)
    words = [text for axes in figure.axes for text in words_of(axes) if text.get_text() and text.get_visible()]
    assert words
    for i, text in enumerate(words):
        luminance = linear(np.array(to_rgba(text.get_color())[:3])) @ (0.2126, 0.7152, 0.0722)
        assert 1.05 / (luminance + 0.05) > 3.5
        assert (luminance + 0.05) / 0.05 > 3.5
        box = text.get_window_extent()
        assert page.fully_containsx(box.x0), text
        assert page.fully_containsx(box.x1), text
        assert page.fully_containsy(box.y0), text
        assert page.fully_containsy(box.y1), text
        for other in words[:i]:
            assert not box.padded(-1).overlaps(other.get_window_extent()), (text, other)
    assert figure.get_facecolor()[3] == 0


def words_of(axes):
    """Those that are seen: Matplotlib keeps labels of ticks that lie outside."""
    yield from axes.texts
    yield from axes.get_legend().get_texts() if axes.get_legend() else ()
    if axes.axison:
        yield from (axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label)
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False)  # shared axes have labels once
            yield from (label for at, label in ticks if min(limits) <= at <= max(limits))


def linear(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
