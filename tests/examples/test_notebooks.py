"""Notebooks as they are kept: stripped, linked with files that exist, telling one story each. `make notebooks` runs them."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TITLES = {
    "01_a_first_sparse_function": "# A first sparse function",
    "02_what_propagation_finds": "# What propagation finds",
    "03_formats_and_tuning": "# Choosing formats and tuning on this machine",
    "04_pruning_and_recovery": "# Pruning a pretrained encoder, and recovering what it said",
    "05_sparse_training": "# Sparse training from scratch",
}


def test_there_is_one_per_story():
    assert [path.stem for path in NOTEBOOKS] == list(TITLES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_without_outputs(path):
    notebook = json.loads(path.read_text())
    cells = notebook["cells"]
    assert "".join(cells[0]["source"]).splitlines()[0] == TITLES[path.stem]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            compile(text, cell["id"], "exec")
        else:
            links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
            assert all((FOLDER / link).is_file() for link in links), links
