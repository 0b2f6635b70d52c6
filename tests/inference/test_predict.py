"""A finished run predicts files as it predicted the images it was trained on."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import recipes
from recipes import data, ensemble, inference
from recipes.cli import main
from recipes.inference.of_run import held_out_of

random = np.random.default_rng(0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`(folder of photos, folder of a run)`: bright and dark photos of two shapes, padded onto gray."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(24):
        name, level = (("bright", 200), ("dark", 60))[number % 2]
        (root / name).mkdir(exist_ok=True)
        shape = ((20, 40, 3), (40, 20, 3))[number // 2 % 2]
        pixels = np.clip(random.normal(level, 20, shape), 0, 255).astype("uint8")
        Image.fromarray(pixels).save(root / name / f"{number}.png")
    train, validation, info = data.load(root, 16, 0.25, fit="pad", background="gray", verbose=0)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    options = {
        "epochs": 2,
        "batch_size": 8,
        "info": info,
        "augment": None,
        "preflight": False,
        "monitor": False,
    }
    folder = tmp_path_factory.mktemp("runs") / "run"
    recipes.train(model, train, validation, run_dir=folder, verbose=0, **options)
    return root, folder


def test_a_loaded_run_finds_its_validation_data_again(trained):
    photos, folder = trained
    run = recipes.load_run(folder)
    found = np.stack([image for image, _ in held_out_of(run)])
    _, validation, _ = data.load(photos, 16, 0.25, fit="pad", background="gray", verbose=0)
    np.testing.assert_array_equal(found, np.stack([image for image, _ in validation]))


def test_images_that_were_not_held_out_are_no_validation_data(trained, tmp_path):
    photos, folder = trained
    run = recipes.load_run(folder)
    (tmp_path / "photos").mkdir()
    for name in ("bright", "dark"):
        shutil.copytree(photos / name, tmp_path / "photos" / name)
    next((tmp_path / "photos" / "dark").iterdir()).unlink()
    run.settings["data"] = str(tmp_path / "photos")  # the folder has changed since
    assert held_out_of(run) is None
    with pytest.raises(ValueError, match="held-out examples with calibrated=True"):
        run.export(tmp_path / "m.onnx", calibrated=True, verbose=False)


def test_files_are_read_as_in_training(trained):
    photos, folder = trained
    run = recipes.load_run(folder)
    predictions = run.predict(photos)
    train, _, _ = data.load(photos, 16, 0, fit="pad", background="gray", verbose=0)
    images = np.stack([image for image, _ in train])
    expected = run.model.predict(images, verbose=0)
    ours = predictions.probabilities
    np.testing.assert_allclose(ours[np.argsort(ours[:, 0])], expected[np.argsort(expected[:, 0])], atol=1e-6)
    assert predictions.class_names == ("bright", "dark") and len(predictions) == 24
    assert predictions.labels[0] == predictions.class_names[ours[0].argmax()]


def test_every_kind_of_input_gives_the_same(trained):
    photos, folder = trained
    run = recipes.load_run(folder)
    files = sorted(str(file) for file in (photos / "dark").iterdir())
    expected = run.predict(files).probabilities
    images = np.stack([data.read_image(file, 16, "pad", "gray") for file in files])
    dataset = tf.data.Dataset.from_tensor_slices((images, np.ones(len(images))))
    for given in (photos / "dark", f"{photos}/dark/*.png", images, dataset, dataset.batch(5)):
        np.testing.assert_allclose(run.predict(given).probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(run.predict(images[0]).probabilities, expected[:1], atol=1e-6)


def test_views_are_averaged(trained):
    _, folder = trained
    run = recipes.load_run(folder)
    images = random.integers(0, 256, (5, 16, 16, 3)).astype("uint8")
    both = run.predict(images, views=lambda x: [x, x[:, :, ::-1]]).probabilities
    each = [run.predict(x).probabilities for x in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-6)
    flipped = run.predict(images, views=ensemble.flips()).probabilities
    np.testing.assert_allclose(flipped, both, atol=1e-6)


def test_a_file_that_does_not_decode_stops_nothing(trained, tmp_path):
    photos, folder = trained
    run = recipes.load_run(folder)
    (tmp_path / "a.png").write_bytes((photos / "dark" / "1.png").read_bytes())
    (tmp_path / "b.jpg").write_bytes(b"text")
    with pytest.warns(UserWarning, match=r"Received .*b\.jpg: Unknown image file format") as told:
        predictions = run.predict(tmp_path)
    assert told[0].filename == __file__
    assert len(predictions) == 1 and "b.jpg: Unknown image file format" in predictions.skipped[0]
    assert run.predict(tmp_path, on_error="skip").skipped == predictions.skipped  # a warning were an error
    with pytest.raises(ValueError, match=r"b\.jpg"):
        run.predict(tmp_path, on_error="raise")
    with pytest.raises(ValueError, match="on_error='ignore'"):
        run.predict(tmp_path, on_error="ignore")
    with pytest.raises(ValueError, match=r"b\.jpg"):
        run.predict(tmp_path / "b.jpg")


def test_a_run_on_foreign_data_refuses_files(trained):
    _, folder = trained
    run = recipes.load_run(folder)
    run.settings["class_names"] = None
    with pytest.raises(ValueError, match="info=info"):
        run.predict("photo.jpg")


def test_predictions_are_written_as_tables():
    predictions = inference.Predictions(np.array([[0.25, 0.75]], "float32"), ("a", "b,c"), ("x.png",))
    assert predictions.to_csv() == 'file,label,confidence,a,"b,c"\nx.png,"b,c",0.75,0.25,0.75\n'
    assert json.loads(predictions.to_json())[0]["probabilities"] == {"a": 0.25, "b,c": 0.75}
    assert predictions.table() == "x.png  b,c 75.0%  a 25.0%"
    assert predictions.top(1) == [[("b,c", 0.75)]]
    assert "<td>x.png</td>" in predictions._repr_html_()


def test_the_shell_prints_one_line_per_photo(trained, capsys):
    photos, folder = trained
    assert main(["predict", str(folder), str(photos / "dark"), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert len(answers) == 12 and set(answers[0]["probabilities"]) == {"bright", "dark"}
    assert main(["predict", str(folder), str(photos / "nothing")]) == 2
    assert "there is no image" in capsys.readouterr().err


def test_the_shell_scores_a_folder(trained, capsys):
    photos, folder = trained
    assert main(["evaluate", str(folder), str(photos), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    run = recipes.load_run(folder)
    predictions = run.predict(photos)
    right = [label in file for label, file in zip(predictions.labels, predictions.files, strict=True)]
    assert scores["accuracy"] == pytest.approx(np.mean(right)) and scores["count"] == 24


def test_the_shell_packs_a_folder(trained, tmp_path, capsys):
    photos, _ = trained
    words = ["pack", str(photos), str(tmp_path / "p.packed"), "--image-size", "16", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 24
    assert len(data.load(tmp_path / "p.packed", validation=0, verbose=0)[0]) == 24


def test_dictionaries_of_image_and_label_feed_train():
    images, labels = random.integers(0, 256, (24, 8, 8, 3)).astype("uint8"), np.arange(24) % 2
    dataset = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels, "id": labels})
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    )
    options = {
        "epochs": 1,
        "batch_size": 8,
        "augment": None,
        "preflight": False,
        "monitor": False,
        "verbose": 0,
    }
    assert len(recipes.train(model, dataset, dataset, **options).history["val_loss"]) == 1


def test_a_misspelled_folder_of_a_run_is_answered_with_the_nearest(trained):
    _, folder = trained
    with pytest.raises(ValueError, match=rf"which is not a folder.*Did you mean '{re.escape(str(folder))}'"):
        recipes.load_run(f"{folder}s")


def test_images_of_another_size_are_refused(trained):
    _, folder = trained
    run = recipes.load_run(folder)
    for given in (np.zeros((2, 9, 9, 3)), [np.zeros((16, 16, 3)), np.zeros((9, 9, 3))]):
        with pytest.raises(ValueError, match="9"):
            run.predict(given)
