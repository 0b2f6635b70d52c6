"""Type checkers see the installed package: they accept the right lines, and report each planted mistake."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "editable" in (importlib.metadata.distribution("keras-recipes").read_text("direct_url.json") or ""),
        reason="type checkers do not follow an editable install; pip install '.[test]'",
    ),
]

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "tests" / "types"


def planted(checker):
    """Lines of wrong.py that a checker must reject."""
    lines = enumerate((SCRIPTS / "wrong.py").read_text().splitlines(), start=1)
    return [number for number, line in lines if re.search(rf"# mistake for (both|{checker})", line)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A user's folder outside the checkout, with the scripts and the examples."""
    folder = tmp_path_factory.mktemp("project")
    for script in SCRIPTS.glob("*.py"):
        shutil.copy(script, folder)
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "reveal.py").write_text(
        "import keras\nimport recipes\n\nrun = recipes.train(keras.Model(), ([], []))\n"
        'reveal_type(run.history["loss"])\n'
    )
    return folder


def environment():
    """The environment of this process without PYTHONPATH, so that checkers see the installed package."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}


@pytest.fixture(scope="module")
def pyright(project):
    """`{file: lines with an error}`, and under "revealed" the revealed types."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "."]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 10, done.stderr
    found = {"revealed": []}
    for complaint in report["generalDiagnostics"]:
        if Path(complaint["file"]).name == "reveal.py":
            found["revealed"].append(complaint["message"])
            continue
        # Keras has no annotation at `verbose="auto"`, so pyright infers a string.
        keras_own = 'parameter "verbose" of type "str"' in complaint["message"]
        if complaint["severity"] == "error" and not keras_own:
            name = Path(complaint["file"]).name
            found.setdefault(name, []).append((complaint["range"]["start"]["line"] + 1, complaint["message"]))
    return found


@pytest.fixture(scope="module")
def mypy(project):
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-error-summary",
        "--hide-error-context",
        "right.py",
        "wrong.py",
    ]
    command += sorted(f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py"))
    command += ["--ignore-missing-imports", "--cache-dir", str(project / "cache")]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = {}
    for line in done.stdout.splitlines():
        match = re.match(r"(\S+?\.py):(\d+): error: (.*)", line)
        if match:
            found.setdefault(Path(match[1]).name, []).append((int(match[2]), match[3]))
    return found


def lines_with_complaints(found):
    lines = {name: sorted({line for line, _ in told}) for name, told in found.items()}
    return {name: numbers for name, numbers in lines.items() if numbers}


# One test per checker, because each takes half a minute: with more tests, several test processes would run it.
def test_pyright_rejects_the_planted_mistakes_alone(pyright):
    revealed = pyright.pop("revealed")
    assert lines_with_complaints(pyright) == {"wrong.py": planted("pyright")}, pyright
    assert len(revealed) == 1 and 'is "list[float]"' in revealed[0]  # of the history of a run


def test_mypy_rejects_the_planted_mistakes_alone(mypy):
    assert lines_with_complaints(mypy) == {"wrong.py": planted("mypy")}, mypy


def test_a_checkout_is_seen_through_the_link_of_contributing(tmp_path):
    for folder in ("recipes", "callbacks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True)
    link = tmp_path / "recipes" / "callbacks"
    if not link.exists():
        link.symlink_to("../callbacks")
    shutil.copy(SCRIPTS / "wrong.py", tmp_path / "script.py")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    lines = {found["range"]["start"]["line"] + 1 for found in json.loads(done.stdout)["generalDiagnostics"]}
    assert sorted(lines) == planted("pyright")
