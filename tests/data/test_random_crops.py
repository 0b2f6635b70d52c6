"""Random parts of files: where they lie is read off images whose pixels say their own place."""

import json
import os
import signal

import numpy as np
import pytest
from fresh_process import FreshProcess
from PIL import Image, ImageOps

from recipes import data

HEIGHT, WIDTH, SIDE = 180, 240, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Red grows by one a column, green by one a row, once EXIF's orientation is applied."""
    root = tmp_path_factory.mktemp("places")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    upright = Image.fromarray(np.stack([columns, rows, np.full_like(rows, 128)], 2).astype("uint8"))
    back = {
        1: None,
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # Image.Transpose that turns it as it is stored
    for orientation, turn in back.items():
        stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
        exif = Image.Exif()
        exif[0x0112] = orientation
        for name in ("a", "b"):
            (root / name).mkdir(exist_ok=True)
            stored.save(root / name / f"{orientation}.png", exif=exif)
            stored.save(root / name / f"{orientation}.jpg", exif=exif, quality=100, subsampling=0)
        assert ImageOps.exif_transpose(stored).size == ((WIDTH, HEIGHT) if orientation < 5 else stored.size)
    return root


def windows(images):
    """`(top, left, height, width)` of each image by its own pixels, and how far they are from a straight line."""
    centers = (np.arange(SIDE) + 0.5) / SIDE
    found, errors = [], []
    for image in np.asarray(images, float):
        columns, rows = image[..., 0].mean(0), image[..., 1].mean(1)
        # Antialiasing averages over what is there, so at the ends of the part it leans inward.
        (height, top), (width, left) = (np.polyfit(centers[1:-1], line[1:-1], 1) for line in (rows, columns))
        found.append((top, left, height, width))
        errors.append(np.abs(image[..., 0] - columns).max())
        errors.append(np.abs(image[..., 1] - rows[:, None]).max())
    return np.array(found), max(errors)


@pytest.fixture(scope="module")
def crops(folder):
    train = data.load(folder, SIDE, 0, random_crops=(0.1, 1), verbose=0)[0]
    return [np.stack([image for image, _ in train.as_numpy_iterator()]) for _ in range(2)]


def test_parts_lie_inside_upright_images(crops):
    found, error = windows(np.concatenate(crops))
    top, left, height, width = found.T
    assert error < 4
    assert (height > 0).all() and (width > 0).all()  # neither mirrored nor on their sides
    assert min(top.min(), left.min()) > -3
    assert (top + height).max() < HEIGHT + 3 and (left + width).max() < WIDTH + 3


def test_parts_have_the_areas_with_the_shapes_of_the_paper(crops):
    _, _, height, width = windows(np.concatenate(crops))[0].T
    share = height * width / (HEIGHT * WIDTH)
    assert 0.08 < share.min() < 0.3 < 0.7 < share.max() < 1.05
    whole = (height > 0.97 * HEIGHT) | (width > 0.97 * WIDTH)
    shape = (width / height)[~whole]
    assert 0.72 < shape.min() < 0.9 < 1.1 < shape.max() < 1.4


def test_every_epoch_has_parts_of_its_own_that_the_seed_repeats(folder, crops):
    assert not np.array_equal(*crops)
    # The seeds that users set (here conftest.py) are others than when `crops` was read.
    again = data.load(folder, SIDE, 0, random_crops=(0.1, 1), verbose=0)[0]
    for expected in crops:
        np.testing.assert_array_equal([image for image, _ in again.as_numpy_iterator()], expected)


def test_held_back_images_are_read_whole(folder):
    _, validation, info = data.load(folder, SIDE, 0.25, random_crops=(0.1, 0.2), verbose=0)
    for (image, _), file in zip(validation.as_numpy_iterator(), info.files["validation"], strict=True):
        np.testing.assert_array_equal(image, data.read_image(file, SIDE))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"random_crops": (0, 1)}, "shares of the area"),
        ({"random_crops": 0.5}, "shares of the area"),
        ({"random_crops": (0.1, 1), "image_size": None}, "image_size with random_crops"),
        ({"random_crops": (0.1, 1), "cache": "memory"}, "image_size=258"),
        ({"random_crops": (0.1, 1), "name_or_folder": "digits"}, "with files of images"),
    ],
)
def test_crops_of_no_meaning_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(**{"name_or_folder": folder, "image_size": SIDE, "verbose": 0, **options})


KILLED = """
import json, sys
import keras, numpy as np
import recipes
from recipes import data
folder, run_dir, options = sys.argv[1], sys.argv[2] or None, json.loads(sys.argv[3])
train, _, info = data.load(folder, 8, 0, balance="classes", verbose=0, **options)
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        import time; time.sleep(0.05 if run_dir else 0)
        print("step", int(self.model.optimizer.iterations.numpy()), flush=True)
run = recipes.train(model, train, epochs=4, batch_size=4, info=info, run_dir=run_dir, resume=bool(run_dir),
                    monitor=False, preflight=False, verbose=0, callbacks=[Slow()])
print("weights", model.layers[-1].kernel.numpy().tobytes().hex(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"random_crops": (0.3, 1)}])
def test_a_killed_run_on_balanced_classes_ends_as_one_left_alone(folder, tmp_path, options):
    script = tmp_path / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg"):  # one class has more images than the other
        (tmp_path / "photos/a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos/b").mkdir(parents=True, exist_ok=True)
        os.link(folder / "a" / name, tmp_path / "photos/a" / name)
    for file in sorted((folder / "b").iterdir()):
        os.link(file, tmp_path / "photos/b" / file.name)

    def start(run_dir):
        return FreshProcess(script, tmp_path / "photos", run_dir, json.dumps(options), folder=tmp_path)

    killed = start(tmp_path / "run")
    killed.wait_for("step 12\n")  # in the middle of the third epoch of 5 steps
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    resumed, whole = start(tmp_path / "run"), start("")
    assert (resumed.wait(), whole.wait()) == (0, 0), resumed.complained[-3000:] + whole.complained[-3000:]
    assert "step 1\n" not in resumed.printed
    assert resumed.printed.rpartition("weights")[2] == whole.printed.rpartition("weights")[2] != ""
