"""What a GPU run found becomes tables: of the page, of the bars, and of the cost model."""

import dataclasses
import json

import pytest
from kernels.gpu_tables import table_by

from benchmarks import gpu, gpu_bars, gpu_page, gpu_results, gpu_table
from benchmarks.gpu_cases import Case, grid, square
from benchmarks.gpu_contenders import LIBRARY, problem, ways
from benchmarks.gpu_dry import H200
from benchmarks.machine import Machine
from sparta_jax.specialize import Chooser

NOWHERE = Machine("NVIDIA H200", "gpu", "", 16, 16, "0.11.2", "3.12", "made up")
BLOCK = (64, 64)


def entry(case: Case, seconds: float, **others: float) -> gpu_results.Entry:
    """Of numbers that nobody measured: dense takes a second."""
    names = {"dense": 1.0, "mosaic dense #0": seconds, **{name.replace("_", " "): s for name, s in others.items()}}
    return gpu_results.Entry(case, names, {}, {}, {}, "dense")


def configured(e: gpu_results.Entry) -> gpu_results.Entry:
    """With the configs that the contenders would have."""
    return dataclasses.replace(e, configs={name: way.config for name, way in ways(e.case, H200, 1)[0].items()})


def run(*entries: gpu_results.Entry, **facts) -> gpu_results.Run:
    return gpu_results.Run(NOWHERE, "python -m benchmarks.gpu", 132, 5e12, entries=list(entries), **facts)


def squares(times, densities=(0.1, 0.15, 0.25), **facts) -> list[gpu_results.Entry]:
    return [entry(square(4096, BLOCK, d, **facts), t) for d, t in zip(densities, times, strict=True)]


@pytest.mark.parametrize(
    ("times", "density"),
    [([0.2, 0.6, 1.4], 0.2), ([0.2, 0.4, 0.8], 0.3), ([1.2, 1.3, 1.4], 0.0), ([0.5, 0.5, 0.5], 1.0)],
)
def test_break_even_lies_where_the_times_meet(times, density):
    assert gpu_results.break_even(squares(times)) == {("forward", "bfloat16", "64x64"): pytest.approx(density)}


def test_results_are_read_back_and_become_a_section(tmp_path):
    made = run(*squares([0.2, 0.6, 1.4]))
    gpu_results.dump(made, tmp_path / "gpu.json")
    assert gpu_results.load(tmp_path / "gpu.json") == made
    page = gpu_page.section(tmp_path / "gpu.json", made)
    for told in ("5.00x", "5.00 TB/s", "### Bars", "forward 64x64 bfloat16: 0.20"):
        assert told in page


@pytest.mark.parametrize(("seconds", "met"), [(0.1, "yes"), (0.3, "no"), (None, "not measured")])
def test_a_bar_is_met_or_not(seconds, met):
    found = [] if seconds is None else [entry(square(4096, BLOCK, 0.1), seconds)]
    bar = next(b for b in gpu_bars.bars(found) if b.name == "times dense, 4096^3, 64x64, density 0.1")
    assert (bar.met, bar.measured) == (met, None if seconds is None else 1 / seconds)
    assert f"| {bar.name} | 4 |" in gpu_bars.table(found)


def test_the_gradients_are_held_to_the_forward_product():
    cases = [square(4096, BLOCK, 0.1, what=what) for what in ("forward", "dx", "dw")]
    found = [entry(case, t) for case, t in zip(cases, (0.1, 0.11, 0.2), strict=True)]
    shares = {b.name.split()[0]: b for b in gpu_bars.bars(found) if "as forward, 4096^3, 64x64" in b.name}
    assert (shares["dx"].met, shares["dw"].met) == ("yes", "no")
    assert shares["dx"].measured == pytest.approx(1 / 1.1)


def test_the_worst_case_counts_for_the_choice_and_for_torch():
    found = [
        entry(square(4096, BLOCK, 0.1), 0.1, torch_bsr_addmm=0.2, **{LIBRARY.replace(" ", "_"): 0.1}),
        entry(square(4096, BLOCK, 0.3), 0.5, torch_bsr_addmm=0.6),
    ]
    never, torch = gpu_bars.bars(found)[-2:]
    assert (torch.measured, torch.met) == (pytest.approx(1.2), "no")
    assert never.wanted == gpu_bars.NOISE


def test_every_case_that_a_bar_asks_for_is_among_the_first_of_the_grid():
    fast = [entry(case, 0.01, torch_bsr_addmm=0.1) for case in grid()[:80]]
    assert [bar.name for bar in gpu_bars.bars(fast) if bar.met == "not measured"] == []


@pytest.fixture
def made_up(tmp_path):
    """The table of a run that nobody made, in which 64x64 breaks even at a density of 0.2."""

    def write():
        path = tmp_path / "results.json"
        few = entry(Case("decode", 16, 4096, 4096, BLOCK, 0.1), 0.5)
        step = entry(square(4096, BLOCK, 0.1, what="step"), 0.5)
        found = [*squares([0.2, 0.6, 1.4]), *squares([0.5, 0.9], (0.1, 0.3), what="dw"), few, step]
        gpu_results.dump(run(*map(configured, found)), path)
        assert gpu_table.main([path], tmp_path) == 0

    with table_by(write, tmp_path) as table:
        yield table


def test_results_become_the_table_that_the_costs_read(made_up):
    assert made_up.break_even == {
        "forward": {"bfloat16": {BLOCK: pytest.approx(0.2)}},
        "dw": {"bfloat16": {BLOCK: pytest.approx(0.35)}},
    }
    assert made_up.factors.keys() == {"dense_spmm", "dense_sddmm", "mosaic_bsr_spmm", "mosaic_bsr_sddmm"}
    assert made_up.factors["mosaic_bsr_spmm"]["bfloat16"].keys() == {"few", "many"}
    assert made_up.facts["l2_bytes_per_s"] == 5e12


@pytest.mark.parametrize(("density", "implementations"), [(0.1, gpu_results.OURS), (0.3, ("dense",))])
def test_dense_is_chosen_above_the_measured_break_even(made_up, density, implementations):
    case = square(4096, BLOCK, density)
    assert Chooser().plan(problem(case, "forward", H200)).kernel.implementation in implementations


def test_the_table_gives_the_times_that_were_measured(made_up):
    case = square(4096, BLOCK, 0.1)
    plans = Chooser("mosaic").plans(problem(case, "forward", H200))
    assert plans[0].dense_seconds == pytest.approx(1.0, rel=0.01)
    assert min(p.seconds for p in plans if p.kernel.name == "mosaic_bsr_spmm") == pytest.approx(0.6, rel=0.5)


def test_of_wrong_results_no_table_is_made(tmp_path):
    path = tmp_path / "results.json"
    gpu_results.dump(run(wrong=["mosaic dense #0: relative error 1"]), path)
    with pytest.raises(SystemExit, match="relative error"):
        gpu.main(["--table", str(path)])
    assert json.loads(path.read_text())["wrong"]
