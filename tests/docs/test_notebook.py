"""`examples/notebook.ipynb` runs from its first cell to its last, in a kernel of this Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
_PATIENCE_SECONDS = 240


@pytest.fixture(scope="module")
def stored():
    """The notebook as it is in the repository."""
    return nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)


@pytest.fixture
def ran(stored, own_homes, tmp_path, monkeypatch):
    """The notebook after a run, in a copy of its directory."""
    for name, value in own_homes.items():
        monkeypatch.setenv(name, value)
    place = tmp_path / "examples"
    shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns("downloaded", ".ipynb_checkpoints", "__pycache__"))
    notebook = nbformat.from_dict(stored)
    NotebookClient(
        notebook, timeout=_PATIENCE_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    ).execute()
    return notebook


def shown(notebook, source: str, kind: str = "text/plain") -> str:
    """Return the last output of the cell that ends with a line, in one format: Prefect's logs come before it."""
    (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.splitlines()[-1] == source)
    return next(output.data[kind] for output in reversed(cell.outputs) if kind in output.get("data", {}))


def test_nothing_is_stored_but_the_cells(stored):
    """The notebook is stored without outputs, which would change with each run and machine."""
    cells = [cell for cell in stored.cells if cell.cell_type == "code"]

    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


@pytest.mark.exhaustive
def test_every_cell_does_what_the_text_says(ran):
    """Each cell shows what the text says: tables, a skip, metrics, a plot, the model, a plan and a failure."""
    assert "ran: first run" in shown(ran, "fit", "text/html")
    assert (
        shown(ran, 'sm.train("fit", hyperparameters={"alpha": 0.01, "epochs": 10}, **settings).reason')
        == "'skipped: nothing changed'"
    )
    assert "auc" in shown(ran, "frame.tail(4)", "text/html")
    assert shown(ran, ");", "image/png")
    assert "model.json" in shown(ran, 'fit.model.download("downloaded")')
    assert "hyperparameter epochs" in shown(ran, "longer.explain()", "text/html")
    assert "fit-A01-E10" in shown(ran, '{result.task: result.metrics["auc"] for result in results}')
    planned = 'plan(lambda: sm.train("fit", hyperparameters={"alpha": 0.01, "epochs": 40}, **settings))'
    assert "1 to run" in shown(ran, planned, "text/html")
    assert "broken: failed" in shown(ran, "failed", "text/html")
    assert "alpha" in shown(ran, '[line.text for line in failed.logs() if "alpha" in line.text]')
