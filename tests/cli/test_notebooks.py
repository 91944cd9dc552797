"""The notebooks run, and keep the pictures they were saved with."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

MOST_BYTES = 600_000
NOISE = re.compile(r"Warning|Traceback|\bETA\b|(?<![\w.:/])/(?:tmp|home|root|work|Users|opt|usr)/")
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.e2e
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENLAB_DATA", raising=False)  # none needs a data set that is not embedded
    notebook = nbformat.read(path, as_version=4)
    stored = pictures(notebook)
    assert stored > 0, "the pictures are not stored"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert pictures(notebook) == stored


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_small_and_without_noise(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for output in (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs):
        assert output.output_type != "error"
        assert not NOISE.search(output.get("text", "") + output.get("data", {}).get("text/plain", ""))
