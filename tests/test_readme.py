"""The README's Python blocks run, in order and in one namespace, as someone would paste them."""

import os
import re
from pathlib import Path

import keras
import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text):
    """`(line of the file, code)` of each fenced Python block."""
    return [(text[: match.start(1)].count("\n") + 1, match[1]) for match in BLOCK.finditer(text)]


def run_all(text, name):
    namespace = {"__name__": "__main__"}
    for line, code in blocks(text):
        # Empty lines in front make tracebacks point at the line of the README.
        exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)
    return namespace


def test_blocks_share_names_and_report_the_readmes_lines(tmp_path):
    text = "# Title\n\n```python\nx = 2\n```\n\n```bash\nexit 1\n```\n\n```python\ny = x + 1\n```\n"
    assert [line for line, _ in blocks(text)] == [4, 12]
    assert run_all(text, "README.md")["y"] == 3
    with pytest.raises(ZeroDivisionError) as raised:
        run_all(text.replace("x + 1", "1 / 0"), "README.md")
    assert raised.traceback[-1].lineno + 1 == 12


# Keras 3.15 warns about its own default at every fit on a tf.data.Dataset.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_the_readmes_python_blocks_run(tmp_path, monkeypatch):
    text = README.read_text()
    assert blocks(text), "README.md holds no ```python block"
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    run_all(text, "README.md")


def test_every_file_and_picture_the_readme_points_to_exists():
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", README.read_text())
    local = [target for pair in targets for target in pair if target and "://" not in target]
    assert [target for target in local if not (README.parent / target).exists()] == []
    pictures = [README.parent / target for target in local if target.endswith((".png", ".jpg"))]
    assert [picture.name for picture in pictures if os.path.getsize(picture) > 200_000] == []
