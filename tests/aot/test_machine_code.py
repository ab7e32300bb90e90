"""Machine code of every GPU kernel, made without a GPU: nothing spills, the tensor cores and TMA are used, figures as recorded.

`make test-gpu-aot` runs this in an environment of its own (`requirements.txt`); `make gpu-figures` records the figures again.
`ALL=1` compiles every case instead of the few that stand for all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax_cuda13_plugin", reason="compiles with the CUDA plugin: make test-gpu-aot")

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "figures.json").read_text())
SLOTS = 8  # of the bandwidth kernel
ALL = bool(os.environ.get("ALL"))
TARGETS = sorted(path.stem for path in (HERE / "targets").iterdir())
MUST = {
    "sm_90a mosaic": ("HGMMA", "UTMALDG", "UTMASTG"),
    "sm_90a triton": ("HGMMA|HMMA", "LDGSTS"),
    "sm_80 triton": ("HMMA", "LDGSTS"),
    "sm_90a l2_bandwidth": ("UTMALDG",),
}
"""The tensor cores, and copies beside the threads: by TMA or cp.async."""


@pytest.fixture(scope="module")
def found() -> dict:
    """The figures by the case's name, compiled by one process per target."""
    command = [sys.executable, str(HERE / "compile.py"), *["--fast"] * (not ALL), "--target"]
    running = [
        subprocess.Popen([*command, target], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for target in TARGETS
    ]
    lines = []
    for process in running:
        out, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
        lines += out.splitlines()
    return dict(map(json.loads, lines))


def test_every_case_compiles(found):
    assert found
    assert {name: figures for name, figures in found.items() if not isinstance(figures, list) or len(figures) != 1} == {}


def test_nothing_spills_and_no_product_waits_for_the_one_before(found):
    wrong = {name: code for name, codes in found.items() for code in codes if code["spilled"] or code["serialized"]}
    assert wrong == {}


def test_what_is_to_be_fetched_for_its_own_sake_is_fetched(found):
    """The first tiles before the loop, and one in every step."""
    assert found["sm_90a l2_bandwidth"][0]["instructions"]["UTMALDG"] > SLOTS


@pytest.mark.parametrize("which", MUST)
def test_the_instructions_are_there(found, which):
    ours = {name: codes[0]["instructions"] for name, codes in found.items() if name.startswith(which)}
    assert ours
    assert {name: there for name, there in ours.items() if not all(_has(there, wanted) for wanted in MUST[which])} == {}


def _has(instructions: dict, wanted: str) -> bool:
    return any(name in instructions for name in wanted.split("|"))


def test_the_figures_are_those_recorded(found):
    assert {name: figures for name, figures in found.items() if RECORDED.get(name) != figures} == {}


def test_nothing_else_is_recorded(found):
    assert set(found) <= set(RECORDED)
    if ALL:
        assert set(found) == set(RECORDED)
