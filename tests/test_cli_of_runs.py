"""What the commands say about a finished run: results on stdout, the rest on stderr, with the shell's options."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import recipes
from recipes.cli import main
from recipes.cli.starting import without_remarks
from recipes.common.shell_words import in_shell_words
from recipes.training.before_training import BeforeTraining

random = np.random.default_rng(0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`(folder of photos, folder of the run, output of train)`."""
    root = tmp_path_factory.mktemp("shell")
    for number in range(40):
        name, level = (("bright", 200), ("dark", 60))[number % 2]
        (root / "photos" / name).mkdir(parents=True, exist_ok=True)
        pixels = np.clip(random.normal(level, 20, (12, 12, 3)), 0, 255).astype("uint8")
        Image.fromarray(pixels).save(root / "photos" / name / f"{number}.png")
    words = ["train", str(root / "photos"), "--model", "mlp", "--epochs", "2", "--augment", "none", "--json"]
    words += ["--learning-rate", "0.01", "--out", str(root / "run")]
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()):
        assert main(words) == 0
    return root / "photos", root / "run", told.getvalue()


def test_train_prints_its_result_as_json_alone(trained):
    _, folder, told = trained
    result = json.loads(told)
    assert result["run"] == str(folder) and result["epochs"] == 2
    history = recipes.load_run(folder).history
    assert result["last"]["val_accuracy"] == pytest.approx(history["val_accuracy"][-1])
    settings = json.loads((folder / "run.json").read_text())
    assert settings["augment"] is None and settings["learning_rate"] == 0.01


def test_a_run_is_evaluated_on_a_folder_as_the_command_does(trained, capsys):
    photos, folder, _ = trained
    assert main(["evaluate", str(folder), str(photos), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    run = recipes.load_run(folder)
    with pytest.warns(UserWarning, match=r"Run\.evaluate: the run was trained on 36 of these 40 images"):
        scores = run.evaluate(photos)
    assert json.loads(scores.to_json()) == told
    train, _, _ = recipes.data.load(photos, image_size=12, validation=0, verbose=0)
    assert run.evaluate(train.batch(40)).accuracy == scores.accuracy


def test_the_best_epoch_can_be_used_in_place_of_the_last(trained, tmp_path, capsys):
    photos, folder, _ = trained
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    last, best = (recipes.load_run(copy, best=best) for best in (False, True))
    kept = keras.saving.load_model(copy / "best.keras")
    images = np.zeros((2, *kept.input_shape[1:]), "float32") + [[[[9.0]]], [[[200.0]]]]
    np.testing.assert_array_equal(best.model(images), kept(images))
    assert best.history["loss"] == last.history["loss"] and best.class_names == last.class_names
    for words in (["predict", str(copy), str(photos)], ["evaluate", str(copy), str(photos)]):
        assert main([*words, "--best", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    with pytest.warns(UserWarning, match="trained on 36"):
        assert found["accuracy"] == pytest.approx(best.evaluate(photos).accuracy)
    shots = ["explain", str(copy), str(next((photos / "dark").iterdir())), "--method", "saliency"]
    assert main([*shots, "--best", "--out", str(tmp_path)]) == 0
    (copy / "best.keras").unlink()
    assert main([*shots, "--best", "--out", str(tmp_path)]) == 2
    assert "Leave --best out" in capsys.readouterr().err
    assert main(["predict", str(copy), str(photos), "--best"]) == 2
    said = capsys.readouterr().err
    assert "expects best.keras with --best" in said and "Leave --best out" in said


def test_a_report_that_is_written_again_has_what_it_had(trained, tmp_path, capsys):
    photos, folder, _ = trained
    sections = lambda page: re.findall("<h2[^>]*>(.*?)</h2>", page.read_text())  # noqa: E731
    assert main(["report", str(folder), "--out", str(tmp_path / "again.html")]) == 0
    assert sections(tmp_path / "again.html") == sections(folder / "report.html")
    assert (
        "Confusion matrix" in sections(tmp_path / "again.html")
        and "labels in doubt" not in capsys.readouterr().err
    )
    title = re.search("<h1>.*</h1>", (folder / "report.html").read_text())[0]
    assert title in (tmp_path / "again.html").read_text()
    # The images that it was trained on are called so, in the shell and in the page.
    assert main(["report", str(folder), "--data", str(photos), "--out", str(tmp_path / "all.html")]) == 0
    assert "was trained on" in capsys.readouterr().err
    assert re.search(
        r"<b>\d+</b><span class=\"quiet\">\d+ of them in training", (tmp_path / "all.html").read_text()
    )
    moved = tmp_path / "run"
    shutil.copytree(folder, moved)
    photos.rename(f"{photos}_away")
    try:
        assert main(["report", str(moved)]) == 2  # and keeps the page that has more
        assert main(["report", str(moved), "--out", str(tmp_path / "less.html")]) == 0
    finally:
        Path(f"{photos}_away").rename(photos)
    refused, told = capsys.readouterr().err.splitlines()
    assert "Give labeled images with --data FOLDER" in refused and "no names of files; --data FOLDER" in told
    assert sections(moved / "report.html") == sections(folder / "report.html")
    assert "Confusion matrix" not in sections(tmp_path / "less.html")
    less = (tmp_path / "less.html").read_text()
    assert "(4 of 4), 95 % interval 51.0% to 100.0%" in less and "No held-out examples were looked at" in less


def test_the_report_of_a_packed_file_is_written_again(trained, tmp_path, capsys):
    photos, _, _ = trained
    assert main(["pack", str(photos), str(tmp_path / "p.packed")]) == 0
    words = ["train", str(tmp_path / "p.packed"), "--model", "mlp", "--epochs", "1", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "Confusion matrix" in (tmp_path / "run/report.html").read_text()
    assert "where they were" not in capsys.readouterr().err


def test_a_run_finds_its_images_from_every_working_folder(trained, tmp_path, capsys, monkeypatch):
    photos, _, _ = trained
    project = tmp_path / "project"
    (project / "elsewhere").mkdir(parents=True)
    shutil.copytree(photos, project / "mine")
    monkeypatch.chdir(project)
    words = ["train", "mine", "--model", "mlp", "--epochs", "1", "--out", "runs/a", "--quiet"]
    assert main(words) == 0
    moved = tmp_path / "moved"
    for here, run, images in (
        (project, "runs/a", "mine"),
        (project / "elsewhere", "../runs/a", "../mine"),
        (project / "runs", "a", "../mine"),
        (tmp_path, str(project / "runs/a"), str(project / "mine")),
        (tmp_path, "moved/runs/a", "moved/mine"),  # the whole project
    ):
        if run.startswith("moved"):
            shutil.move(project, moved)
        monkeypatch.chdir(here)
        capsys.readouterr()
        assert main(["evaluate", run, images]) == 0
        assert "warning: the run was trained on 36 of these 40 images" in capsys.readouterr().err, here
        assert main(["report", run]) == 0
    assert "Confusion matrix" in (moved / "runs/a/report.html").read_text()
    shutil.copytree(moved / "runs/a", tmp_path / "alone")
    assert main(["evaluate", "alone", "moved/mine"]) == 0
    assert "not where they were, so whether they are among these was not looked at" in capsys.readouterr().err


def test_a_report_written_again_reads_the_images_as_the_command_did(trained, tmp_path, capsys):
    photos, _, _ = trained
    flat = tmp_path / "flat"
    flat.mkdir()
    rows = ["file,kind"]
    for file in sorted(photos.rglob("*.png")):
        shutil.copy(file, flat / file.name)
        rows.append(f"{file.name},{file.parent.name}")
    (flat / "broken.png").write_bytes(b"no picture")
    (tmp_path / "kinds.csv").write_text("\n".join([*rows, "broken.png,dark"]))
    words = ["train", str(flat), "--labels", str(tmp_path / "kinds.csv"), "--skip-bad", "--seed", "3"]
    words += ["--model", "mlp", "--epochs", "1", "--out", str(tmp_path / "run"), "--quiet"]
    assert main(words) == 0
    first = (tmp_path / "run/report.html").read_text()
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "labels in doubt" not in capsys.readouterr().err
    again = (tmp_path / "run/report.html").read_text()
    matrix = re.compile(r"Confusion matrix.*?</table>", re.S)
    assert matrix.search(again)[0] == matrix.search(first)[0]


def test_photos_that_a_run_was_trained_on_are_no_test_and_evaluate_says_so(trained, tmp_path, capsys):
    photos, folder, _ = trained
    shutil.copytree(folder, tmp_path / "run")
    assert main(["evaluate", str(folder), str(photos)]) == 0
    assert "trained on 36 of these 40 images" in capsys.readouterr().err
    (tmp_path / "run/examples.npz").unlink()  # as without monitors
    with pytest.warns(UserWarning, match=r"without examples\.npz"):
        assert main(["evaluate", str(tmp_path / "run"), str(photos)]) == 0
    assert "trained on 36 of these 40 images" in capsys.readouterr().err
    shutil.copytree(photos, tmp_path / "copies")
    assert main(["evaluate", str(folder), str(tmp_path / "copies")]) == 0
    assert "trained on 36 of these 40 images" in capsys.readouterr().err
    for file in (tmp_path / "copies").rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    assert main(["evaluate", str(folder), str(tmp_path / "copies")]) == 0
    assert "trained on" not in capsys.readouterr().err


def test_a_run_is_not_written_among_its_photos(trained, capsys):
    photos, _, _ = trained
    before = sorted(photos.rglob("*"))
    assert main(["train", str(photos), "--out", f"{photos}/", "--epochs", "1"]) == 2
    assert f"Write --out {photos}_run" in capsys.readouterr().err
    assert sorted(photos.rglob("*")) == before


def test_a_folder_of_some_of_the_classes_is_evaluated(trained, tmp_path, capsys):
    photos, folder, _ = trained
    shutil.copytree(photos / "dark", tmp_path / "some" / "dark")
    assert main(["evaluate", str(folder), str(tmp_path / "some")]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^bright +- +- +- +- +0$", table, re.MULTILINE) and "95 % interval" in table
    shutil.copytree(photos / "dark", tmp_path / "others" / "night")
    shutil.copytree(photos / "dark", tmp_path / "others" / "day")
    assert main(["evaluate", str(folder), str(tmp_path / "others")]) == 2
    assert "named like the run's classes: 'bright', 'dark'" in capsys.readouterr().err
    for name in ("Bright", "Dark"):
        shutil.copytree(photos / "dark", tmp_path / "capitals" / name)
    assert main(["evaluate", str(folder), str(tmp_path / "capitals")]) == 2
    assert "Rename 'Bright' to 'bright', 'Dark' to 'dark'." in capsys.readouterr().err


def test_labels_of_a_folder_may_stand_in_a_table(trained, tmp_path):
    photos, folder, _ = trained
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in photos.glob("*/*.png")]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    run = recipes.load_run(folder)
    with pytest.warns(UserWarning, match="trained on 36"):
        by_table = run.evaluate(photos, labels=tmp_path / "labels.csv")
        assert by_table.to_json() == run.evaluate(photos).to_json()
    with pytest.raises(ValueError, match="only with a folder of images"):
        run.evaluate((np.zeros((2, 12, 12, 3)), np.zeros(2, int)), labels="labels.csv")


def test_a_run_in_one_line_holds_no_arrays(trained):
    line = repr(recipes.load_run(trained[1]))
    assert line.startswith("<Run: ") and "2 epochs" in line and "val_accuracy" in line and len(line) < 400


@pytest.mark.slow
def test_train_goes_on_longer_and_ends_with_the_next_command(trained, tmp_path, capsys):
    photos, folder, _ = trained
    again = tmp_path / "run"
    again.mkdir()
    for file in folder.iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    words = ["train", str(photos), "--model", "mlp", "--augment", "none", "--learning-rate", "0.01"]
    words += ["--out", str(again)]
    assert main([*words, "--epochs", "2"]) == 2
    assert "--resume" in (said := capsys.readouterr().err) and "resume=True" not in said
    assert main([*words, "--resume", "--epochs", "3"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-1] == f"next: recipes predict {again} PHOTO.jpg"
    assert lines[-2].startswith("validation accuracy") and len(recipes.load_run(again).history["loss"]) == 3


@pytest.mark.slow
def test_explain_knows_the_layers_of_our_builders_in_a_process_of_its_own(tmp_path):
    recipes.models.resnet((32, 32, 3), 2, depth=8).save(tmp_path / "model.keras")
    Image.fromarray(np.zeros((32, 32, 3), "uint8")).save(tmp_path / "cat.png")
    command = [sys.executable, "-m", "recipes", "explain", "model.keras", "cat.png", "--out", "maps"]
    paths = os.pathsep.join([str(Path(recipes.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.suffix for path in (tmp_path / "maps").iterdir()] == [".png"]


@pytest.mark.slow
def test_every_command_on_a_run_prints_json(trained, tmp_path, capsys):
    photos, folder, _ = trained
    for words, keys in (
        (["predict", str(folder), f"{photos}/dark/*.png"], None),
        (["evaluate", str(folder), str(photos)], {"accuracy", "confusion"}),
        (
            ["explain", str(folder), str(photos / "dark"), "--method", "saliency", "--out", str(tmp_path)],
            None,
        ),
        (["export", str(folder), str(tmp_path / "m.tflite")], {"difference", "path"}),
        (["report", str(folder), "--out", str(tmp_path / "r.html"), "--data", str(photos)], {"report"}),
        (["compare", str(folder), str(folder / "../run"), "--data", str(photos)], None),
        (["pack", str(photos), str(tmp_path / "photos.packed")], {"images"}),
    ):
        if words[0] == "compare":
            os.symlink(folder, tmp_path / "other")
            words[2], keys = str(tmp_path / "other"), {"settings", "paired"}
        assert main([*words, "--json"]) == 0, words
        found = json.loads(capsys.readouterr().out)
        assert len(found) == 20 if keys is None else keys <= set(found), words
    assert (tmp_path / "r.html").stat().st_size > 10_000
    assert len(list(tmp_path.glob("*.saliency.png"))) == 20


def test_a_broken_file_among_many_stops_no_command(trained, tmp_path, capsys):
    photos, folder, _ = trained
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes((photos / "dark" / f"{2 * number + 1}.png").read_bytes())
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "notes.txt").write_text("no photo")
    assert main(["predict", str(folder), str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert len(said.out.strip().splitlines()) == 3 and "bad.jpg" in said.err and "bad.jpg" not in said.out
    assert "left out: 1 file that is no image (notes.txt)\n" in said.err
    assert main(["predict", str(folder), str(tmp_path), "--json", "--skip-bad"]) == 0
    *answers, bad, gone = json.loads(capsys.readouterr().out)
    assert len(answers) == 3 and [Path(one["file"]).name for one in (bad, gone)] == ["bad.jpg", "gone.png"]
    assert "damaged JPEG" in bad["error"] and all(len(repr(one["confidence"])) <= 8 for one in answers)
    words = ["explain", str(folder), str(tmp_path), "--method", "saliency", "--out", str(tmp_path / "maps")]
    assert main(words) == 1
    assert len(list((tmp_path / "maps").iterdir())) == 3 and "bad.jpg" in capsys.readouterr().err


def test_export_that_would_say_something_else_exits_with_1(trained, tmp_path, capsys, monkeypatch):
    _, folder, _ = trained
    monkeypatch.setattr(
        "recipes.inference.formats.read_tflite", lambda path: lambda images: np.full((len(images), 2), 0.5)
    )
    assert main(["export", str(folder), str(tmp_path / "m.tflite")]) == 1
    assert "not kept" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(["export", str(folder), str(tmp_path / "m.h5")]) == 2


def test_ctrl_c_says_how_to_go_on(trained, tmp_path, capsys, monkeypatch):
    photos, _, _ = trained
    out = tmp_path / "my run"

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", interrupted)
    words = ["train", str(photos), "--model", "mlp", "--epochs", "2", "--out", str(out), "--quiet"]
    assert main(words) == 130
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith(f"recipes train {photos} --model mlp --epochs 2 --out '{out}' --quiet --resume")
    monkeypatch.setattr(sys.modules["recipes.training.train"], "before_training", lambda *_: BeforeTraining())
    assert main([*words[:-1], "--resume"]) == 130
    assert f"nothing was kept in {out} to go on from; it begins with epoch 1" in capsys.readouterr().err


def test_a_refused_resume_names_only_what_was_typed_otherwise(trained, tmp_path, capsys):
    photos, folder, _ = trained
    begun = json.loads((folder / "run.json").read_text())["command"]
    words = shlex.split(begun)[1:]
    assert words[:2] == ["train", str(photos)]
    other = [*words[: words.index("--learning-rate")], "--image-size", "8", "--out", str(folder), "--resume"]
    assert main(other) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    told = said.partition("Received others: ")[2].partition(". Go on")[0]
    assert set(told.split("; ")) == {
        "--image-size was not given, is 8",
        "--learning-rate was 0.01, is not given",
    }
    assert (
        f"Go on with: {begun} --resume" in said and "--force" not in said
    )  # other weights: force cannot help
    assert main([*words[: words.index("--learning-rate")], "--out", str(folder), "--resume"]) == 2
    assert "add --force to your line" in capsys.readouterr().err
    # More epochs are no difference, so the line that is advised keeps them.
    longer = ["--epochs", "5", "--image-size", "8", "--out", str(folder), "--resume"]
    assert main(["train", str(photos), *longer]) == 2
    advised = capsys.readouterr().err.partition("Go on with: ")[2].partition(";")[0]
    assert "--epochs 5" in advised and "--epochs 2" not in advised and "--learning-rate 0.01" in advised


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_fewer_epochs_than_are_done_are_refused_in_words_of_the_shell(trained, capsys, force):
    _, folder, _ = trained
    words = shlex.split(json.loads((folder / "run.json").read_text())["command"])[1:]
    assert main([*words, "--epochs", "1", "--resume", *force]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--resume expects --epochs 2 or more" in said and "has done 2 epochs already" in said
    assert "Received --epochs 1. Give --epochs 2, as before, or more; or another --out" in said


def test_a_refused_resume_from_another_working_folder_gives_a_line_that_works_there(
    trained, tmp_path, capsys, monkeypatch
):
    photos, folder, _ = trained
    run = tmp_path / "here" / "run"
    shutil.copytree(folder, run)
    facts = json.loads((run / "run.json").read_text())
    del facts["sha256"]  # it is changed below
    words = shlex.split(facts["command"])[1:]
    words[1], words[words.index("--out") + 1] = photos.name, "run"  # as if typed beside both
    (run / "run.json").write_text(json.dumps({**facts, "command": shlex.join(["recipes", *words])}))
    monkeypatch.chdir(tmp_path)
    typed = ["train", str(photos), "--out", "here/run", "--image-size", "8", "--resume"]
    assert main(typed) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the data was" not in said
    (line,) = re.findall("Go on with: (.*--resume)", said)
    expected = [str(photos) if word == photos.name else word for word in words]
    expected[expected.index("--out") + 1] = "here/run"
    assert shlex.split(line) == ["recipes", *expected, "--resume"]


def test_what_is_missing_is_answered_with_what_is_near(trained, tmp_path, capsys, monkeypatch):
    photos, folder, _ = trained
    monkeypatch.chdir(folder.parent)
    (tmp_path / "a.png").write_bytes((photos / "dark" / "1.png").read_bytes())
    (tmp_path / "labels.csv").write_text("file,label")
    for words, near in (
        (["predict", "rum", "photos"], "run"),
        (["report", str(folder.parent)], str(folder)),
        (["explain", "runn", "photos"], "run"),
        (["compare", "run", "runs"], "run"),
        (["predict", "run", "fotos"], "photos"),
        (["predict", "run", "photos/drak/1.png"], "photos/dark/1.png"),
        (["evaluate", "run", "photoss"], "photos"),
        (["check", "digts"], "digits"),
        (["explain", "run", "photos/dark/1.png", "--target", "drak"], "dark"),
        (["evaluate", "run", str(tmp_path), "--labels", "lables.csv"], str(tmp_path / "labels.csv")),
    ):
        assert main(words) == 2
        assert f"Did you mean {near!r}?" in capsys.readouterr().err, words
    (tmp_path / "hell").mkdir()
    for name in ("dark", "hell"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "a.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert main(["evaluate", "run", str(tmp_path)]) == 2
    assert "Rename 'hell' to 'bright'" in capsys.readouterr().err
    for words, near in ((["trian"], "train"), (["predict", "a", "b", "--jsn"], "--json")):
        with pytest.raises(SystemExit):
            main(words)
        assert f"Did you mean {near!r}?" in capsys.readouterr().err


def test_mistakes_are_named_by_their_files(trained, tmp_path, capsys):
    photos, folder, _ = trained
    for name, other in (("dark", "bright"), ("bright", "dark")):
        shutil.copytree(photos / name, tmp_path / "swapped" / other)
    assert main(["evaluate", str(folder), str(tmp_path / "swapped"), "--html", str(tmp_path / "m.html")]) == 0
    lines = capsys.readouterr().out.partition("most confident mistakes:\n")[2].splitlines()
    predictions = recipes.load_run(folder).predict(tmp_path / "swapped")
    sure = dict(zip(predictions.files, predictions.confidence, strict=True))
    wrong = [
        file
        for file, label in zip(predictions.files, predictions.labels, strict=True)
        if Path(file).parent.name != label
    ]
    named = [line.strip().partition(": ")[0] for line in lines]
    assert len(named) == min(8, len(wrong)) and set(named) <= set(wrong)
    assert [sure[file] for file in named] == sorted((sure[file] for file in wrong), reverse=True)[
        : len(named)
    ]
    page = (tmp_path / "m.html").read_text()
    assert all(file in page for file in named)


def test_remarks_of_compiled_code_alone_are_kept_from_stderr(capfd):
    with without_remarks():
        os.write(2, b"I0000 00:00:1795881633.670724   13309 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1795881633.670724   13309 one.cc:1] an error\nhalf a line")
        print("a warning", file=sys.stderr)
    os.write(2, b"I0000 00:00:1795881633.670724   13309 port.cc:153] later\n")
    said = capfd.readouterr().err
    assert "oneDNN" not in said and "an error\nhalf a line" in said and "a warning" in said
    assert said.endswith("later\n")


def test_what_keras_prints_of_a_configuration_stays_as_it_is():
    printed = "{'learning_rate': 0.07, 'reduction': 'sum_over_batch_size'}"
    assert in_shell_words(f"{printed} with batch_size=32") == f"{printed} with --batch-size 32"


def test_messages_speak_the_words_of_the_shell():
    for python, shell in (
        ("Give resume=True to go on with that run, or another folder.", "--resume"),
        (
            "Give the same, type resume='force' to go on with the new ones, or start a new run_dir.",
            "--resume --force",
        ),
        ("recipes.train expects a run_dir it may write to.", "expects a folder for --out"),
        (
            "Finish it with recipes.train(..., run_dir=that folder, resume=True).",
            "recipes train DATA --out FOLDER",
        ),
        ("data.load expects image_size=64 for photos of several sizes.", "--image-size 64"),
        ("or type on_error='skip'", "--skip-bad"),
        (
            "rate 10 times higher; recipes.diagnose.learning_rate_range_test(model, data).plot() shows how much",
            "higher; recipes check shows",
        ),
        ("Run recipes.diagnose.preflight(model, data), look", "Run recipes check, look"),
        ("Use batches of 32: model.fit(..., batch_size=32); or", "Use batches of 32: --batch-size 32; or"),
        (
            "Stop at the best epoch\n  (early_stopping=5), augment, add weight decay or\n  dropout, or get more data.",
            "Take the network of the best epoch (--best), use a pretrained network (as at --image-size 224), or get",
        ),
        (
            "Try a larger model, less\n  regularization, or a higher learning rate; if",
            "higher --learning-rate; if",
        ),
        ("resume=True expects the arguments of the run.", "--resume expects"),
        ("labels=r'(x)', a function of the path, or a regular expression such as", "'(x)' or a regular"),
        (
            "Fill them or delete them, or name the classes wanted: class_names=[...].",
            "Fill them or delete them.",
        ),
        ("Left out, as class_names= does not name them: 'bird'.", "as the run does not know them"),
        ("class_names= names 'dog', of which no image is in 'x'.", "No image of 'dog' is in 'x'."),
        (
            "labeled examples with int8=True. Give examples=(images, labels), or a tf.data.Dataset of such pairs.",
            "--data",
        ),
    ):
        said = in_shell_words(python)
        assert shell in said and "=" not in said and "_" not in said and "---" not in said


@pytest.mark.slow
@pytest.mark.parametrize("side, model", [(224, "transfer"), (64, "resnet")])
def test_a_folder_of_photos_becomes_a_run_that_knows_them(side, model, tmp_path, capsys):
    from skimage import data as photos

    for name in ("chelsea", "coffee", "rocket"):
        photo = getattr(photos, name)()
        (tmp_path / "my_photos" / name).mkdir(parents=True)
        for number in range(60):
            top, left = (random.integers(0, length - 160) for length in photo.shape[:2])
            crop = photo[top : top + 160, left : left + random.integers(120, 161)]
            Image.fromarray(crop).save(tmp_path / "my_photos" / name / f"{number}.jpg", quality=95)
    folder, out = str(tmp_path / "my_photos"), str(tmp_path / "run")
    words = ["train", folder, "--image-size", str(side), "--out", out]
    words += ["--epochs", "2"] if side == 224 else ["--epochs", "8", "--learning-rate", "0.05"]
    assert main(words) == 0
    said = capsys.readouterr().out.strip().splitlines()
    assert said[-1].startswith("next: recipes predict") and said[-2].startswith("validation accuracy")
    run = recipes.load_run(out)
    assert run.model.name.startswith(model)
    assert main(["predict", out, folder, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    right = np.mean([entry["label"] in entry["file"].split(os.sep) for entry in found])
    assert len(found) == 180 and right > 0.8
