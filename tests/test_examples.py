"""Every script in examples/ runs from an empty folder, as a reader would run it, on a sliver of its data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_runs_quickly_and_prints_its_result(script, tmp_path):
    done = subprocess.run(
        # A warning of our own is a mistake; those of the libraries an example uses are theirs.
        [sys.executable, "-W", "error:::recipes", script, "--quick", "--out", tmp_path / "out"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert len(done.stdout.strip()) > 0
    # What an example writes goes to --out and nowhere else.
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}
    empty = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_size == 0]
    assert empty == []


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_says_at_its_top_how_to_run_it(script):
    text = script.read_text()
    docstring = text.split('"""')[1]
    assert f"python examples/{script.name}" in docstring
    assert "--quick" in text and f"runs/{script.stem}" in text and '__name__ == "__main__"' in text
