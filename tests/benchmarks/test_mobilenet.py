import math

import jax
import numpy as np
import pytest

from benchmarks.machine import Machine
from benchmarks.mobilenet import measured
from benchmarks.mobilenet_model import MobileNet
from benchmarks.mobilenet_results import PAGE, PLOT, Study, dump, load, page, plot

SMALL = MobileNet(stem=8, blocks=((16, 1), (16, 2)), classes=5, size=16)


def test_the_sizes_are_the_papers():
    model = MobileNet()
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(model.params)) == 4_231_976
    assert model.flops == 2 * 568_740_352  # the paper: 569 million multiply-adds
    assert jax.eval_shape(model.apply, model.params, model.image).shape == (1, 1000)


@pytest.mark.parametrize("density", [0.0, 0.3, 0.5, 1.0])
def test_shares_of_weights(density):
    with_biases, alone = measured(SMALL, density, 0, biases=True), measured(SMALL, density, 0, biases=False)
    assert with_biases.given == alone.given == pytest.approx(density, abs=0.15)
    assert with_biases.unfolded <= with_biases.live <= alone.live <= alone.given
    assert with_biases.unfolded == alone.unfolded
    assert with_biases.flops == alone.flops <= 1
    if density == 1.0:
        assert with_biases.unfolded == with_biases.flops == 1


def test_live_weights_are_those_between_live_channels():
    """By hand: a depthwise filter passes data on iff it is live and its own channel carries any."""
    masks = SMALL.masks(0.5, seed=3, biases=False)
    filters = {name: masks[name]["kernel"].channel_mask(-1) for name in SMALL.kernels}
    names, layers = list(filters), list(SMALL.kernels.values())
    reads = [np.ones(3, bool)]
    for name, shape in zip(names, layers, strict=True):
        reads.append(filters[name] & (reads[-1] if shape[2] == 1 else reads[-1].any()))
    needed = [np.ones(16, bool)]
    for name, shape in zip(reversed(names), reversed(layers), strict=True):
        needed.insert(0, filters[name] & needed[0] if shape[2] == 1 else np.full(shape[2], (filters[name] & needed[0]).any()))
    live = 0
    for i, (name, shape) in enumerate(zip(names, layers, strict=True)):
        out = filters[name] & needed[i + 1]
        pairs = (out & reads[i]).sum() if shape[2] == 1 else out.sum() * reads[i].sum()
        live += shape[0] * shape[1] * pairs
    found = measured(SMALL, 0.5, 3, biases=False)
    assert found.unfolded == pytest.approx(live / sum(math.prod(shape) for shape in layers))


def test_a_study_survives_its_file_and_is_drawn(tmp_path):
    points = tuple(measured(SMALL, density, 0, biases) for density in (0.1, 0.5) for biases in (True, False))
    assert points[0].collapses
    study = Study(
        Machine("Some CPU", "cpu", "", 2, 2, "0.10.2", "3.11.7", "0123456789"), "python -m benchmarks.mobilenet", points
    )
    dump(study, tmp_path / "study.json")
    assert load(tmp_path / "study.json") == study
    assert points[0].collapses[0] in page(study)
    plot(study, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_the_page_is_what_the_results_say():
    study = load()
    assert PAGE.read_text() == page(study), "run `python -m benchmarks.mobilenet_results`"
    assert PLOT.exists()
    assert study.machine.commit
    assert "+" not in study.machine.commit
