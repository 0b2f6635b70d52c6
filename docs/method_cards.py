"""For mkdocs: the cards of docs/cards/, with what the code and the benchmarks say filled in.

A card is a heading, the public name, and a line each for `when`, `cost`, `gain` and `fails`; `source` where the
docstring has no paragraph of that name. Figures stand in docs/benchmarks.md alone and are fetched from there:

    {cell TABLE > ROW > COLUMN}    one cell; the table is named by the bold line or words in front of it
    {us ROW}                       CPU time per image of an augmentation
    {first OPERATION}              CPU time of its first batch
    {passes METHOD}                an attribution's CPU time over the passes that its definition asks for
    {error METHOD}                 what an average or ensemble gains
    {test TABLE > ROW}             a test accuracy, and the plain network's beside it
"""

import functools
import re

from sources import ROOT, described, docstring, linked, settings, source

CARDS = ROOT / "docs" / "cards"
FACTS = ("when", "cost", "gain", "fails")
TITLES = {
    "when": "When to use it",
    "cost": "Cost",
    "gain": "Measured gain",
    "fails": "When it fails",
    "source": "Source",
}
LARGE, SMALL = "ResNet50 at 224 pixels, batch 1", "MobileNetV2(0.35) at 96 pixels, batch 1"
TRANSFORMER = "Vision transformer (12 blocks of 192 channels, patches of 16) at 224 pixels, batch 1"


def cards(text):
    """`{public name: {"when": ..., ...}}` of a page of cards."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("\n")
        found[name.strip()] = dict(re.findall(r"^- (\w+): (.+)$", rest, re.MULTILINE))
    return found


@functools.cache
def tables():
    """`{(title, row): {column: cell}}` of docs/benchmarks.md."""
    found, title, columns = {}, "", []
    for line in (ROOT / "docs" / "benchmarks.md").read_text().splitlines():
        if bold := re.match(r"\*\*(.+?)\*\*(?!\s*\|)", line):
            title, columns = re.sub(r": F [\d.]+ ms, FG [\d.]+ ms$", "", bold[1]), []
        cells = (
            [cell.strip().strip("*") for cell in line.strip("|").split("|")] if line.startswith("|") else []
        )
        if not cells:
            columns = []
        elif not columns:
            columns = cells
        elif not set(line) <= set("|-: "):
            # Of rows with one name the first counts: recipes before others, one image before a batch.
            found.setdefault((title, cells[0]), dict(zip(columns, cells, strict=False)))
        if line.startswith("The head alone on features computed once"):
            title, columns = "photos", []
    return found


def row(title, name):
    found = tables().get((title, name))
    if found is None:
        raise KeyError(f"docs/benchmarks.md has no row {name!r} in a table {title!r}")
    return found


def _cell(rest):
    title, name, column = rest.split(" > ")
    return row(title, name)[column]


def _us(name):
    small, large = (row(title, name)["recipes, us"] for title in ("32x32, batch 128", "224x224, batch 16"))
    return f"{small} us of CPU per image of 32 x 32 pixels (batches of 128), {large} us of 224 x 224 (batches of 16)."


def _first(name):
    seconds = row("First batch, 32x32, 128 images", name)["whole, CPU s"]
    return f"{seconds} s of CPU for the first batch, 128 images of 32 x 32 pixels, which is compiled."


def _passes(name):
    for title in (LARGE, SMALL, TRANSFORMER):
        if (title, name) in tables():
            found = tables()[title, name]
            network = title.split(" at ")[0]
            return f"{found['ratio']} times the passes it needs, {found['floor']} ({network}, one image)."
    raise KeyError(f"docs/benchmarks.md has no passes of {name!r}")


def _error(name):
    digits, clothes = (
        row(f"{data}: 2000 training images, 25 epochs", name)["gain"] for data in ("mnist5k", "fashion_mnist")
    )
    return f"{digits} points of error on mnist5k and {clothes} on Fashion-MNIST (+ is better)"


def _test(rest):
    title, name = rest.split(" > ")
    return f"{row(title, name)['test']} of the test images, {row(title, 'plain')['test']} plain"


MAKERS = {"cell": _cell, "us": _us, "first": _first, "passes": _passes, "error": _error, "test": _test}


def filled(text):
    """A line of a card with its figures."""
    return re.sub(
        r"\{(cell|us|first|passes|error|test) (.+?)\}", lambda match: MAKERS[match[1]](match[2]), text
    )


def card(name, facts):
    """One card as Markdown."""
    words = docstring(name)
    lines = [f"## {name}", "", f"{described(words)} {linked(name, 'Reference')}", ""]
    origin = facts.get("source") or source(words)
    for fact in (*FACTS, "source"):
        lines.append(f"- **{TITLES[fact]}**: {origin if fact == 'source' else filled(facts[fact])}")
    rows = [one for one in settings(name) if one[3] and not one[3].startswith("As in every method")]
    if rows:
        lines += ["", "| setting | default | |", "|---|---|---|"]
        for setting, _, default, words in rows:
            cells = (f"`{setting}`", f"`{default}`" if default else "", words)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def on_page_markdown(markdown, page, **_):
    if not page.file.src_uri.startswith("cards/") or page.file.src_uri.endswith("index.md"):
        return markdown
    head = re.sub(r"^> Figures in braces.*\n", "", markdown.split("\n## ", 1)[0], flags=re.MULTILINE)
    return "\n".join([head, "", *(card(name, facts) for name, facts in cards(markdown).items())])
