"""`python -m benchmarks.mobilenet`: how sparse MobileNetV1 is, once what random dead filters imply is propagated."""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sparta_jax as sj
from sparta_jax.interpreters import LIVE

from .machine import ROOT, describe
from .mobilenet_model import MobileNet
from .mobilenet_results import Point, Study, dump

DENSITIES = tuple(d / 10 for d in range(1, 11))


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    points = []
    for density in args.density:
        for biases in (True, False):
            for seed in range(args.seeds):
                points.append(measured(MobileNet(), density, seed, biases))
                print(points[-1].summary, flush=True)
    study = Study(describe(), shlex.join(["python", "-m", "benchmarks.mobilenet", *(argv or sys.argv[1:])]), tuple(points))
    if args.json:
        dump(study, args.json)


def measured(model: MobileNet, density: float, seed: int, biases: bool) -> Point:
    """The shares of the convolutions' weights at one density and seed."""
    masks = model.masks(density, seed, biases)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sj.SpartaWarning)
        found = sj.propagate(model.apply, masks)(model.params, model.image)
    given = {name: masks[name]["kernel"].density for name in model.kernels}
    live = {name: found.tesa[name]["kernel"].density for name in model.kernels}
    unfolded = not_folded(model, found)
    sizes = {name: int(np.prod(shape)) for name, shape in model.kernels.items()}
    share = lambda densities: sum(densities[name] * size for name, size in sizes.items()) / sum(sizes.values())
    return Point(
        density=density,
        seed=seed,
        biases=biases,
        given=share(given),
        live=share(live),
        unfolded=share(unfolded),
        live_per_layer=statistics.mean(live.values()),
        unfolded_per_layer=statistics.mean(unfolded.values()),
        flops=work_left(model, masks) if seed == 0 else None,
        collapses=tuple(str(finding).replace(f"{ROOT}/", "") for finding in found.warnings if finding.kind == "collapse"),
    )


def work_left(model: MobileNet, masks: Any) -> float:
    """The share of the dense model's work in products that compaction leaves."""
    compaction = sj.sparsify(model.apply, masks).report(model.params, model.image).compaction
    return compaction.flops / model.flops if compaction else 1.0


def not_folded(model: MobileNet, found: Any) -> dict[str, float]:
    """By convolution: the share of its weights that are live and meet a channel which depends on the data."""
    facts = {fact.atom: fact for fact in (*found.inputs, *found.intermediates)}
    convolutions = [fact.equation for fact in found.intermediates if fact.equation.name == "conv_general_dilated"]
    shares = {}
    for name, equation in zip(model.kernels, convolutions, strict=True):
        x = facts[equation.inputs[0]]
        varies = x.value.value.map(lambda cells: cells == LIVE).reduce([0, 1, 2]).elements()
        shares[name] = float((found.tesa[name]["kernel"].mask & _by_filter(varies, model.kernels[name])).mean())
    return shares


def _by_filter(varies: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`bool[channels]` beside a kernel of this shape: along its channels, or, where it is depthwise, along its filters."""
    return varies[:, None] if shape[2] == len(varies) else varies


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mobilenet", description=__doc__)
    parser.add_argument(
        "--density", type=float, nargs="+", default=DENSITIES, help="shares of live filters (default: 0.1 to 1)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="masks per density (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
