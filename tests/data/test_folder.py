import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from recipes import data

random = np.random.default_rng(0)
COLOR = random.integers(0, 256, (6, 5, 3)).astype("uint8")
GRAY = random.integers(0, 256, (6, 5)).astype("uint8")
ALPHA = np.dstack([COLOR, np.full((6, 5), 130, "uint8")])


def over_white(image):
    """What Pillow shows of a transparent image on white paper."""
    rgba = image.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


def encode(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make(root, files):
    """Write `{"class/name": bytes}` below a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def images_by_class(dataset):
    return {int(label): image for image, label in dataset.as_numpy_iterator()}


def test_classes_files_and_pixels_are_those_of_keras_image_dataset_from_directory(tmp_path):
    sizes = {"dog": 7, "cat": 4, "10": 5, "9": 6}
    for name, count in sizes.items():
        pixels = random.integers(0, 256, (count, 6, 5, 3)).astype("uint8")
        make(tmp_path, {f"{name}/{i}.png": encode(image) for i, image in enumerate(pixels)})
    train, validation, info = data.load(tmp_path, validation=0.2)
    keras_set = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(6, 5), batch_size=None, shuffle=False, verbose=0
    )
    assert list(info.class_names) == keras_set.class_names
    ours = sorted((int(y), x.tobytes()) for part in (train, validation) for x, y in part.as_numpy_iterator())
    theirs = sorted((int(y), x.astype("uint8").tobytes()) for x, y in keras_set.as_numpy_iterator())
    assert ours == theirs
    assert info.counts == {"train": 18, "validation": 4}
    assert info.source == str(tmp_path) and info.kind == "photos"


def test_without_a_cache_files_are_decoded_when_needed(tmp_path):
    make(tmp_path, {"a/1.png": encode(COLOR), "b/1.png": encode(COLOR)})
    train, _, _ = data.load(tmp_path, validation=0, cache=None)
    make(tmp_path, {"a/1.png": encode(255 - COLOR)})
    np.testing.assert_array_equal(images_by_class(train)[0], 255 - COLOR)
    assert len(train) == 2 and train.element_spec[0] == tf.TensorSpec((6, 5, 3), tf.uint8)


@pytest.mark.parametrize(
    "content, expected",
    [
        (encode(COLOR), COLOR),
        (encode(ALPHA), over_white(Image.fromarray(ALPHA))),
        (encode(GRAY), np.dstack([GRAY] * 3)),
        (encode(Image.fromarray(ALPHA).convert("LA")), over_white(Image.fromarray(ALPHA).convert("LA"))),
        (
            encode(Image.fromarray(COLOR).quantize(30)),
            np.array(Image.fromarray(COLOR).quantize(30).convert("RGB")),
        ),
        (encode(GRAY.astype("uint16") * 256 + 77), np.dstack([GRAY] * 3)),
        (encode(GRAY > 128), np.dstack([255 * (GRAY > 128)] * 3)),
        (encode(COLOR, "BMP"), COLOR),
        (encode(COLOR, "WEBP", lossless=True), COLOR),
        (encode(ALPHA, "WEBP", lossless=True, exact=True), over_white(Image.fromarray(ALPHA))),
        (
            encode(
                Image.fromarray(COLOR).quantize(30),
                "GIF",
                save_all=True,
                append_images=[Image.fromarray(255 - COLOR).quantize(30)],
            ),
            np.array(Image.fromarray(COLOR).quantize(30).convert("RGB")),
        ),
    ],
    ids="rgb rgba gray gray-alpha palette 16-bit 1-bit bmp webp webp-alpha animated-gif".split(),
)
def test_every_flavor_of_file_becomes_the_same_three_channels(tmp_path, content, expected):
    make(tmp_path, {"a/one": content, "b/two.PNG": encode(COLOR)})
    train, _, _ = data.load(tmp_path, validation=0)
    # Blending rounds, in Pillow otherwise than here.
    np.testing.assert_allclose(
        images_by_class(train)[0].astype(int), expected, atol=content[:4] != b"BM" and 1
    )


def test_jpeg_in_color_gray_and_cmyk_is_decoded(tmp_path):
    red, green = np.meshgrid(np.linspace(30, 220, 16), np.linspace(200, 60, 16))
    smooth = np.dstack([red, green, np.full((16, 16), 90)])
    image = Image.fromarray(smooth.astype("uint8"))
    modes = {"a": "RGB", "b": "L", "c": "CMYK"}
    files = {
        f"{c}/x.JPG": encode(image.convert(m), "JPEG", quality=95, subsampling=0) for c, m in modes.items()
    }
    train, _, _ = data.load(make(tmp_path, files), validation=0)
    for label, mode in enumerate(modes.values()):
        expected = np.array(image.convert(mode).convert("RGB"), float)
        assert np.abs(images_by_class(train)[label] - expected).max() < 8


def test_a_folder_of_gray_images_has_one_channel_and_counts_as_symbols(tmp_path):
    make(tmp_path, {"a/1.png": encode(GRAY), "b/1.png": encode(Image.fromarray(ALPHA).convert("LA"))})
    train, _, info = data.load(tmp_path, validation=0)
    assert info.image_shape == (6, 5, 1) and info.kind == "symbols"
    np.testing.assert_array_equal(images_by_class(train)[0][..., 0], GRAY)


def test_image_size_takes_the_central_part_without_distorting_it(tmp_path):
    # A bright square in the middle of a wide and of a tall image; the quarters at the ends are cut off.
    wide = np.zeros((20, 40), "uint8")
    wide[5:15, 15:25] = 200
    wide[:, :9] = wide[:, -9:] = 255
    train, _, info = data.load(
        make(tmp_path, {"a/1.png": encode(wide), "b/1.png": encode(wide.T)}), image_size=10, validation=0
    )
    expected = np.zeros((10, 10))
    expected[2:8, 2:8] = 200
    for image in images_by_class(train).values():
        # Antialiasing softens the edge, whose place is pixel 2.5 and 7.5.
        np.testing.assert_array_equal(image[3:7, 3:7, 0], expected[3:7, 3:7])
        assert (image[[0, 1, -2, -1]] == 0).all() and (image[:, [0, 1, -2, -1]] == 0).all()
        np.testing.assert_array_equal(image[..., 0], image[::-1, ::-1, 0])
    assert info.image_shape == (10, 10, 1)


def test_resizing_to_the_same_size_changes_nothing_and_shrinking_averages(tmp_path):
    pixels = random.integers(0, 256, (12, 12, 3)).astype("uint8")
    make(tmp_path, {"a/1.png": encode(pixels), "b/1.png": encode(np.full((30, 12, 3), 77, "uint8"))})
    train, _, _ = data.load(tmp_path, image_size=(12, 12), validation=0)
    np.testing.assert_array_equal(images_by_class(train)[0], pixels)
    small = images_by_class(data.load(tmp_path, image_size=3, validation=0)[0])
    assert (small[1] == 77).all()
    # Antialiased like Pillow's bilinear filter, which also averages over all the pixels that shrink into one.
    pillow = np.array(Image.fromarray(pixels).resize((3, 3), Image.Resampling.BILINEAR), int)
    assert np.abs(small[0] - pillow).max() <= 1


def test_several_sizes_ask_for_image_size_and_say_which(tmp_path):
    files = {f"a/{i}.png": encode(COLOR) for i in range(3)}
    make(tmp_path, {**files, "b/odd.png": encode(COLOR[:4])})
    with pytest.raises(ValueError, match=r"image_size=\(6, 5\)") as raised:
        data.load(tmp_path)
    assert "6 x 5 (3 images" in str(raised.value) and "4 x 5 (1 images" in str(raised.value)
    assert "odd.png" in str(raised.value)


def test_all_bad_files_are_named_at_once(tmp_path):
    big = random.integers(0, 256, (40, 40, 3)).astype("uint8")
    bad = {
        "a/text.jpg": b"not an image",
        "a/empty.png": b"",
        "b/cut.jpg": encode(big, "JPEG")[:900],
        "b/cut.png": encode(big)[:2000],
        "b/photo.dng": encode(big, "TIFF"),
        "b/cut.webp": encode(big, "WEBP")[:300],
    }
    make(tmp_path, {**bad, "a/1.png": encode(COLOR), "b/1.png": encode(COLOR)})
    with pytest.raises(ValueError, match="Received 6 that do not") as raised:
        data.load(tmp_path, image_size=8)
    for name in bad:
        assert str(tmp_path / name) in str(raised.value)
    assert "1.png" not in str(raised.value)


def test_without_check_headers_are_read_and_a_file_of_another_shape_is_named_when_reached(tmp_path):
    make(tmp_path, {"a/1.png": encode(COLOR), "a/2.png": encode(COLOR[:3]), "b/1.png": encode(COLOR)})
    train, _, _ = data.load(tmp_path, check=False, validation=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a/2\.png"):
        list(train)
    for folder in ("a", "b"):
        make(tmp_path, {f"{folder}/{i}.png": encode(GRAY) for i in (1, 2)})
    make(tmp_path, {"b/2.png": encode(COLOR)})
    train, _, _ = data.load(tmp_path, check=False, validation=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"6 x 5 with 1 channels.*b/2\.png"):
        list(train)
    make(tmp_path, {"a/3.png": b"text"})
    with pytest.raises(ValueError, match=r"a/3\.png: Unknown image file format"):
        data.load(tmp_path, check=False)


def test_hidden_files_and_files_beside_the_classes_are_not_read(tmp_path):
    make(
        tmp_path,
        {
            "ä ö/ü.png": encode(COLOR),
            "日本/1.png": encode(COLOR),
            "ä ö/.DS_Store": b"x",
            "ä ö/Thumbs.db": b"x",
            ".git/config": b"x",
            "README.txt": b"x",
        },
    )
    train, _, info = data.load(str(tmp_path), validation=0)
    assert info.class_names == ("ä ö", "日本") and len(train) == len(list(train)) == 2


def test_a_class_with_one_image_keeps_it_for_training(tmp_path):
    make(tmp_path, {"a/1.png": encode(COLOR), **{f"b/{i}.png": encode(COLOR) for i in range(9)}})
    _, validation, info = data.load(tmp_path, validation=0.5)
    assert info.class_counts == (1, 4) and info.counts["validation"] == 5
    assert {int(label) for _, label in validation.as_numpy_iterator()} == {1}


@pytest.mark.parametrize(
    "files, message",
    [
        ({"1.png": encode(COLOR)}, "with 0 of them"),
        ({"a/1.png": encode(COLOR)}, "with 1 of them"),
        ({"a/1.png": encode(COLOR), "b/.hidden": b""}, r"empty folders:\n.*/b\.\n"),
        ({"train/a/1.png": encode(COLOR), "val/a/1.png": encode(COLOR)}, "train' with 1 of them"),
        ({"x/a/1.png": encode(COLOR), "x/b/1.png": encode(COLOR)}, r"data.load\('.*/x'\)"),
    ],
    ids=["no classes", "one class", "empty class", "one class in parts", "nested"],
)
def test_a_folder_laid_out_otherwise_is_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        data.load(make(tmp_path, files))


def test_a_folder_of_classes_has_no_test_part(tmp_path):
    make(tmp_path, {"a/1.png": encode(COLOR), "b/1.png": encode(COLOR)})
    with pytest.raises(ValueError, match="by its own path"):
        data.load(tmp_path, part="test")


def test_a_set_name_wins_over_a_folder_of_that_name_and_a_path_reaches_the_folder(tmp_path, monkeypatch):
    make(tmp_path, {"digits/a/1.png": encode(COLOR), "digits/b/1.png": encode(COLOR)})
    monkeypatch.chdir(tmp_path)
    assert data.load("digits")[2].image_shape == (8, 8, 1)
    assert data.load("./digits", validation=0)[2].image_shape == (6, 5, 3)
