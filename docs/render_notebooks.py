"""Runs the notebooks of examples/notebooks and writes them, with what they show, to docs/notebooks.

    python docs/render_notebooks.py                   # some minutes
    python docs/render_notebooks.py own_photos

The notebooks themselves stay without outputs; a test compares the code of these pages with theirs.
"""

import base64
import io
import re
import sys
import tempfile

from gallery import ROOT, shrink

NOTEBOOKS = ROOT / "examples" / "notebooks"
PAGES = ROOT / "docs" / "notebooks"


def main():
    chosen = sys.argv[1:] or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    PAGES.mkdir(exist_ok=True)
    for name in chosen:
        text = page(name, executed(NOTEBOOKS / f"{name}.ipynb"))
        (PAGES / f"{name}.md").write_text(text)
        print(f"docs/notebooks/{name}.md: {len(text)} characters")


def executed(path):
    """The notebook after all of its cells ran, from an empty folder."""
    import nbformat  # noqa: PLC0415 - the site is built without it
    from nbclient import NotebookClient  # noqa: PLC0415 - the site is built without it

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
    return notebook


def page(name, notebook):
    """Cells and outputs as Markdown."""
    parts, pictures = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            if len(parts) == 1:
                parts.append(
                    f"*This page is the notebook `examples/notebooks/{name}.ipynb`, with the output of each cell.*"
                )
            continue
        parts.append(f"```python\n{cell.source}\n```")
        printed = ""
        for output in cell.outputs:
            data = output.get("data", {})
            if output.output_type == "stream" and output.name == "stdout":
                printed += output.text
            elif "image/png" in data:
                pictures += 1
                file = PAGES / f"{name}_{pictures}.png"
                picture(data["image/png"], file)
                parts.append(f"![What the cell shows]({file.name})")
            elif "text/html" in data:
                parts.append(drawn(data["text/html"]))
            elif "text/plain" in data:
                printed += data["text/plain"]
        if plain := as_shown(printed):
            parts.append(f"```text\n{plain}\n```")
    return "\n\n".join(parts) + "\n"


def drawn(page):
    """A piece of HTML as a piece of Markdown: without empty lines, after which it would be read as text."""
    return '<div class="output">\n' + re.sub(r"\n\s*\n", "\n", page.strip()) + "\n</div>"


def picture(encoded, file):
    from PIL import Image  # noqa: PLC0415 - the site is built without it

    shrink([Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")], file)


def as_shown(text):
    """What a terminal shows of a text with colors, carriage returns and backspaces."""
    text = re.sub(r"\x1b\[[0-9;]*m|/tmp/tmp\w+/", "", text)
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        line = re.sub(r".*\r(?=.)", "", line.replace("\x08", ""))
        lines.append(line.rstrip())
    return "\n".join(lines).strip("\n")


if __name__ == "__main__":
    main()
