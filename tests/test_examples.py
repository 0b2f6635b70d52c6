"""Every script in examples/ runs from an empty folder, as a reader would run it, on a sliver of its data."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_runs_quickly_and_prints_its_result(script, tmp_path):
    done = subprocess.run(
        [sys.executable, script, "--quick", "--out", tmp_path / "out"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert len(done.stdout.strip()) > 0
    # Warnings that start in this project are mistakes of it; those of the libraries an example uses are theirs.
    ours = re.escape(str(ROOT)) + r"/(recipes|callbacks|examples)/\S+: \w*Warning.*"
    assert [match[0] for match in re.finditer(ours, done.stderr)] == []
    # What an example writes goes to --out and nowhere else.
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}
    empty = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_size == 0]
    assert empty == []


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_has_a_docstring_and_writes_to_its_own_folder_by_default(script):
    text = script.read_text()
    assert text.startswith('"""')
    assert f"runs/{script.stem}" in text and '__name__ == "__main__"' in text
