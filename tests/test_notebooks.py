"""The notebooks run in a kernel from the first cell to the last, and show each result once."""

import warnings
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "examples" / "notebooks"
#: What each notebook shows: words in its outputs, and the number of pictures.
SHOWN = {
    "own_photos": (("val_accuracy", "coffee", "precision", "differ from Keras"), 0),
    "network_does_not_learn": (("data_check", "error", "learning_rate", "rate 0.05"), 0),
    "what_did_it_look_at": (("cat", "Grad-CAM", "random"), 2),
}


def executed(name, folder):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHOWN))
def test_notebook_shows_each_thing_once(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent.parent))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiles in half the time
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the client's own event loop
        outputs = executed(name, tmp_path)
    words, pictures = SHOWN[name]
    streams = [
        output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"
    ]
    shown = [output.data for output in outputs if output.output_type in ("execute_result", "display_data")]
    text = "\n".join(streams + [entry.get("text/html", entry.get("text/plain", "")) for entry in shown])
    for word in words:
        assert word in text
    assert sum("image/png" in entry for entry in shown) == pictures
    printed = [line for line in "".join(streams).splitlines() if len(line) > 40]
    repeated = {line for line in printed if printed.count(line) > 1}
    assert repeated == set() and len("".join(streams)) < 12_000
    assert [output for output in outputs if output.output_type == "error"] == []


def test_every_notebook_is_run_and_stands_without_outputs():
    import json

    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(SHOWN)
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
        assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
