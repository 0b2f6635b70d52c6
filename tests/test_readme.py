"""README and docs: Python blocks run as pasted by a user; the pages have every public name and no others."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
from PIL import Image

import recipes

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text):
    """`(line of the file, code)` of each fenced Python block."""
    return [(text[: match.start(1)].count("\n") + 1, match[1]) for match in BLOCK.finditer(text)]


def run_all(text, name):
    namespace = {"__name__": "__main__"}
    for line, code in blocks(text):
        # Empty lines in front make tracebacks show the line number of the README.
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
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_the_readmes_python_blocks_run(tmp_path, monkeypatch):
    text = README.read_text()
    assert blocks(text), "README.md holds no ```python block"
    monkeypatch.chdir(tmp_path)
    load = recipes.data.load

    def sliver(*args, **options):
        train, validation, info = load(*args, **options)
        return train.take(640), validation.take(200), info

    monkeypatch.setattr(recipes.data, "load", sliver)
    keras.utils.set_random_seed(0)
    run_all(text, "README.md")


GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Thirty crops of each of three photos, with one folder per class."""
    folder, rng = tmp_path_factory.mktemp("guides") / "my_photos", np.random.default_rng(0)
    for name in ("astronaut", "chelsea", "coffee"):
        whole = getattr(skimage.data, name)()
        (folder / name).mkdir(parents=True)
        for number in range(30):
            top, left = (int(rng.integers(0, size - 150)) for size in whole.shape[:2])
            Image.fromarray(whole[top : top + 150, left : left + 150]).save(folder / name / f"{number}.jpg")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.filterwarnings("ignore:Run.evaluate. the run was trained on:UserWarning")  # as the guide says
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guides_python_blocks_run(guide, photos, tmp_path, monkeypatch):
    (tmp_path / "my_photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    build = recipes.models.efficientnet_lite0

    def first_stages(**options):
        """Three of its nine stages, for which the guide is just as true and tracing takes a third of the time."""
        whole = build(**options)
        return keras.Model(whole.input, whole.get_layer("stage3_block2_add").output, name=whole.name)

    monkeypatch.setattr(recipes.models, "efficientnet_lite0", first_stages)
    run_all(guide.read_text(), guide.name)


def test_every_file_and_picture_the_readme_points_to_exists():
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", README.read_text())
    local = [target for pair in targets for target in pair if target and "://" not in target]
    assert [target for target in local if not (README.parent / target).exists()] == []


ROOMS = (
    "augment callbacks data diagnose ensemble explain initialize layers models plot preprocess probe report schedules "
    "training tune"
).split()
FILES = ("schedules",)  # this package is a single file, whose public names are those that it defines
BY_TASK = ROOT / "docs" / "by_task.md"
DOCUMENTS = (BY_TASK, ROOT / "docs" / "migration.md", *GUIDES)
SPAN = re.compile(r"`([^`\n]+)`")
NAME = re.compile(rf"(?<![\w./\"-])(?:recipes\.)?({'|'.join(ROOMS)})\.([A-Za-z_]\w*(?:\.\w+)*)")


def public_names(room):
    """The public names of a package: its `__all__`, or without one, what it imports `as` itself."""
    module = importlib.import_module(f"recipes.{room}")
    if hasattr(module, "__all__"):
        return set(module.__all__)
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {
        alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    own = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    return {
        name for name in imported | (own if room in FILES else set()) if name and not name.startswith("_")
    }


def spans(text):
    """Pieces of code between single backticks, without paths and shell commands."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [span for span in SPAN.findall(text) if "/" not in span.split("(")[0]]


def named(text):
    """`(package, name)` for every name of this project in a document's code."""
    code = [*spans(text), *(code for _, code in blocks(text))]
    found = {match.groups() for piece in code for match in NAME.finditer(piece)}
    return found | {
        ("training", name) for piece in code for name in re.findall(r"\brecipes\.(train|Run)\b", piece)
    }


def look_up(dotted):
    value = importlib.import_module(dotted.split(".")[0])
    for part in dotted.split(".")[1:]:
        value = getattr(value, part)
    return value


def test_the_readme_is_read_in_one_go():
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_name_in_a_document_exists(document):
    text = document.read_text()
    wrong = []
    for room, name in sorted(named(text)):
        try:
            look_up(f"recipes.{room}.{name}")
        except AttributeError:
            wrong.append(f"{room}.{name}")
    for name in sorted(
        {match for span in spans(text) for match in re.findall(r"(?<![\w.])keras(?:\.\w+)+", span)}
    ):
        try:
            look_up(name)
        except AttributeError:
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_call_in_a_document_takes_the_arguments_it_is_given(document):
    wrong, checked = [], 0
    for span in spans(document.read_text()):
        try:
            tree = ast.parse(span.removeprefix("with ").removesuffix(":"))
        except SyntaxError:  # not Python code
            continue
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            dotted = ast.unparse(call.func)
            match = NAME.fullmatch(dotted)
            if not match and dotted != "recipes.train":
                continue
            function = look_up(f"recipes.{'.'.join(match.groups())}" if match else dotted)
            try:
                inspect.signature(function).bind_partial(
                    *call.args, **{keyword.arg: keyword.value for keyword in call.keywords}
                )
            except TypeError as error:
                wrong.append(f"{span}: {error}")
            checked += 1
    assert wrong == []
    assert checked > 20 or document in GUIDES, "the pattern no longer finds the calls"


def rows_of_what_keras_has():
    """`(row, the objects of its dotted and bare names)` for the table "Keras has it already"."""
    section = BY_TASK.read_text().split("## Keras has it already")[1].split("\n## ")[0]
    for row in re.findall(r"^\| (?!---|I want to).*", section, re.MULTILINE):
        home, found = "", []
        for span in SPAN.findall(row):
            name = span.split("(")[0]
            if name.startswith("keras."):
                home = name.rpartition(".")[0]
                found.append(look_up(name))
            elif re.fullmatch(r"[A-Z]\w+", name) and home:
                found.append(look_up(f"{home}.{name}"))
        yield row, found


def test_keras_has_what_the_table_of_its_own_things_names():
    rows = list(rows_of_what_keras_has())
    assert len(rows) >= 20 and all(found or "`use_ema=" in row for row, found in rows)
    for row, found in rows:
        for argument in re.findall(r"(\w+)=(?:True|\d)", row.split(" (")[0]):
            takers = [*found, keras.optimizers.Adam]
            assert any(argument in inspect.signature(one).parameters for one in takers), f"{argument}: {row}"


def test_keras_exports_to_the_formats_that_the_table_names(tmp_path):
    (row,) = [row for row, _ in rows_of_what_keras_has() if "keras.Model.export" in row]
    named = re.findall(r"`([a-z_]+)`", row.split(" (")[0])
    with pytest.raises(ValueError) as refused:
        keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).export(tmp_path / "m", format="none")
    known = ast.literal_eval(re.search(r"\[.*?\]", str(refused.value))[0])
    assert len(named) >= 5 and set(named) <= set(known)


def test_the_page_by_task_names_every_example_there_is():
    mentioned = set(re.findall(r"\bexamples/\w+\.(?:py|md)", BY_TASK.read_text()))
    assert [path for path in sorted(mentioned) if not (ROOT / path).exists()] == []
    there = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert sorted(there - mentioned) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_whole(document):
    lines = ["", *document.read_text().splitlines(), ""]
    wrong = []
    for number, (before, line, after) in enumerate(zip(lines, lines[1:], lines[2:], strict=False), start=1):
        if line.startswith("#") and not line.startswith("#!") and before.strip() and "```" not in before:
            wrong.append(f"{number}: no blank line before the heading {line!r}")
        if line.startswith("|---") and not before.startswith("|"):
            wrong.append(f"{number}: a rule without a header")
        if line.startswith("|") and not before.startswith("|"):
            columns = line.count("|")
            if before.strip() and not before.startswith("<!--"):
                wrong.append(f"{number}: no blank line before the table")
            if not after.startswith("|---"):
                wrong.append(f"{number}: a table without a header")
        elif line.startswith("|") and line.count("|") != columns:
            wrong.append(f"{number}: {line.count('|') - 1} cells, {columns - 1} columns")
        elif line.startswith("|---") and "|---" in lines[number - 2]:
            wrong.append(f"{number}: a second rule in a table")
        if line.startswith("| I want to") and before.startswith("|"):
            wrong.append(f"{number}: a header in the middle of a table")
    assert wrong == []


def test_every_public_name_has_its_place_on_the_page_of_its_room():
    missing = []
    for room in ROOMS:
        entries = re.findall(
            r"^::: (\S+)", (ROOT / "docs" / "rooms" / f"{room}.md").read_text(), re.MULTILINE
        )
        shown = {entry.split(".")[-1] for entry in entries[1:]}
        missing += [f"{room}.{name}" for name in sorted(public_names(room) ^ shown)]
    assert missing == [], "write '::: recipes.PACKAGE.MODULE.NAME' into docs/rooms/PACKAGE.md"


def test_a_picture_takes_sixty_kilobytes_at_most():
    pictures = [path for kind in ("png", "jpg", "gif") for path in (ROOT / "examples").rglob(f"*.{kind}")]
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size > 60_000] == []


@pytest.mark.parametrize("shape", [(241, 300), (300, 241), (333, 200), (97, 131)])
@pytest.mark.parametrize("size", [(64, 64), (60, 90)])
def test_the_photo_of_the_phone_guide_is_read_as_in_training(shape, size, tmp_path):
    code = next(
        code
        for _, code in blocks((ROOT / "docs/guides/notebook_to_phone.md").read_text())
        if "read_photo" in code
    )
    namespace = {"np": np}
    exec(code, namespace)
    coarse = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype="uint8")
    photo = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.png")
    ours = np.asarray(recipes.data.read_image(tmp_path / "photo.png", image_size=size), float)
    theirs = namespace["read_photo"](tmp_path / "photo.png", size)[0].astype(float)
    # 0.11 to 0.17 gray levels; with ImageOps.fit, which cuts at half a pixel, up to 2.0.
    assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 0.3
