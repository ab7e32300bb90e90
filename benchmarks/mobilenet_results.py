"""What MobileNetV1's filters imply: records, their JSON, and `docs/mobilenet.md` with its plot, made by running this module."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .machine import ROOT, Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = ROOT / "benchmarks" / "results" / "mobilenet" / "mobilenet.json"
PAGE = ROOT / "docs" / "mobilenet.md"
PLOT = ROOT / "docs" / "mobilenet.svg"
PUBLISHED = 0.823  # SparTA (OSDI'22), independent masks of half the filters
VARIANTS = {True: "filters and their biases", False: "filters alone"}

INTRODUCTION = """\
# MobileNetV1: what dead filters imply

This page is made by `python -m benchmarks.mobilenet_results` from `benchmarks/results/mobilenet/`; `make mobilenet` finds the
numbers again. Nothing is run and nothing is timed: the model is propagated at abstract shapes.

Every convolution, depthwise or pointwise, loses filters at random, independently of its neighbours. A filter whose result is
not read, or which reads nothing but zeros, is dead too, and so on from layer to layer. Behind every convolution stand the scale
and the bias of a batch norm as it is in inference, and relu6.

- **Filters and their biases**: a dead filter's bias is masked with it, so its channel is zero, and the weights that read it
  are dead. A live filter that reads zeros alone keeps its bias: its channel is a constant.
- **Filters alone**: every dead filter leaves a constant, relu6 of its bias. The weights that read it count for the result, so
  none of them is dead; but what they add is a constant, which compaction folds into a bias or, beside zero padding, a map.

*Dead or folded* counts both: the weights that meet no data any more. They are the same for both variants, and so is the work
that is left: multiplications and additions after compaction, as a share of the dense model's.
"""


@dataclasses.dataclass(frozen=True)
class Point:
    """One drawing of masks.

    Attributes:
      density: the share of filters that are live.
      seed: of the drawing.
      biases: whether a dead filter's bias is masked too.
      given, live, unfolded: shares of all weights of convolutions: as masked; live after propagation; live and read by data,
        not by constants alone.
      live_per_layer, unfolded_per_layer: the last two, as means over the layers.
      flops: the share of the dense model's work in products that compaction leaves; None where it was not asked.
      collapses: the warnings.
    """

    density: float
    seed: int
    biases: bool
    given: float
    live: float
    unfolded: float
    live_per_layer: float
    unfolded_per_layer: float
    flops: float | None
    collapses: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line."""
        return (
            f"{self.density:g} of {VARIANTS[self.biases]}, seed {self.seed}: {self.given:.1%} of weights given as live, "
            f"{self.live:.1%} live, {self.unfolded:.1%} not folded, {len(self.collapses)} collapses"
        )


@dataclasses.dataclass(frozen=True)
class Study:
    """One call of the command."""

    machine: Machine
    command: str
    points: tuple[Point, ...]

    def at(self, density: float, biases: bool) -> list[Point]:
        """One variant's drawings at a density."""
        return [p for p in self.points if p.density == density and p.biases == biases]

    @property
    def densities(self) -> list[float]:
        return sorted({p.density for p in self.points})


def dump(study: Study, path: Path) -> None:
    """Writes a study as JSON, one drawing a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"machine": dataclasses.asdict(study.machine), "command": study.command}
    lines = ",\n".join(json.dumps(dataclasses.asdict(point)) for point in study.points)
    path.write_text(f'{json.dumps(head)[:-1]}, "points": [\n{lines}\n]}}\n')


def load(path: Path = FILE) -> Study:
    """The study in a file that `dump` wrote."""
    tree = json.loads(path.read_text())
    points = tuple(Point(**{**p, "collapses": tuple(p["collapses"])}) for p in tree["points"])
    return Study(Machine(**tree["machine"]), tree["command"], points)


def page(study: Study) -> str:
    """The whole page, as Markdown."""
    facts = {
        "Software": f"jax {study.machine.jax}, commit {study.machine.commit}",
        "Model": "MobileNetV1 at width 1.0, 224x224 images, 27 convolutions; the classes' weight is neither masked nor counted",
        "Command": f"`{study.command}`",
        "Data": f"`{FILE.relative_to(ROOT)}`",
    }
    sections = [
        INTRODUCTION,
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()) + "\n",
        "## Half of the filters\n",
        "Sparsity: the share of weights that are not live, mean over the drawings (least to most).\n"
        f"SparTA (OSDI'22) published {PUBLISHED:.1%} for this experiment.\n",
        half(study) + "\n",
        "## From a tenth of the filters to all\n",
        f"![live share of weights over live share of filters]({PLOT.name})\n",
        curve(study) + "\n",
        "## A tenth of the filters: collapse\n",
        "With few live filters, no channel of a narrow layer has both its filters live, and what comes out is a constant.\n"
        "The warning names the place, what died of it, and what to keep. Of the first drawing:\n",
        *(collapse(study, biases) for biases in VARIANTS),
    ]
    return "\n".join(sections)


def half(study: Study) -> str:
    """One row per variant, at density 0.5."""
    head = [
        "masked",
        "given",
        "dead",
        "dead, mean over layers",
        "dead or folded",
        "dead or folded, mean over layers",
        "work left",
    ]
    fields = ["given", "live", "live_per_layer", "unfolded", "unfolded_per_layer"]
    rows = []
    for biases, name in VARIANTS.items():
        points = study.at(0.5, biases)
        rows.append([name, *(_zeros([getattr(p, field) for p in points]) for field in fields), _work(points)])
    rows.append(["SparTA, published", "", f"{PUBLISHED:.1%}", *[""] * 4])
    return _table(head, rows)


def curve(study: Study) -> str:
    """One row per density: live shares of weights, means over the drawings."""
    head = [
        "live filters",
        "live weights as masked",
        *(f"propagated: {v}" for v in VARIANTS.values()),
        "not folded",
        "work left",
    ]
    rows = []
    for density in study.densities:
        both = [study.at(density, biases) for biases in VARIANTS]
        shares = [_mean(both[0], "given"), *(_mean(points, "live") for points in both), _mean(both[0], "unfolded")]
        rows.append([f"{density:g}", *(f"{share:.1%}" for share in shares), _work(both[0])])
    return _table(head, rows)


def collapse(study: Study, biases: bool) -> str:
    """A variant's warnings at the least density."""
    points = study.at(study.densities[0], biases)
    count = sum(bool(p.collapses) for p in points)
    lines = "\n".join(points[0].collapses) or "(none)"
    return f"{VARIANTS[biases].capitalize()}; {count} of {len(points)} drawings collapse:\n\n```\n{lines}\n```\n"


def plot(study: Study, path: Path = PLOT) -> None:
    """The curve, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "mobilenet", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6, 4), layout="constrained")
        _draw(study, figure.subplots())
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw(study: Study, axes: Axes) -> None:
    series = {
        "as masked": (True, "given"),
        "propagated, filters alone": (False, "live"),
        "propagated, filters and biases": (True, "live"),
        "constants folded": (True, "unfolded"),
    }
    for label, (biases, field) in series.items():
        axes.plot(study.densities, [_mean(study.at(d, biases), field) for d in study.densities], marker=".", label=label)
    axes.plot([0.5], [1 - PUBLISHED], "k*", label="SparTA, published")
    axes.set(xlabel="live share of every convolution's filters", ylabel="live share of the convolutions' weights")
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axes.legend()


def _mean(points: Sequence[Point], field: str) -> float:
    return statistics.mean(getattr(p, field) for p in points)


def _zeros(live: Sequence[float]) -> str:
    """The mean share of zeros, and its range."""
    zeros = [1 - share for share in live]
    return f"{statistics.mean(zeros):.1%} ({min(zeros):.1%} to {max(zeros):.1%})"


def _work(points: Sequence[Point]) -> str:
    return ", ".join(f"{p.flops:.1%}" for p in points if p.flops is not None)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    study = load()
    PAGE.write_text(page(study))
    plot(study)
    print(f"{PAGE.relative_to(ROOT)}: {len(study.points)} drawings")


if __name__ == "__main__":
    main()
