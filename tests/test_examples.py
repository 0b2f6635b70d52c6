"""Every script in examples/ runs in an empty folder, as a user would run it, on a small part of its data.

The quickstart is run as a separate command, the others in forks of a process that has imported TensorFlow.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_process import FreshProcess

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def as_a_reader_does(script, arguments, folder):
    done = subprocess.run(
        [sys.executable, script, *arguments], cwd=folder, capture_output=True, text=True, timeout=900
    )
    return done.returncode, done.stdout, done.stderr


def in_a_fresh_process(script, arguments, folder):
    process = FreshProcess(script, *arguments, folder=folder)
    code = process.wait(900)
    process.kill()
    return code, process.printed, process.complained


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_runs_quickly_and_prints_its_result(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiles in half the time
    folder = tmp_path / "work"
    folder.mkdir()
    run = as_a_reader_does if script.stem == "quickstart" else in_a_fresh_process
    code, printed, complained = run(script, ["--quick", "--out", str(folder / "out")], folder)
    assert code == 0, f"{printed[-3000:]}\n{complained[-3000:]}"
    lines = printed.strip().splitlines()
    assert re.match(r"This takes .*(seconds|minute)", lines[0]) and lines[-1].startswith("Look at ")
    assert [path for kind in ("png", "jpg", "html") for path in (folder / "out").rglob(f"*.{kind}")]
    # Warnings from this project's code are mistakes; warnings from the libraries that an example uses are not ours.
    ours = re.escape(str(ROOT)) + r"/(recipes|callbacks|examples)/\S+: \w*Warning.*"
    assert [match[0] for match in re.finditer(ours, complained)] == []
    # An example writes only to --out.
    assert {path.name for path in folder.iterdir()} <= {"out"}
    empty = [path for path in (folder / "out").rglob("*") if path.is_file() and path.stat().st_size == 0]
    assert empty == []


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_has_a_docstring_and_writes_to_its_own_folder_by_default(script):
    text = script.read_text()
    assert text.startswith('"""')
    assert f"runs/{script.stem}" in text and '__name__ == "__main__"' in text
