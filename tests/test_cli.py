"""`python -m recipes`: each command ends with files, one line or a usage message, and with the right exit code."""

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

import recipes
from recipes import diagnose, explain, models, plot
from recipes.cli import _batch_size, main, on_files, train_and_check
from recipes.cli.arguments import parser
from recipes.cli.bad_input import BadInputError, InShellWords
from recipes.cli.pictures import pictures_checked
from recipes.common.shell_words import in_shell_words
from recipes.data.held_back import stratified_split
from recipes.diagnose.checks.verdict import Skipped
from recipes.training.before_training import as_trained


def status(words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def test_usage_errors_end_with_2_and_help_names_every_option(capsys):
    assert status([]) == 2
    assert status(["fly"]) == 2
    assert status(["train", "digits", "--epochs", "0"]) == 2
    assert status(["train", "digits", "--unfreeze", "soon"]) == 2
    assert "whole number" in capsys.readouterr().err
    assert status(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for option in (
        "--epochs",
        "--out",
        "--model",
        "--image-size",
        "--batch-size",
        "--resume",
        "--seed",
        "--quiet",
    ):
        assert option in text


def test_bad_input_is_one_line_with_a_status_of_its_own(tmp_path, capsys):
    for words in (
        ["train", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")],
        ["check", "no_such_name"],
        ["train", "digits", "--unfreeze", "3", "--out", str(tmp_path / "run")],
        ["explain", str(tmp_path / "no.keras"), "x.png"],
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith(f"recipes {words[0]}: ") and len(error) > 30


def test_explain_writes_one_picture_an_image(trained_cnn, digits, tmp_path, capsys):
    model, images, _ = trained_cnn
    model.save(tmp_path / "model.keras")
    for name in ("a", "b"):
        keras.utils.save_img(tmp_path / f"{name}.png", images[0], scale=False)
    words = ["explain", str(tmp_path / "model.keras"), str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert main([*words, "--out", str(tmp_path / "maps")]) == 0
    written = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["a.grad_cam.png", "b.grad_cam.png"]
    share = model.predict(images[:1], verbose=0)[0]
    assert len(written) == 2 and written[0].endswith(
        f"a.grad_cam.png: class {share.argmax()} {share.max():.0%}"
    )
    (tmp_path / "run.json").write_text(json.dumps({"class_names": [f"the {digit}" for digit in range(10)]}))
    assert (
        main([*words[:3], "--target", str((share.argmax() + 1) % 10), "--out", str(tmp_path / "maps")]) == 0
    )
    told = capsys.readouterr().out
    assert f"the {(share.argmax() + 1) % 10}, predicted the {share.argmax()} {share.max():.0%}" in told
    assert main([*words[:3], "--target", "the 3", "--out", str(tmp_path / "maps")]) == 0
    assert "the 3" in capsys.readouterr().out
    assert main([*words[:3], "--target", "the 10", "--out", str(tmp_path / "maps")]) == 2
    assert "the name of a class (the 0, the 1, " in capsys.readouterr().err
    (tmp_path / "c.png").write_bytes(b"not an image")
    assert main(["explain", str(tmp_path / "model.keras"), str(tmp_path / "c.png")]) == 2


def test_explain_writes_over_no_picture_of_another_photo(trained_cnn, digits, tmp_path):
    trained_cnn[0].save(tmp_path / "model.keras")
    words = [
        "explain",
        str(tmp_path / "model.keras"),
        "--method",
        "saliency",
        "--out",
        str(tmp_path / "maps"),
    ]
    for name in ("cat", "dog", "cat"):
        (tmp_path / name).mkdir(exist_ok=True)
        keras.utils.save_img(tmp_path / name / "1.png", trained_cnn[1][0], scale=False)
        assert main([*words, str(tmp_path / name / "1.png")]) == 0
    maps = sorted((tmp_path / "maps").iterdir())
    assert [path.name for path in maps] == ["1-2.saliency.png", "1.saliency.png"]
    with Image.open(maps[1]) as picture:
        assert os.path.join("cat", "1.png") in picture.info["Source"]


def test_a_wrong_answer_is_explained_beside_the_true_class(trained_cnn, tmp_path, capsys, monkeypatch):
    model, images, _ = trained_cnn
    model.save(tmp_path / "model.keras")
    (tmp_path / "run.json").write_text(json.dumps({"class_names": [f"the {digit}" for digit in range(10)]}))
    said = int(model.predict(images[:1], verbose=0).argmax())
    other = (said + 1) % 10
    drawn, attributions = [], plot.attributions
    monkeypatch.setattr(plot, "attributions", lambda *a, **k: drawn.append((a, k)) or attributions(*a, **k))
    for truth in (said, other):
        (tmp_path / f"the {truth}").mkdir()
        photo = tmp_path / f"the {truth}" / "1.png"
        keras.utils.save_img(photo, images[0], scale=False)
        words = [
            "explain",
            str(tmp_path / "model.keras"),
            str(photo),
            "--out",
            str(tmp_path / "maps"),
            "--json",
        ]
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)[0]["truth"] == f"the {truth}"
    ((_, maps), options) = drawn[0]
    assert len(drawn) == 1 and options["title"].startswith(os.path.join(f"the {other}", "1.png: "))
    assert [re.search(r"the \d", name)[0] for name in maps] == [f"the {said}", f"the {other}"]
    for map_, target in zip(maps.values(), (said, other), strict=True):
        np.testing.assert_allclose(map_, explain.grad_cam(model, images[:1], target, verbose=0)[0], atol=1e-5)
    assert main([*words[:-1], "--target", f"the {other}"]) == 0
    assert f"the {other}, predicted the {said}" in capsys.readouterr().out and len(drawn) == 2


def test_an_uncertain_answer_is_told_with_the_next_one():
    assert (
        on_files._words(np.array([0.3, 0.6, 0.1]), ["cat", "dog", "elk"], None)[0] == "dog 60%, then cat 30%"
    )
    assert on_files._words(np.array([0.05, 0.95]), ["cat", "dog"], None)[0] == "dog 95%"


def test_the_accuracy_of_a_run_comes_with_its_count():
    info = SimpleNamespace(task="classification", counts={"validation": 15})
    low, high = stats.binomtest(15, 15).proportion_ci(0.95, method="wilson")
    assert train_and_check._counted(1.0, info) == f" (15 of 15; 95 % interval {low:.1%} to {high:.1%})"
    assert (
        train_and_check._counted(0.51, info) == ""
    )  # not a multiple of 1/15, so the accuracy is of something else


def test_a_run_that_was_interrupted_is_told_its_own_line(tmp_path, capsys):
    settings = {"data": "my photos", "image_shape": [64, 64, 3], "epochs": 5}
    (tmp_path / "run.json").write_text(json.dumps(settings))
    assert main(["evaluate", str(tmp_path), "test_photos"]) == 2
    line = f"recipes train 'my photos' --out {tmp_path} --image-size 64 --epochs 5 --resume"
    assert line in capsys.readouterr().err


def test_explain_names_the_layer_of_a_map_wherever_it_looks_at_one(
    trained_cnn, digits, tmp_path, capsys, monkeypatch
):
    model, images, _ = trained_cnn
    model.save(tmp_path / "model.keras")
    keras.utils.save_img(tmp_path / "a.png", images[0], scale=False)
    words = [
        "explain",
        str(tmp_path / "model.keras"),
        str(tmp_path / "a.png"),
        "--out",
        str(tmp_path),
        "--json",
    ]
    drawn, overlay = [], plot.overlay

    def noted(*arguments, **options):
        drawn.append(overlay(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(plot, "overlay", noted)
    for method, layer in (("grad_cam", "conv2"), ("saliency", None)):
        assert main([*words, "--method", method]) == 0
        written = capsys.readouterr()
        assert json.loads(written.out)[0]["layer"] == layer
        assert ("grad_cam at layer conv2" in written.err) == (layer is not None)
        titles = [axes.get_title() for axes in drawn[-1].axes]
        assert ("layer conv2" in titles) == (layer is not None)


def test_check_prints_the_table_and_train_leaves_a_run_with_its_report(tmp_path, capsys):
    assert main(["check", "digits", "--model", "mlp", "--seconds", "60"]) == 0
    table = capsys.readouterr().out
    assert "data_check" in table and "initial_loss" in table and "preflight took" in table
    out = tmp_path / "run"
    assert main(["train", "digits", "--model", "mlp", "--epochs", "1", "--out", str(out), "--quiet"]) == 0
    assert {"model.keras", "history.csv", "run.json", "report.html"} <= {path.name for path in out.iterdir()}
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("validation accuracy") and "report.html" in last
    assert np.isfinite(float(last.split()[2].rstrip("%;")))
    loaded = recipes.Run.load(out)
    assert loaded.class_names == tuple("0123456789") and "load_digits" in loaded.settings["data"]


@pytest.mark.parametrize(
    ("installed", "model", "side", "channels"),
    [(True, "auto", 224, 3), (True, "resnet", 64, 3), (False, "auto", 64, 3), (True, "auto", 64, 1)],
)
def test_photos_of_several_sizes_are_read_at_a_usual_one(
    installed, model, side, channels, tmp_path, capsys, monkeypatch
):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(5):
            pixels = np.zeros((8 + number, 9, channels))
            keras.utils.save_img(tmp_path / label / f"{number}.png", pixels, scale=False)
    found = (lambda name: object()) if installed else (lambda name: None)
    monkeypatch.setattr(train_and_check, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=found)))
    given = {"data": str(tmp_path), "image_size": None, "model": model}
    options = Namespace(**given, labels=None, fit="crop", skip_bad=False, seed=0)
    # With one channel a network is built, too, because the one that `auto` stands for takes three.
    _, _, info, *_ = (train_and_check._open if channels == 1 else train_and_check._read)(options)
    assert info.image_shape == (side, side, channels) and options.image_size == side
    assert f"read at {side} x {side} pixels; --image-size" in capsys.readouterr().out


def test_small_folders_get_batches_small_enough_for_twenty_steps_an_epoch():
    assert [_batch_size(examples) for examples in (10, 142, 639, 640, 1617, 2559, 2560, 10**6)] == [
        16,
        16,
        16,
        32,
        64,
        64,
        128,
        128,
    ]


def test_train_asks_for_the_reports_library_before_it_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["train", "digits", "--out", str(tmp_path / "run")]) == 2
    assert (
        "pip install 'keras-recipes[report]'" in capsys.readouterr().err and not (tmp_path / "run").exists()
    )


def test_exit_status_of_check_tells_errors_from_skipped_checks(monkeypatch, capsys):
    from recipes import diagnose

    words = ["check", "digits", "--model", "mlp"]
    finding = diagnose.Finding("constant_inputs", "error", None, 0, "All are zero.", "Look at one.")
    skipped = diagnose.preflight.__globals__["Skipped"]("initial_loss", 2.0, 0.1)

    def outcome(findings, left_out):
        names = [check.name for check in left_out]
        made = diagnose.Preflight([], findings, {}, names, 1.0, 0.0, tuple(left_out))
        monkeypatch.setattr(diagnose, "preflight", lambda *arguments, **options: made)

    outcome([], [])
    assert main(words) == 0
    outcome([finding], [skipped])
    assert main(words) == 1
    assert "--try tries these remedies" in capsys.readouterr().out
    outcome([], [skipped])
    assert main(words) == 3
    assert main([*words, "--allow-skipped"]) == 0
    with pytest.raises(SystemExit):
        main([*words, "--seconds", "-1"])


@pytest.mark.slow
def test_explain_reads_a_network_with_our_layers_in_a_process_of_its_own(tmp_path):
    recipes.models.resnet((16, 16, 3), 2, depth=8).save(tmp_path / "model.keras")
    keras.utils.save_img(tmp_path / "photo.png", np.zeros((16, 16, 3)), scale=False)
    words = [
        "explain",
        str(tmp_path / "model.keras"),
        str(tmp_path / "photo.png"),
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    del environment["TF_CPP_MIN_LOG_LEVEL"]  # as in a user's shell
    command = [sys.executable, "-m", "recipes", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".png"]
    first, *others = done.stderr.splitlines()
    assert first == f"recipes explain: loading {tmp_path / 'model.keras'} ..."
    assert not any("absl" in line or line.startswith("I0000") for line in others)


def test_what_checks_print_for_python_is_a_command_in_the_shell(capsys):
    options = Namespace(
        data="my photos", image_size=224, fit="pad", labels=None, model="auto", skip_bad=False
    )
    stream = InShellWords(
        sys.stdout, lambda *more: train_and_check.shlex.join(train_and_check._check_command(options, *more))
    )
    left_out = (Skipped("initial_loss", 2.0, 0.1),)
    done = diagnose.Preflight([], [], {}, ["initial_loss"], 1.0, 0.0, left_out, ("gradient_check",))
    print(done.summary(), file=stream)
    print("warm-up; recipes.diagnose.learning_rate_range_test finds one.", file=stream)
    print("-> Try learning_rate=0.003; accuracy: 0.5 - learning_rate: 0.1000", file=stream)
    out = capsys.readouterr().out
    assert "recipes check 'my photos' --seconds 30 --image-size 224 --fit pad runs all" in out
    assert "they train: gradient_check; recipes check 'my photos' --image-size 224 --fit pad runs them" in out
    assert "recipes." not in out and "seconds=" not in out
    assert "warm-up; recipes check 'my photos' --image-size 224 --fit pad finds one." in out
    assert "-> Try --learning-rate 0.003; accuracy: 0.5 - learning_rate: 0.1000" in out


def test_check_compiles_what_train_would_train():
    keras.utils.set_random_seed(0)
    backbone = models.resnet((8, 8, 3), 5, depth=8)
    backbone = keras.Model(backbone.input, backbone.get_layer("top_relu").output, name="backbone")
    model = models.transfer(backbone, 3)
    options = train_and_check._how_trained(
        Namespace(batch_size=None, augment="standard", seed=0, learning_rate=3e-4, unfreeze=None),
        model,
        SimpleNamespace(counts={"train": 24}, class_names=["a", "b", "c"], kind="photos", source="x"),
        {"optimizer": "adam"},
    )
    images, labels = (
        np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).astype("uint8"),
        np.arange(24) % 3,
    )
    shown, held_out = as_trained(model, (images, labels), None, options)
    assert type(model.optimizer).__name__ == "LayerwiseAdam" and held_out is None
    assert float(model.optimizer.learning_rate) == np.float32(3e-4)
    assert len(model.trainable_variables) > 2  # of the backbone too, not of the head alone
    seen = np.concatenate([batch.numpy() for batch, _ in shown])
    np.testing.assert_array_equal(
        np.sort(seen.sum((1, 2, 3))), np.sort(images.sum((1, 2, 3)))
    )  # not augmented


def test_the_command_to_check_repeats_what_train_was_given():
    words = [
        "train",
        "my photos",
        "--learning-rate",
        "0.01",
        "--unfreeze",
        "3:stage7_*",
        "--batch-size",
        "32",
    ]
    options = parser().parse_args([*words, "--augment", "none"])
    again = parser().parse_args(train_and_check._check_command(options)[1:])
    names = ("data", "learning_rate", "unfreeze", "batch_size", "augment", "image_size", "model")
    assert all(getattr(again, name) == getattr(options, name) for name in names)


def test_each_line_of_check_on_pictures_begins_with_how_serious_it_is(tmp_path, capsys):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (24, 16, 16, 3)).astype("float32")
    pixels[1], pixels[5] = pixels[0], 3.0
    files = {"train": [f"{number}.jpg" for number in range(24)], "validation": ["a.jpg", "b.jpg"]}
    train = tf.data.Dataset.from_tensor_slices((pixels, np.arange(24) % 2))
    held_out = tf.data.Dataset.from_tensor_slices((pixels[2:4, ::-1, ::-1], np.array([0, 1])))
    info = SimpleNamespace(files=files, task="classification", class_names=["x", "y"])
    found = pictures_checked(train, held_out, info, None, {}, 1.0)
    out = capsys.readouterr().out.splitlines()
    assert found["verdicts"] == {"near_duplicates": "warning", "image_issues": "info", "label_issues": "info"}
    assert out[0].split()[:2] == ["near_duplicates", "warning"] and "1 pair of" in out[0]
    assert out[1] == "  warning: 0.jpg is a copy of 1.jpg; two labels"
    assert out[2].startswith("  what to do about two labels: look at both")
    assert out[3].split()[:5] == ["image_issues", "info", "24", "training", "images:"]
    assert all(line.startswith("  info: ") for line in out[4:-1])
    assert out[-1].startswith(
        "label_issues              info     not looked at; 24 images of 2 classes are too few"
    )


@pytest.mark.parametrize("option", ["--image-size", "--model", "--learning-rate", "--modle"])
def test_a_wrong_option_is_one_line_that_tells_where_the_help_is(option, capsys):
    assert status(["train", "digits", option, "nought"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert option in line and line.endswith("--help")


WITHOUT_KERAS = """
import importlib, sys
from recipes.cli import main

class LoadedError(BaseException): pass

def load_keras(doing):
    print(doing.split(":")[0], "keras" in sys.modules)
    raise LoadedError

for name in ("of_finished_runs", "on_files", "train_and_check"):
    importlib.import_module(f"recipes.cli.{name}").load_keras = load_keras
for words in ("check x", "train x --out y", "predict r x", "evaluate r x", "explain r x", "report r"):
    try:
        main(words.split())
    except LoadedError:
        pass
"""


def test_no_command_imports_keras_before_it_says_so(tmp_path):
    (tmp_path / "r").mkdir()
    for name in ("run.json", "model.keras", "history.csv"):
        (tmp_path / "r" / name).write_text("{}")
    (tmp_path / "x").write_text("")
    line = [sys.executable, "-c", WITHOUT_KERAS]
    out = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    commands = ("check", "train", "predict", "evaluate", "explain", "report")
    assert out.splitlines() == [f"recipes {command} False" for command in commands]


def test_resume_without_a_run_says_so_first_and_begins_one(tmp_path, capsys, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "run.json").write_text("{}")

    def loaded(doing):
        raise BadInputError("reached")

    monkeypatch.setattr(train_and_check, "load_keras", loaded)
    assert main(["train", "digits", "--resume", "--out", str(tmp_path / "phtos")]) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert (
        "a NEW run begins" in first
        and f"Did you mean '{tmp_path / 'photos'}'?" in first
        and "reached" in last
    )
    assert main(["train", "digits", "--resume", "--out", str(tmp_path / "photos")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("accuracy, words", [(5 / 15, "not surely better"), (0.25, "no better than")])
def test_an_accuracy_above_guessing_is_not_called_no_better(accuracy, words):
    assert words in train_and_check._said_of_guessing(accuracy, 0.25)


@pytest.mark.parametrize(
    "typed, model, guessing, codes, following",
    [
        (
            "--image-size 64 --model plain_cnn --seed 3",
            "plain_cnn",
            True,
            [],
            "--seed 3 --image-size 224 --out r_224",
        ),
        (
            "--image-size=64 --epochs 2 --quiet",
            "resnet",
            False,
            ["overfitting"],
            "--epochs 2 --image-size 224 --out r_224",
        ),
        (
            "--image-size 224 --seed 3",
            "transfer",
            True,
            [],
            "--image-size 224 --seed 3 --epochs 90 --out r_again",
        ),
        ("--image-size 224", "transfer", True, ["overfitting"], None),
        ("--image-size 224", "transfer", False, [], None),
    ],
)
def test_what_a_network_that_may_guess_is_told_to_train_keeps_what_was_typed(
    monkeypatch, typed, model, guessing, codes, following
):
    monkeypatch.setattr(train_and_check, "_usual_size", lambda model: 224)
    words = ["train", "p", *typed.split(), "--out", "r"]
    options = parser().parse_args(words)
    options.words = ["recipes", *words]
    network = SimpleNamespace(name=model, input_shape=(None, 64, 64, 3))
    run = SimpleNamespace(model=network, findings=[SimpleNamespace(code=code) for code in codes])
    told = train_and_check._again(options, run, guessing)
    assert told == (following and f"recipes train p {following}")
    if told:
        parser().parse_args(told.split()[1:])


def test_leaks_are_named_at_the_end_of_train(capsys):
    pair = diagnose.DuplicatePair(2, 0, "train", "validation", 1.0, True, 0, 0, "a/t.jpg", "a/v.jpg")
    train_and_check._print_leaks([pair])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "warning: leak: a/v.jpg (validation) is a mirrored copy of a/t.jpg (training)"
    assert "delete one file" in second
    train_and_check._print_leaks([])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("validation", [0.1, 0.25, 0.02])
def test_the_number_of_images_that_would_do_is_the_smallest(validation):
    halves = lambda count: np.arange(count) % 2  # noqa: E731
    with pytest.raises(ValueError, match="hold back an image") as refused:
        stratified_split(halves(2), 2, validation, 0)
    enough = int(re.search(r"at least (\d+) images", str(refused.value))[1])
    assert len(stratified_split(halves(enough), 2, validation, 0)[1]) == 1
    with pytest.raises(ValueError, match="hold back"):
        stratified_split(halves(enough - 1), 2, validation, 0)
    told = in_shell_words(refused.value)
    assert told.endswith(f"Give at least {enough} images, two or more of them of one class.")
