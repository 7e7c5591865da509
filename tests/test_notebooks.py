"""The notebooks of the documents, run by Jupyter from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

WORDS = re.compile(r"[a-zA-Z_]+")
NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def shown(notebook: nbformat.NotebookNode) -> list[tuple[str, list[list[str]]]]:
    """The cells that show something, with the words of what each shows, in the order of the
    alphabet: numbers, and what is sorted by them, are those of one machine.
    """
    return [
        (cell["source"], [sorted(WORDS.findall(text_of(out))) for out in cell["outputs"]])
        for cell in notebook.cells
        if cell.get("outputs")
    ]


def text_of(output: nbformat.NotebookNode) -> str:
    return str(output.get("data", output).get("text/plain", ""))


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_makes(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    kept = shown(notebook)
    assert kept, "it is shown with its outputs: run it, and save it"
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()  # raises CellExecutionError, which names the cell
    assert shown(notebook) == kept
