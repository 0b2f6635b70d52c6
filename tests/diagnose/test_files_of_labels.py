"""Doubtful labels, copies and faults of images from a folder are named by their files."""

import csv
import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import recipes
from recipes import diagnose
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.report.data_issues import data_issues


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 pictures in two classes, dark and bright, of which 3 are in the wrong folder: the folder, and their names."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    wrong = {"dark/5 ü.png", "dark/17.png", "bright/40.png"}
    for number in range(60):
        name = f"{'dark' if number < 30 else 'bright'}/{number}{' ü' if number == 5 else ''}.png"
        bright = (number >= 30) != (name in wrong)
        pixels = rng.integers(150, 250, (16, 16, 3)) if bright else rng.integers(5, 100, (16, 16, 3))
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype("uint8")).save(root / name)
    return root, wrong


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    train, validation, info = recipes.data.load(folder[0], image_size=16, validation=0.1, seed=3, verbose=0)
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 128, offset=-1), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers, keras.layers.Dense(2)])
    how = {"epochs": 6, "batch_size": 9, "optimizer": keras.optimizers.Adam(0.3), "augment": None}
    out = tmp_path_factory.mktemp("runs") / "run"
    run = recipes.train(model, train, validation, **how, info=info, run_dir=out, preflight=False, verbose=0)
    return run, train, info, out


def short(path):
    return "/".join(Path(path).parts[-2:])


def test_issues_of_a_run_name_the_photos_themselves(trained, folder):
    run, train, info, _ = trained
    issues = diagnose.label_issues(run)
    wrong = folder[1] & set(map(short, info.files["train"]))
    assert len(wrong) > 1
    assert {short(one.file) for one in issues.issues} >= wrong
    images = [image for image, _ in train.as_numpy_iterator()]
    for one in issues.issues:
        np.testing.assert_array_equal(images[one.number], np.asarray(Image.open(one.file)))
    assert all(name in repr(issues) and name in str(issues) for name in wrong)
    rows = list(csv.DictReader(io.StringIO(issues.to_csv())))
    assert [row["file"] for row in rows] == [one.file for one in issues.issues]
    other = [f"{number}.x" for number in range(len(issues.scores))]
    assert f"{issues.issues[0].number}.x: given" in issues.table(files=other)


def test_a_loaded_run_names_its_photos_while_their_folder_is_there(trained, folder, tmp_path):
    run, _, _, out = trained
    named = [one.file for one in diagnose.label_issues(run).issues]
    assert [one.file for one in diagnose.label_issues(recipes.load_run(out)).issues] == named
    assert [one.file for one in diagnose.label_issues(out).issues] == named
    away = tmp_path / "elsewhere"
    shutil.move(folder[0], away)
    try:
        gone = diagnose.label_issues(out)
    finally:
        shutil.move(away, folder[0])
    assert [one.file for one in gone.issues] == [None] * len(named)
    assert f"  {gone.issues[0].number}: given" in repr(gone)
    assert "file" not in gone.to_csv().splitlines()[0].split(",")


def test_copies_are_named_by_their_files(folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            source = folder[0] / "dark" / f"{number + 6 + 10 * (name == 'b')}.png"
            shutil.copy(source, tmp_path / name / f"{number}.png")
    shutil.copy(tmp_path / "a" / "2.png", tmp_path / "b" / "copy.png")
    train, _, _ = recipes.data.load(tmp_path, image_size=16, validation=0, verbose=0)
    found = diagnose.near_duplicates(train)
    assert [{short(pair.first_file), short(pair.second_file)} for pair in found.pairs] == [
        {"a/2.png", "b/copy.png"}
    ]
    assert all(str(tmp_path / name) in str(found) for name in ("a/2.png", "b/copy.png"))
    assert found.to_csv().splitlines()[0].endswith("first_file,second_file")


def test_names_of_files_that_are_no_text_are_written_byte_for_byte(tmp_path):
    odd = os.fsdecode(b"dark/\xff.png")
    pair = diagnose.images.near_duplicates.DuplicatePair(
        "train", 0, "train", 1, 1.0, None, False, False, first_file=odd, second_file="dark/2.png"
    )
    found = SimpleNamespace(pairs=[pair])
    diagnose.Duplicates.to_csv(found, tmp_path / "copies.csv")
    assert b"dark/\xff.png,dark/2.png" in (tmp_path / "copies.csv").read_bytes()


def test_faulty_images_are_named_by_their_files(tmp_path):
    rng = np.random.default_rng(1)
    for number in range(12):
        pixels = rng.integers(0, 255, (16, 16, 3)) if number != 7 else np.full((16, 16, 3), 9)
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels.astype("uint8")).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    train, _, _ = recipes.data.load(tmp_path, image_size=16, validation=0, verbose=0)
    found = diagnose.image_issues(train)
    assert {short(one.file) for one in found.issues if one.kind == "near_constant"} == {"b/7.png"}
    assert str(tmp_path / "b" / "7.png") in str(found)
    assert found.to_csv().splitlines()[1].endswith("7.png")
    arrays = diagnose.image_issues(np.stack([image for image, _ in train.as_numpy_iterator()]))
    assert "file" not in arrays.to_csv().splitlines()[0]


def test_the_page_gives_code_that_trains_without_the_wrong_labels(trained, capsys):
    run, train, info, out = trained
    found = data_issues(run, train, None, class_names=info.class_names, count=1)
    assert found["labels"]["total"] == len(diagnose.label_issues(run).issues) > len(found["labels"]["rows"])
    assert found["labels"]["rows"][0]["caption"].startswith(short(diagnose.label_issues(run).issues[0].file))
    model = keras.models.clone_model(run.model)
    known = {"model": model, "__builtins__": __builtins__}
    code = found["without"]["code"].replace("drop=issues)", "drop=issues, preflight=False, verbose=2)")
    assert "epochs=6, batch_size=9" in code  # as the run had
    exec(code.replace("image_size=(16, 16)", "image_size=(16, 16), validation=0.1, seed=3"), known)
    wrong = len(known["issues"].mislabelled)
    said = capsys.readouterr().out
    assert f"{info.counts['train'] - wrong} images ({wrong} left out by drop) of 16x16x3" in said


def test_the_page_of_a_run_from_the_shell_gives_commands_and_complete_code(trained):
    run, train, info, _ = trained
    line = "recipes train 'my photos' --out runs/a --resume"
    settings = {**run.settings, "command": line, "seed": 3}
    shell = SimpleNamespace(settings=settings, examples=run.examples, model=run.model, record=None)
    found = data_issues(shell, train, None, class_names=info.class_names, count=1)
    assert found["without"]["code"] == "recipes train 'my photos' --out runs/a_2"
    written = found["tables"].splitlines()
    assert written[:2] == ["import recipes", "from recipes import diagnose"]
    assert written[2].startswith("train, validation, info = recipes.data.load(") and "seed=3" in written[2]
    assert written[-1] == 'diagnose.image_issues(train).to_csv("images.csv")'


def doubts(own):
    history, labels = ExampleHistory(np.arange(40) % 2, 2), np.arange(40) % 2
    for _ in range(4):
        history.add(np.arange(40), np.where(labels[:, None] == [0, 1], own[:, None], 1 - own[:, None]))
    return diagnose.margins.label_issues.judge_labels(history)


@pytest.mark.parametrize("option", ["drop", "relabel"])
def test_labels_that_are_only_ambiguous_change_nothing_with_a_warning(option):
    own = np.linspace(0.6, 0.99, 40)
    own[6] = 0.45
    issues = doubts(own)
    assert [one.kind for one in issues.issues] == ["ambiguous"]
    data = np.zeros((40, 8, 8, 1), "float32"), np.arange(40) % 2
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    how = {"epochs": 1, "augment": None, "preflight": False, "monitor": False, "verbose": 0}
    with pytest.warns(UserWarning, match=rf"none of these 1 is called mislabelled.*{option}=") as told:
        recipes.train(model, data, **how, **{option: issues})
    assert told[0].filename == __file__
    recipes.train(
        model, data, **how, **{option: [3] if option == "drop" else {3: 1}}
    )  # a warning were an error


@pytest.mark.parametrize("option", ["drop", "relabel"])
def test_issues_of_another_split_are_refused(trained, folder, option):
    issues = diagnose.label_issues(trained[0])
    other, held_out, _ = recipes.data.load(folder[0], image_size=16, validation=0.1, seed=4, verbose=0)
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(
        ValueError, match=rf"{option} with label issues of the photos in train.*same folder, validation"
    ):
        recipes.train(model, other, held_out, **{option: issues}, epochs=1, verbose=0)
