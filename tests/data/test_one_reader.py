"""One set of nasty photos reaches every part of the library as the same bytes: those of `data.read_image`."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import recipes
from recipes import data
from recipes.cli import main
from recipes.report.example_images import predictions

SIDE = 16
SEEN = []


@keras.saving.register_keras_serializable(package="tests")
class Seen(keras.layers.Layer):
    """Hands its input on, and remembers what it was when the model trained."""

    def call(self, inputs, training=False):
        if training and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            def remember(batch):
                SEEN.extend(batch.astype("uint8"))
                return batch

            inputs = tf.ensure_shape(tf.numpy_function(remember, [inputs], inputs.dtype), inputs.shape)
        return inputs


def save(folder, name, mode="RGB", size=(60, 40), orientation=1, **options):
    random = np.random.default_rng(sum(map(ord, name)))
    pixels = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype="uint8")).resize(
        size, Image.Resampling.BICUBIC
    )
    if mode == "RGBA":
        pixels.putalpha(Image.linear_gradient("L").resize(size))
    image = pixels if mode in ("RGB", "RGBA") else pixels.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / name).parent.mkdir(exist_ok=True)
    image.save(folder / name, exif=exif, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on photos of every kind, whose files are `run.files`."""
    root = tmp_path_factory.mktemp("nasty")
    save(root, "a/wide.jpg", size=(90, 30))
    save(root, "a/turned.jpg", size=(400, 300), orientation=6)
    save(root, "a/progressive.JPG", size=(200, 300), progressive=True, quality=60)
    save(root, "a/cmyk.jpg", mode="CMYK")
    save(root, "a/a photo \N{CAT FACE}.webp", orientation=3)
    save(root, "b/transparent.png", mode="RGBA", size=(30, 80))
    save(root, "b/palette.png", mode="P")
    save(root, "b/gray.png", mode="LA")
    save(root, "b/scan.tiff", compression="tiff_lzw", orientation=8)
    save(root, "b/bitmap.bmp", size=(17, 16))
    train, validation, info = data.load(root, SIDE, 0.2, background="olive", verbose=0)
    keras.utils.set_random_seed(3)
    layers = [
        Seen(),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(2, "softmax"),
    ]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])
    options = {
        "epochs": 1,
        "batch_size": 4,
        "augment": None,
        "preflight": False,
        "monitor": False,
        "verbose": 0,
    }
    SEEN.clear()
    folder = tmp_path_factory.mktemp("runs") / "run"
    run = recipes.train(model, train, validation, info=info, run_dir=folder, **options)
    run.files = {part: list(files) for part, files in info.files.items()}
    run.validation_set, run.folder = validation, folder
    return run


def pixels_of(files):
    return np.stack([data.read_image(file, SIDE, background="olive") for file in files])


def answers(run, files):
    """The probabilities of the two classes: a gray level in one pixel changes them by more than 1e-5."""
    return run.model.predict(pixels_of(files), verbose=0)


def test_train_sees_the_bytes_of_read_image(run):
    expected = sorted(image.tobytes() for image in pixels_of(run.files["train"]))
    assert sorted(image.tobytes() for image in SEEN) == expected


def test_the_report_shows_the_bytes_of_read_image(run):
    shown = predictions(run.model, run.validation_set, count=2)
    images = {example.image.astype("uint8").tobytes() for example in [*shown.right, *shown.wrong]}
    assert images == {image.tobytes() for image in pixels_of(run.files["validation"])}


def test_predict_reads_the_bytes_of_read_image(run):
    files = run.files["train"] + run.files["validation"]
    np.testing.assert_allclose(run.predict(files).probabilities, answers(run, files), atol=1e-6)


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_the_shell_reads_the_bytes_of_read_image(run, tmp_path, capsys, command):
    files = run.files["validation"]
    folder = str(run.folder)
    words = [command, folder, *files, "--json"] + (["--out", str(tmp_path)] if command == "explain" else [])
    assert main(words) == 0
    said = [answer["confidence"] for answer in json.loads(capsys.readouterr().out)]
    np.testing.assert_allclose(said, answers(run, files).max(axis=1), atol=1e-6)


def test_one_gray_level_of_one_pixel_would_show(run):
    image = pixels_of(run.files["validation"][:1]).astype("int16")
    image[0, 5, 7, 1] += 1 if image[0, 5, 7, 1] < 255 else -1
    moved = run.model.predict(image, verbose=0) - answers(run, run.files["validation"][:1])
    assert np.abs(moved).max() > 3e-6
