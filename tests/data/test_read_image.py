"""`data.read_image`: any file becomes the pixels Pillow sees, the same for every caller."""

import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data as photos

from recipes import data, inference

PHOTO = Image.fromarray(photos.chelsea())
ALPHA = Image.fromarray(
    np.dstack([photos.chelsea(), np.tile(np.linspace(0, 255, 451), (300, 1))]).astype("uint8")
)


def over_white(path):
    with Image.open(path) as image:
        rgba = ImageOps.exif_transpose(image).convert("RGBA")
    paper = Image.new("RGBA", rgba.size, "white")
    return np.array(Image.alpha_composite(paper, rgba).convert("RGB"))


def cropped(image, size):
    """The central part of Pillow's image, resized by Pillow."""
    (height, width), image = size, image.convert("RGB")
    tall = min(image.height, round(image.width * height / width))
    wide = min(image.width, round(image.height * width / height))
    left, top = (image.width - wide) // 2, (image.height - tall) // 2
    part = image.crop((left, top, left + wide, top + tall))
    return np.array(part.resize((width, height), Image.Resampling.BILINEAR))


def rms(a, b):
    return np.sqrt(np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_is_the_one_pillow_turns_to(tmp_path, kind):
    small = PHOTO.resize((61, 40))
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.{kind.lower()}"
        exif = Image.Exif()
        exif[0x0112] = orientation
        small.save(path, kind, exif=exif)
        np.testing.assert_array_equal(data.read_image(path), over_white(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_cropped_as_it_is_seen(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    PHOTO.save(tmp_path / "a.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        upright = ImageOps.exif_transpose(image)
    for size in ((290, 150), (150, 290)):
        assert rms(data.read_image(tmp_path / "a.jpg", size), cropped(upright, size)) < 0.5


@pytest.mark.parametrize(
    "name, image",
    {
        "gray_alpha.png": ALPHA.convert("LA"),
        "palette.png": PHOTO.quantize(64),
        "bilevel.png": PHOTO.convert("1"),
        "alpha.webp": ALPHA,
        "alpha.tif": ALPHA,
        "cmyk.tif": PHOTO.convert("CMYK"),
        "palette.gif": PHOTO.quantize(64),
        "palette.bmp": PHOTO.quantize(16),
        "a.jp2": PHOTO,
        "alpha.avif": ALPHA,
        "cmyk.jpg": PHOTO.convert("CMYK"),
        "icon.ico": ALPHA.resize((64, 64)),
    }.items(),
)
def test_a_file_of_any_mode_lies_over_white(tmp_path, name, image):
    options = {"lossless": True} if name.endswith("webp") else {}
    image.save(tmp_path / name, **options)
    assert np.abs(data.read_image(tmp_path / name).astype(int) - over_white(tmp_path / name)).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_transparent_palette_entry_shows_the_background(tmp_path, name):
    quantized = PHOTO.quantize(64)
    quantized.save(tmp_path / name, transparency=3)
    pixels = data.read_image(tmp_path / name, background=(1, 200, 3))
    assert (pixels[np.array(quantized) == 3] == (1, 200, 3)).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_their_upper_eight(tmp_path, name):
    values = np.arange(0, 65536, 16, dtype="uint16").reshape(64, 64)
    Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_array_equal(data.read_image(tmp_path / name, channels=1)[..., 0], values >> 8)


def test_heic_is_read_with_its_extra(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    PHOTO.save(tmp_path / "a.heic")
    np.testing.assert_array_equal(data.read_image(tmp_path / "a.heic"), over_white(tmp_path / "a.heic"))


def test_heic_without_its_extra_is_named_as_other_files_that_do_not_decode(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # importing it fails
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    PHOTO.resize((16, 16)).save(tmp_path / "b.png")
    with pytest.raises(ImportError, match=r"a\.heic.*keras-recipes\[heif\]"):
        data.read_image(tmp_path / "a.heic")
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    )
    with pytest.warns(UserWarning, match=r"a\.heic: pillow-heif is not installed.*keras-recipes\[heif\]"):
        found = inference.predict(model, tmp_path)
    assert [Path(name).name for name in found.files] == ["b.png"]
    assert "a.heic" in found.skipped[0] and "keras-recipes[heif]" in found.skipped[0]
    (tmp_path / "cat").mkdir()
    (tmp_path / "a.heic").rename(tmp_path / "cat/a.heic")
    (tmp_path / "dog").mkdir()
    (tmp_path / "b.png").rename(tmp_path / "dog/b.png")
    with pytest.raises(ValueError, match=r"(?s)a\.heic.*keras-recipes\[heif\]"):
        data.load(tmp_path, image_size=16)


@pytest.mark.parametrize("scale, sides", [(2, (400, 600)), (4, (804, 1204)), (8, (1600, 2400))])
def test_a_large_jpeg_is_read_as_pillow_does_at_that_dct_scale(tmp_path, scale, sides):
    PHOTO.resize(sides[::-1], Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=90)
    with Image.open(tmp_path / "a.jpg") as image:
        image.draft("RGB", (sides[1] // scale, sides[0] // scale))
        assert image.height == -(-sides[0] // scale)
        expected = cropped(image, (190, 190))
    assert rms(data.read_image(tmp_path / "a.jpg", 190), expected) < 1


def test_stretch_distorts_as_pillow_does(tmp_path):
    PHOTO.save(tmp_path / "a.png")
    stretched = PHOTO.resize((80, 50), Image.Resampling.BILINEAR)
    assert np.abs(data.read_image(tmp_path / "a.png", (50, 80), "stretch").astype(int) - stretched).max() <= 1


@pytest.mark.parametrize("size", [(50, 80), (81, 50), (63, 64)])
def test_pad_puts_the_whole_image_onto_the_background(tmp_path, size):
    PHOTO.save(tmp_path / "a.png")
    padded = ImageOps.pad(PHOTO, size[::-1], Image.Resampling.BILINEAR, color="teal")
    pixels = data.read_image(tmp_path / "a.png", size, "pad", "teal")
    assert np.abs(pixels.astype(int) - np.array(padded)).max() <= 1


def test_one_channel_is_the_luma_pillow_computes(tmp_path):
    PHOTO.save(tmp_path / "a.png")
    gray = data.read_image(tmp_path / "a.png", channels=1)[..., 0]
    assert np.abs(gray.astype(int) - np.array(PHOTO.convert("L"))).max() <= 1


@pytest.mark.parametrize("cache", [None, "memory", "file"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_load_gives_the_bytes_of_read_image(tmp_path, cache, fit):
    names = ("a/1.jpg", "a/2.png", "b/3.webp", "b/4.jpg")
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 1 + 5 * (number % 2)
        PHOTO.resize((300 * (1 + number % 2), 200)).save(tmp_path / name, exif=exif)
    cache = tmp_path / "cache.packed" if cache == "file" else cache
    options = {"fit": fit, "background": "navy"}
    train, _, _ = data.load(tmp_path, 90, validation=0, cache=cache, verbose=0, **options)
    loaded = sorted(image.tobytes() for image, _ in train.as_numpy_iterator())
    assert loaded == sorted(data.read_image(tmp_path / name, 90, **options).tobytes() for name in names)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jpg", b"<html></html>", "Unknown image file format"),
        ("a.png", b"", "Empty file"),
        ("a.tif", b"II*\0\x08\0\0\0", "."),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "Truncated or damaged JPEG"),
        ("a.nef", b"II*\0", r"\.nef files are not decoded"),
    ],
)
def test_what_does_not_decode_is_named_with_the_reason(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / name)) + ": .*" + message):
        data.read_image(tmp_path / name, 8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"fit": "squash"}, "'crop', 'pad' or 'stretch'"),
        ({"background": "no such color"}, "name of a color"),
        ({"background": (1, 2)}, "name of a color"),
        ({"background": 256}, "name of a color"),
        ({"channels": 2}, "channels to be 1 or 3"),
        ({"image_size": "224"}, "image_size"),
    ],
)
def test_arguments_of_no_meaning_are_refused(tmp_path, arguments, message):
    PHOTO.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        data.read_image(tmp_path / "a.png", **arguments)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="which is not there"):
        data.read_image(tmp_path / "no.jpg")
