"""Every notebook runs from a clean kernel, and is committed without outputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))

# In a process of its own: the kernel client's sockets and loops are not ours to clean up.
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
where = {"metadata": {"path": sys.argv[2]}}
NotebookClient(notebook, timeout=400, startup_timeout=400, kernel_name="python3", resources=where).execute()
texts = [o.get("text", "") for c in notebook.cells for o in c.get("outputs", [])]
pictures = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
print("".join(texts)); print("pictures:", len(pictures))
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_a_clean_kernel(path: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, path, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    if path.stem == "01_quickstart":
        assert "indexed 0 unchanged 68" in done.stdout
        assert "1. " in done.stdout
        assert "my-note" in done.stdout
        assert "pictures: 4" in done.stdout
    if path.stem == "02_rag":
        assert "indexed 68" in done.stdout
        assert "drawing-bicycle ImageNode" in done.stdout
        assert "equal: True" in done.stdout
        assert "image_url" in done.stdout
        assert "pictures: 4" in done.stdout
    if path.stem == "03_train":
        assert "better: True" in done.stdout
        assert "trained: 12 negatives for 12 questions" in done.stdout
        assert "pictures: 10" in done.stdout
    if path.stem == "04_rerank":
        assert "indexed 68" in done.stdout
        assert "Lisbon? [] (20 below)" in done.stdout
        assert "hit@1: " in done.stdout
        assert "pictures: 1" in done.stdout
    if path.stem == "05_own_model":
        assert "auto finds clip" in done.stdout
        assert "red-square -> ['red-square 1.000'" in done.stdout
        assert "use the encoder it was made with" in done.stdout
        assert "imported 12" in done.stdout
        assert "pictures: 1" in done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
