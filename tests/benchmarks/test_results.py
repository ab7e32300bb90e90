import json
from pathlib import Path

import pytest

from benchmarks.cases import Case
from benchmarks.machine import Machine
from benchmarks.results import Measured, Outcome, Run, dump, load
from benchmarks.run import line
from benchmarks.tables import PAGE, RESULTS, page, section, table
from benchmarks.timing import Timing

MACHINE = Machine("Some CPU", "cpu", "avx2", 4, 1, "0.10.2", "3.11.7", "0123456789")


def outcome(m: int = 64, block: int | None = 32, packed: float = 0.5, kernel: str = "native_bsr_spmm") -> Outcome:
    """A case whose dense product takes one second and whose packed one `packed` seconds."""

    def measured(seconds: float, kernel: str) -> Measured:
        return Measured(kernel, "dense", Timing((seconds,) * 3), 1e-7)

    return Outcome(
        Case("square1024", m, 1024, 1024, block, 0.1),
        {
            "dense": measured(1.0, "XLA"),
            "masked": measured(1.5, "XLA"),
            "params": measured(1.5, "dense_spmm"),
            "packed": measured(packed, kernel),
        },
        {"packed-native": "not built"},
    )


RUN = Run(MACHINE, "python -m benchmarks.run --threads 1", (outcome(1), outcome(64, packed=2.0), outcome(64, block=8)))


def test_a_run_survives_its_file(tmp_path: Path):
    dump(RUN, tmp_path / "run.json")
    assert load(tmp_path / "run.json") == RUN


def test_a_file_of_another_version_is_refused(tmp_path: Path):
    dump(RUN, tmp_path / "run.json")
    tree = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**tree, "version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        load(tmp_path / "run.json")


@pytest.mark.parametrize(("packed", "flagged"), [(0.5, ()), (1.0, ()), (1.02, ()), (1.1, ("packed",))])
def test_a_choice_slower_than_dense_is_flagged(packed, flagged):
    found = outcome(packed=packed)
    assert found.slower_than_dense == flagged
    assert ("SLOWER" in line(found)) == bool(flagged)


def test_a_table_has_a_row_per_weight_and_a_column_per_row_count():
    text = table(RUN.outcomes, lambda o: f"{o.ratio('packed'):.1f}")
    assert text.splitlines() == [
        "| weight | k x n | mask | density | m=1 | m=64 |",
        "| --- | --- | --- | --- | --- | --- |",
        "| square1024 | 1024x1024 | b32 | 0.1 | 2.0 | 0.5 |",
        "| square1024 | 1024x1024 | b8 | 0.1 |  | 2.0 |",
    ]


def test_a_section_names_device_baseline_and_command():
    text = section(RESULTS / "run.json", RUN)
    assert "Some CPU" in text
    assert "`python -m benchmarks.run --threads 1`" in text
    assert "XLA dense" in text
    assert "**0.50x**" in text
    assert "1.00x (dense)" in text


def test_the_page_is_what_the_results_say():
    assert PAGE.read_text() == page((path, load(path)) for path in sorted(RESULTS.glob("*.json"))), "run `make performance`"


def test_no_result_is_of_an_uncommitted_tree():
    runs = [load(path) for path in sorted(RESULTS.glob("*.json"))]
    assert all(run.machine.commit and "+" not in run.machine.commit for run in runs)
