import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, Rectangle
from render.programs import PARAMS, SHAPES, TESA, X, mlp

import sparta_jax as sj
from sparta_jax import pruning, render
from sparta_jax.render.look import LIVE


@pytest.mark.parametrize("details", [False, True])
def test_graph_shows_params_products_and_outputs(details):
    found = sj.propagate(mlp, TESA)(PARAMS, X)
    ax = render.graph(found, details=details, groups={"p['up0']": 0, "p['down0']": [0, 1]})
    assert len(dots(ax)) == 3
    texts = [t.get_text() for t in ax.texts]
    for name in ("p['up0']", "dot_general:3", "output"):
        assert any(t.startswith(name) for t in texts)
    assert ("add:0" in "".join(texts)) == details  # of a bias
    assert "add:1" in "".join(texts)  # of the residual stream


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


def test_graph_greys_what_is_dead():
    with pytest.warns(sj.SpartaWarning, match="collapse"):
        found = sj.propagate(mlp, {"up0": sj.TeSA.dead((32, 64))})(PARAMS, X)
    ax = render.graph(found)
    grey = {i for i, box in enumerate(boxes(ax)) if box.get_facecolor()[3] > 0}
    names = [text.get_text().partition("\n")[0] for text in ax.texts]
    assert {names[i] for i in grey} == {"p['up0']", "dot_general:0"}
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    live = sum(bar.get_width() for bar in bars if bar.get_facecolor() == to_rgba(LIVE))
    assert live == pytest.approx(sum(found[name].density for name in names) * boxes(ax)[0].get_width())


def boxes(ax):
    return [
        patch
        for patch in ax.patches
        if isinstance(patch, Rectangle) and patch.get_linewidth() == 0.8 and patch.get_edgecolor()[3]
    ]


@pytest.mark.parametrize("details", [False, True])
def test_graph_leaves_boxes_free(details):
    """No two boxes overlap, and no line passes a box."""
    ax = render.graph(sj.propagate(mlp, TESA)(PARAMS, X), details=details)
    places = [box.get_bbox() for box in boxes(ax)]
    for i, box in enumerate(places):
        assert not any(box.overlaps(other) for other in places[:i])
    lines = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(lines) >= len(places) - 5
    for line in lines:
        ((points,),) = (line._path_original.to_polygons(closed_only=False),)
        inside = [box.padded(-1e-6).count_contains(points) for box in places]
        assert not any(inside)


def test_flow_reads_what_comes_before():
    found = sj.propagate(mlp, TESA)(PARAMS, X)
    seen = set()
    for fact, read in found.flow():
        assert seen.issuperset(read)
        seen.add(fact.name)
    assert len(seen) == len(found.inputs) + len(found.intermediates) + len(found.outputs)
