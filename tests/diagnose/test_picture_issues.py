"""Near-duplicates and images with something wrong, against copies and faults made here."""

import io
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from skimage import data as pictures

from recipes import data, diagnose
from recipes.cli import main
from recipes.cli.pictures import _labels, pictures_checked
from recipes.diagnose.images.small_pictures import small_pictures

SIDE = 96


@pytest.fixture(scope="module")
def photos():
    """59 different parts of three photographs, uint8; one with next to nothing in it is left out."""
    rng, found = np.random.default_rng(0), []
    for name in ("chelsea", "coffee", "astronaut"):
        whole = getattr(pictures, name)()
        for row in range(4):
            for column in range(5):
                top, left = row * (whole.shape[0] - 100) // 3, column * (whole.shape[1] - 100) // 4
                side = int(rng.integers(80, 100))
                part = Image.fromarray(whole[top : top + side, left : left + side])
                found.append(np.asarray(part.resize((SIDE, SIDE))))
    return np.stack(found[:20] + found[21:])


def _jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def _stamped(image):
    image = image.copy()
    ImageDraw.Draw(image).rectangle((8, 75, 60, 86), fill=(250, 250, 250))
    return image


COPIES = {
    "compressed": _jpeg,
    "resized": lambda image: image.resize((40, 40)).resize((SIDE, SIDE)),
    "mirrored": ImageOps.mirror,
    "cropped": lambda image: image.crop((4, 2, 92, 90)).resize((SIDE, SIDE)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "framed": lambda image: ImageOps.expand(image, border=9, fill=(10, 10, 10)).resize((SIDE, SIDE)),
    "stamped": _stamped,
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found(photos, kind):
    changed = np.stack([np.asarray(COPIES[kind](Image.fromarray(photos[n]))) for n in (7, 49)])
    found = diagnose.near_duplicates(photos, changed)
    assert {(pair.second, pair.first) for pair in found.leaks} == {(0, 7), (1, 49)}


def test_one_picture_with_two_labels_is_a_conflict(photos):
    images = np.concatenate([photos, photos[3:4]])
    labels = np.zeros(60, int)
    labels[59] = 1
    found = diagnose.near_duplicates(tf.data.Dataset.from_tensor_slices((images, labels)))
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.conflict, pair.leak) == (3, 59, True, False)
    assert "1 with two labels" in str(found)
    assert found.to_csv().splitlines()[1].startswith("3,59,train,train,1.0")


@pytest.mark.parametrize(
    "scale", [lambda x: x / 255.0, lambda x: x / 127.5 - 1, lambda x: x.astype("float32")]
)
def test_value_ranges_do_not_matter(photos, scale):
    images = np.concatenate([photos, photos[3:4, :, ::-1]])
    (pair,) = diagnose.near_duplicates(scale(images)).pairs
    assert (pair.first, pair.second, pair.mirrored) == (3, 59, True)


def test_small_pictures_are_area_averages():
    image = np.random.default_rng(0).random((1, 48, 72)).astype("float32")
    expected = image.reshape(1, 24, 2, 24, 3).mean((2, 4))
    np.testing.assert_allclose(small_pictures(image), expected, atol=1e-6)


@pytest.mark.parametrize("wrong", [[], np.zeros((0, 8, 8, 3)), np.zeros((4, 8, 8, 7)), iter([1])])
def test_what_is_no_images_is_refused(wrong):
    with pytest.raises((ValueError, TypeError), match="expects"):
        diagnose.near_duplicates(wrong)


def _blur(image):
    return np.asarray(Image.fromarray(image.astype("uint8")).filter(ImageFilter.GaussianBlur(3)))


FAULTS = {
    "dark": lambda x: x * 0.1,
    "bright": lambda x: 240 + x * 0.05,
    "near_constant": lambda x: np.full_like(x, 90),
    "low_contrast": lambda x: 100 + x * 0.1,
    "blurred": _blur,
    "corrupt_lower_half": lambda x: np.concatenate([x[:50], np.full_like(x[50:], 128)]),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_named(photos, kind):
    images = photos.copy()
    images[7] = np.clip(FAULTS[kind](photos[7].astype("float64")), 0, 255)
    found = diagnose.image_issues(images)
    assert 7 in found.of(kind)
    before = diagnose.image_issues(photos)
    assert {(i.number, i.kind) for i in found.issues if i.number != 7} == {
        (i.number, i.kind) for i in before.issues if i.number != 7
    }


def test_photographs_have_no_issues(photos):
    assert len(diagnose.image_issues(photos).issues) <= 3


def test_a_mark_in_a_corner_that_goes_with_the_class_is_said():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (200, 32, 32, 3)).astype("uint8")
    labels = rng.integers(0, 2, 200)
    assert "spurious_border" not in diagnose.image_issues((images, labels)).remarks
    images[labels == 1, :4, :4] = 255
    found = diagnose.image_issues((images, labels))
    assert "spurious_border" in found.remarks
    assert found.border_accuracy > 0.95


MARKS = {
    "upper left corner": lambda draw: draw.rectangle((1, 1, 13, 13), fill=(255, 140, 0)),
    "lower edge": lambda draw: draw.rectangle((38, 84, 58, 94), fill=(0, 0, 0), outline=(255, 150, 0)),
    "right edge": lambda draw: draw.ellipse((83, 38, 95, 56), fill=(200, 20, 20)),
}


@pytest.mark.parametrize("where", MARKS)
def test_a_mark_on_most_images_of_a_class_is_said_with_its_place(photos, where):
    rng = np.random.default_rng(1)
    labels, marked = rng.integers(0, 2, 118), []
    for image, label in zip(np.concatenate([photos, photos[:, :, ::-1]]), labels, strict=True):
        drawn = Image.fromarray(image)
        if label and rng.random() < 0.9:
            MARKS[where](ImageDraw.Draw(drawn))
        marked.append(np.asarray(drawn))
    remark = diagnose.image_issues((np.stack(marked), labels)).remarks["spurious_border"]
    assert f"The {where}" in remark
    whole = np.concatenate([photos, photos[:, :, ::-1]])
    assert "spurious_border" not in diagnose.image_issues((whole, labels)).remarks


def test_a_brightness_that_tells_the_class_in_the_middle_too_is_no_spurious_border(photos):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 118)
    shift = 90.0 * (labels[:, None] - 0.5) + rng.normal(0, 15, (118, 1))
    whole = np.concatenate([photos, photos[:, :, ::-1]]) + shift[:, None, None]
    whole = np.clip(whole, 0, 255).astype("uint8")
    found = diagnose.image_issues((whole, labels))
    assert found.border_accuracy > 0.8 and "spurious_border" not in found.remarks
    whole[labels == 1, :14, :14] = 255
    assert "The upper left corner" in diagnose.image_issues((whole, labels)).remarks["spurious_border"]


@pytest.mark.parametrize(
    "change, kind",
    [
        (lambda x: x / 255.0**2, "value_range"),
        (lambda x: (x > 99).astype("uint8"), "value_range"),
        (lambda x: x.astype("uint16") * 256, "value_range"),
    ],
)
def test_a_range_that_is_none_is_said(photos, change, kind):
    assert kind in diagnose.image_issues(change(photos)).remarks
    assert kind not in diagnose.image_issues(photos / 255.0).remarks


def test_swapped_channels_are_said(photos):
    warm = photos.astype("float64") * [1.0, 0.9, 0.6]
    assert "channel_order" not in diagnose.image_issues(warm).remarks
    assert "channel_order" in diagnose.image_issues(warm[..., ::-1]).remarks


def test_a_panorama_among_others_is_said():
    sizes = [(20, 30)] * 9 + [(10, 60)]
    images = tf.data.Dataset.from_generator(
        lambda: (np.zeros((*size, 3), "uint8") for size in sizes),
        output_signature=tf.TensorSpec((None, None, 3), "uint8"),
    )
    assert diagnose.image_issues(images).of("odd_aspect_ratio") == [9]


def test_numbers_that_are_not_finite_are_said(photos):
    images = photos[:4].astype("float32")
    images[2, 5, 5] = np.nan
    assert diagnose.image_issues(images).of("not_finite") == [2]


def test_a_class_from_another_camera_is_said(tmp_path):
    """Noise of two classes: what tells them is a date in the file, or nothing."""
    rng = np.random.default_rng(0)
    labels, said = rng.integers(0, 2, 120), {}
    for apart in (True, False):
        files = []
        for number, label in enumerate(labels if apart else rng.permutation(labels)):
            exif = Image.Exif()
            exif[306] = f"20{15 + 5 * int(label)}:03:04 05:06:07"
            files.append(str(tmp_path / f"{apart}{number}.jpg"))
            Image.fromarray(rng.integers(0, 255, (8, 8, 3)).astype("uint8")).save(files[-1], exif=exif)
        images = rng.integers(0, 255, (120, 8, 8, 3)).astype("uint8")
        said[apart] = "spurious_metadata" in diagnose.image_issues((images, labels), files=files).remarks
    assert said == {True: True, False: False}


def test_rare_classes_are_said(photos):
    labels = np.zeros(59, int)
    labels[:3] = 1
    assert "class 1 3" in diagnose.image_issues((photos, labels)).remarks["class_imbalance"]


def test_the_shell_names_the_files(photos, tmp_path, capsys):
    for number, image in enumerate(photos[:40]):
        (tmp_path / f"{number % 2}").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"{number % 2}/{number:02}.png")
    Image.fromarray(photos[4]).save(tmp_path / "1/copy.png")
    Image.new("RGB", (SIDE, SIDE), (3, 3, 3)).save(tmp_path / "0/black.png")
    assert main(["check", str(tmp_path), "--model", "mlp", "--seconds", "1", "--allow-skipped"]) in (0, 1)
    said = capsys.readouterr().out
    assert "1 with two labels" in said
    assert "04.png" in said and "copy.png" in said
    assert "black.png: near constant" in said


def test_a_look_at_a_folder_names_the_files_with_doubtful_labels(digits, tmp_path, capsys):
    images, labels = digits
    zeros_and_ones = np.flatnonzero(labels < 2)[:200]
    wrong = set(zeros_and_ones[5:50:9].tolist())
    for number in zeros_and_ones:
        folder = tmp_path / str(labels[number] ^ (int(number) in wrong))
        folder.mkdir(exist_ok=True)
        Image.fromarray(images[number, ..., 0]).save(folder / f"{number}.png")
    train, _, info = data.load(tmp_path, validation=0, verbose=0)
    found = pictures_checked(train, None, info, None, {}, 20.0)
    named = {int(Path(row["file"]).stem) for row in found["labels"] if row["kind"] == "mislabelled"}
    assert named <= wrong
    assert len(named) >= 4
    said = capsys.readouterr().out
    assert all(
        f"{number}.png: given {1 - labels[number]}, looks like {labels[number]}" in said for number in named
    )


def test_labels_that_a_network_can_only_guess_are_not_judged():
    random, count = np.random.default_rng(0), 80
    labels = (np.arange(count) % 2).tolist()
    looked = SimpleNamespace(labels={"train": labels}, pictures={"train": random.random((count, 16, 16))})
    names = {"train": [f"{number}.png" for number in range(count)]}
    info = SimpleNamespace(task="classification", class_names=("cat", "dog"), files=names)
    verdict, said, rows = _labels(None, looked, info, None, {}, 4.0)
    assert (verdict, rows) == ("info", []) and said.startswith("nothing can be said of 80 images")
    looked.pictures["train"][::2] /= 2
    verdict, said, rows = _labels(None, looked, info, None, {}, 4.0)
    assert {row["kind"] for row in rows} <= {"ambiguous"}
    assert "0 probably mislabelled" in said and verdict == ("info" if rows else "ok")


def test_gray_pictures_that_tell_the_classes_badly_call_no_label_wrong():
    random, labels = np.random.default_rng(1), np.arange(200) % 2
    pixels = random.random((200, 16, 16)) + 0.02 * (labels * 2 - 1)[:, None, None]
    looked = SimpleNamespace(labels={"train": labels.tolist()}, pictures={"train": pixels})
    names = {"train": [f"{number}.png" for number in range(200)]}
    info = SimpleNamespace(task="classification", class_names=("cat", "dog"), files=names)
    verdict, said, rows = _labels(None, looked, info, None, {}, 4.0)
    assert (verdict, rows) == ("info", []) and "a small network on gray pictures, which is too little" in said


def test_labels_of_photos_are_judged_by_a_pretrained_network_at_any_size(photos, tmp_path, capsys):
    for number, photo in enumerate(photos):
        folder = tmp_path / ("cat" if number < 20 else "other")
        folder.mkdir(exist_ok=True)
        Image.fromarray(photo).save(folder / f"{number}.png")
    (tmp_path / "cat" / "7.png").rename(tmp_path / "other" / "7.png")
    train, _, info = data.load(tmp_path, image_size=32, validation=0, verbose=0)
    found = pictures_checked(train, None, info, None, {}, 20.0)
    assert "on features of a pretrained one" in capsys.readouterr().out
    wrong = [Path(row["file"]).name for row in found["labels"] if row["kind"] == "mislabelled"]
    assert "7.png" in wrong and len(wrong) <= 3


def test_an_order_that_is_new_at_every_reading_is_said(photos):
    labels = np.arange(len(photos)) % 2
    shuffled = tf.data.Dataset.from_tensor_slices((photos, labels)).shuffle(100).batch(8).prefetch(1)
    fixed = tf.data.Dataset.from_tensor_slices((photos, labels)).shuffle(100, reshuffle_each_iteration=False)
    assert "train shuffles anew" in str(diagnose.near_duplicates(shuffled))
    assert "order" in diagnose.image_issues(shuffled).remarks
    assert not diagnose.near_duplicates(fixed).remarks
    assert "order" not in diagnose.image_issues(fixed).remarks


def test_two_scales_in_one_set_are_said(photos):
    mixed = photos.astype("float32")
    mixed[::2] /= 255
    assert "one source was divided by 255" in diagnose.image_issues(mixed).remarks["value_range"]


def test_labels_that_are_no_classes_are_said(photos):
    targets = np.random.default_rng(0).normal(size=(len(photos), 3))
    assert "labels" in diagnose.image_issues((photos, targets)).remarks
    assert not diagnose.image_issues(photos).remarks


def test_a_copy_with_a_pixel_that_is_not_finite_is_found(photos):
    images = np.concatenate([photos, photos[3:4]]).astype("float32")
    images[3, 5, 5] = np.nan
    found = diagnose.near_duplicates(images)
    assert (3, len(photos)) in [(pair.first, pair.second) for pair in found.pairs]
    assert any("1 with NaN or infinity" in remark for remark in found.remarks)


def test_what_is_not_looked_for_in_small_pictures_is_said(photos):
    assert any(
        "agree to 99.7 %" in remark for remark in diagnose.near_duplicates(photos[:, ::4, ::4]).remarks
    )


def test_a_row_of_two_pictures_is_not_taken_for_images_with_labels(photos):
    with pytest.raises(TypeError, match="Stack them with np.stack"):
        diagnose.near_duplicates([photos[0], photos[1]])


def test_files_for_other_images_are_refused(photos):
    with pytest.raises(ValueError, match="Received 1 for"):
        diagnose.image_issues((photos, np.arange(len(photos)) % 2), files=["a.jpg"])


def test_copies_are_named_by_the_files_that_they_were_read_from(photos, tmp_path):
    for number, photo in enumerate([*photos[:20], photos[3][:, ::-1]]):
        folder = tmp_path / ("val" if number == 20 else "train") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(folder / f"{number}.png", photo, scale=False)
    (tmp_path / "val" / "b").mkdir()
    keras.utils.save_img(tmp_path / "val" / "b" / "21.png", photos[25], scale=False)
    train, validation, info = data.load(tmp_path)
    new, old = str(tmp_path / "val" / "a" / "20.png"), str(tmp_path / "train" / "b" / "3.png")
    for parts in ((train, validation), (train.batch(8).prefetch(1), validation.take(50).batch(1))):
        found = diagnose.near_duplicates(*parts)
        (pair,) = found.pairs
        assert {pair.first_file, pair.second_file} == {new, old}
        assert f"{new} (validation) is a mirrored copy of {old} (training)" in str(found)
        assert "delete one file" in str(found)
    (pair,) = diagnose.near_duplicates(train.shuffle(9), validation).pairs
    assert (pair.first_file, pair.second_file) == (None, new)
    assert pair.words().startswith(f"{new} (validation) is a mirrored copy of train[")
    (pair,) = diagnose.near_duplicates(photos[:20], photos[3:4]).pairs
    assert pair.words() == "validation[0] is a copy of train[3]" and pair.first_file is None
