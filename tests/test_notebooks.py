"""The notebooks in examples/ are executed, cell by cell."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from pages import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# Those that draw: how many figures a reader sees.
FIGURES = {
    "early_exits": 1,
    "first_classifier": 3,
    "gradients_and_attribution": 2,
}


def test_notebooks_hold_no_outputs():
    assert len(NOTEBOOKS) == 5
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            assert not cell.get("outputs"), f"{path.name}: clear its outputs"


@pytest.mark.slow  # minutes each
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    # as in a clone, whose files it must not change
    (tmp_path / "tuning").symlink_to(ROOT / "tuning")
    folder = tmp_path / "examples"
    folder.mkdir()
    shutil.copy(path, folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    commands = Path(sys.executable).parent  # keras-inception
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    figures = ["image/png" in out.get("data", {}) for out in outputs]
    assert sum(figures) == FIGURES.get(path.stem, 0)
    printed = "".join(out.get("text", "") for out in outputs)
    # a shell command that fails does not fail its cell
    assert "error: " not in printed
    if path.stem == "search_to_served":
        assert "wrote saved_models/notebook/1" in printed
        assert "serving notebook, version 1" in printed
        assert printed.splitlines()[-1].startswith("a ")
