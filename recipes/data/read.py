"""The one place where a file becomes pixels: for training, explaining, predicting and the command line."""

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf
from PIL import ImageColor

from recipes.common.nearest import did_you_mean, nearest_path
from recipes.common.validation import are_whole, is_one_of, is_whole
from recipes.data import headers
from recipes.data.in_record import container_of, cut_out_of_record
from recipes.data.jpeg_plans import (
    DCT_SCALES,
    ENDS,
    EXCHANGED,
    FROM_BELOW,
    FROM_RIGHT,
    FULL,
    INNER,
    SCALE,
    WINDOW,
    jpeg_plans,
)
from recipes.data.random_crops import crop_window, plan_of_window, upright
from recipes.data.resize import FITS, fitted, pad_to, resample

if TYPE_CHECKING:
    from recipes.common.types import Path, Size

_LUMA = (299, 587, 114)  # thousandths; ITU-R BT.601, as Pillow's mode L


@dataclass(frozen=True)
class Reader:
    """How files become images of one size, inside tf.data.

    Attributes:
        size: `(height, width)` in pixels, or None: as large as they are.
        fit: "crop", "pad" or "stretch", as in `read_image`.
        background: Red, green and blue, 0..255.
        channels: 1 or 3.
        kinds: Kinds of files that occur (constants of `recipes.data.headers`).
        turned: Whether any file has an EXIF orientation.
        scales: Numbers of the DCT scales that occur, among 1/1, 1/2, 1/4 and 1/8.
        strict: Refuse color where `channels` is 1, instead of converting it.
        expected: Shape that every image has to have, else None.
        in_records: Whether the images lie inside TFRecord files, under the names of `in_record.name_in_record`.
        areas: `(low, high)`, shares of an image's area, where random parts are read; else None.
    """

    size: tuple[int, int] | None
    fit: str = "crop"
    background: tuple[int, int, int] = (255, 255, 255)
    channels: int = 3
    kinds: tuple[int, ...] = (headers.JPEG, headers.PNG, headers.PILLOW)
    turned: bool = True
    scales: tuple[int, ...] = (0, 1, 2, 3)
    strict: bool = False
    expected: tuple[int, int, int] | None = None
    in_records: bool = False
    areas: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int | None, int | None, int]:
        """Shape of every image."""
        return (*(self.size or (None, None)), self.channels)

    def __call__(self, file: Any, kind: Any, orientation: Any, plan: Any, draws: Any = None) -> Any:
        """Path (string), kind, orientation (uint8), scalars, and a row of `jpeg_plans` -> uint8 image of `shape`.

        With `areas`, `draws` from `random_crops.draw_crop` determine the part that is read.
        """
        orientation = tf.cast(orientation, tf.int32)
        if draws is not None:
            part = crop_window(draws, self.areas, *tf.unstack(upright(plan[FULL], orientation)))
            plan = plan_of_window(part, plan[FULL], orientation, self.size)
        readers = {
            headers.JPEG: functools.partial(self._jpeg, plan=plan),
            headers.PNG: functools.partial(self._png, draws=draws),
            headers.PILLOW: functools.partial(self._other, draws=draws),
        }
        read = [functools.partial(readers[number], file, orientation) for number in self.kinds]
        if len(read) == 1:
            image = read[0]()
        else:
            image = tf.switch_case(tf.searchsorted(self.kinds, tf.cast(kind, tf.int32)[None])[0], read)
        return tf.ensure_shape(image, self.expected or self.shape)

    def _jpeg(self, file, orientation, plan):
        content = self._content(file)
        shape = tf.image.extract_jpeg_shape(content)
        fits = tf.reduce_all(shape[:2] == plan[FULL])
        if self.strict and self.channels == 1:
            fits &= shape[2] == 1
        content = _only_if(fits, content)
        if self.size is None:
            decoded = tf.io.decode_jpeg(content, channels=self.channels, dct_method="INTEGER_ACCURATE")
            return self._turned(decoded, orientation)

        def decode(scale):
            return tf.raw_ops.DecodeAndCropJpeg(
                contents=content,
                crop_window=plan[WINDOW],
                channels=self.channels,
                ratio=DCT_SCALES[scale],
                dct_method="INTEGER_ACCURATE",
            )

        if len(self.scales) == 1:
            decoded = decode(self.scales[0])
        else:
            number = tf.searchsorted(self.scales, plan[SCALE : SCALE + 1])[0]
            decoded = tf.switch_case(number, [functools.partial(decode, scale) for scale in self.scales])
        decoded = tf.ensure_shape(decoded, (None, None, self.channels))
        if self.fit != "pad" and (not self.turned or self.size[0] == self.size[1]):
            inner = self.size
        else:
            inner = tf.unstack(plan[INNER])
        ends = tf.cast(plan[ENDS], tf.float32) / tf.cast(DCT_SCALES[-1], tf.float32)
        image = self._turned(resample(decoded, ends[:2], ends[2:], inner), orientation)
        if self.fit == "pad":
            image = pad_to(image, self.size, tf.constant(self.background_color(), tf.uint8))
        return image

    def _content(self, file):
        return cut_out_of_record(file) if self.in_records else tf.io.read_file(file)

    def _png(self, file, orientation, draws):
        return self._whole(tf.io.decode_png(self._content(file), channels=0), orientation, draws)

    def _other(self, file, orientation, draws):
        return self._whole(tf.numpy_function(_decode_with_pillow, [file], tf.uint8), orientation, draws)

    def _whole(self, decoded, orientation, draws):
        """A decoded image of one to four channels -> the image wanted."""
        decoded = tf.ensure_shape(decoded, (None, None, None))
        count = tf.shape(decoded)[2]
        if self.strict and self.channels == 1:
            decoded = _only_if(count <= 2, decoded)
        image = tf.cond(
            count == self.channels,
            lambda: decoded,
            lambda: self._plain(decoded, count),
        )
        image = self._turned(tf.ensure_shape(image, (None, None, self.channels)), orientation)
        if self.size is None:
            return image
        if draws is not None:
            top, left, height, width = tf.unstack(
                crop_window(draws, self.areas, *tf.unstack(tf.shape(image)[:2]))
            )
            return resample(
                image[top : top + height, left : left + width], (0, 0), (height, width), self.size
            )
        return fitted(image, self.size, self.fit, self.background_color())

    def _plain(self, decoded, count):
        """Blend what is transparent over the background, and give it the channels wanted."""
        colors = tf.where(count <= 2, 1, 3)
        # Gray has one color, which an image of three repeats.
        color = tf.gather(decoded, tf.minimum(tf.range(3), colors - 1), axis=2)
        see_through = (count == 2) | (count == 4)
        color = tf.cond(see_through, lambda: self._blended(color, decoded[..., -1:]), lambda: color)
        if self.channels == 3:
            return color
        weighted = tf.reduce_sum(tf.cast(color, tf.int32) * _LUMA, axis=2, keepdims=True)
        return tf.cast((weighted + 500) // 1000, tf.uint8)

    def _blended(self, color, alpha):
        alpha = tf.cast(alpha, tf.int32)
        mixed = tf.cast(color, tf.int32) * alpha + tf.constant(self.background) * (255 - alpha)
        return tf.cast((mixed + 127) // 255, tf.uint8)

    def background_color(self) -> tuple[int, ...]:
        """The background, as one number for gray images."""
        if self.channels == 3:
            return self.background
        return (round(sum(w * c for w, c in zip(_LUMA, self.background, strict=True)) / 1000),)

    def _turned(self, image, orientation):
        if not self.turned:
            return image
        return tf.cond(orientation > 1, lambda: _turn(image, orientation), lambda: image)


def _turn(image, orientation):
    """Turn an image upright: EXIF 2.3, tag Orientation."""

    def directed(length, reverse):
        forward = tf.range(length)
        return tf.where(tf.gather(reverse, orientation) == 1, length - 1 - forward, forward)

    image = tf.gather(image, directed(tf.shape(image)[0], FROM_BELOW), axis=0)
    image = tf.gather(image, directed(tf.shape(image)[1], FROM_RIGHT), axis=1)
    return tf.cond(
        tf.gather(EXCHANGED, orientation) == 1, lambda: tf.transpose(image, (1, 0, 2)), lambda: image
    )


def _only_if(fits, value):
    with tf.control_dependencies([tf.Assert(fits, ["An image in color among gray ones."])]):
        return tf.identity(value)


def _decode_with_pillow(file):
    # Outside a graph TensorFlow hands an array of no dimension, not bytes.
    name = file.item() if isinstance(file, np.ndarray) else file
    pixels = np.asarray(headers.decode_with_pillow(os.fsdecode(name)))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def read_image(
    path: "Path",
    image_size: "Size | None" = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    background: "str | int | tuple[int, int, int]" = "white",
    *,
    channels: Literal[1, 3] = 3,
) -> np.ndarray:
    """Read one image as `data.load` reads it for training, byte for byte.

    JPEG (also CMYK), PNG (palette, gray, transparent, 16 bits: the upper 8 are kept), GIF and WebP (the first picture),
    BMP, TIFF, AVIF, JPEG 2000, and HEIC with the extra `heif`. The orientation in EXIF is applied. Colors are taken
    as sRGB: the profile of a wide-gamut image is ignored, so that its colors come out a little pale. A JPEG is decoded
    at 1/2, 1/4 or 1/8 of its size where that still covers `image_size`; then resized (bilinear, antialiased).

    Args:
        path: The file.
        image_size: A side or `(height, width)`, in pixels; None keeps the size of the file.
        fit: "crop" takes the largest centered part of the aspect ratio of `image_size`, so nothing is distorted; "pad"
            takes all of it and fills the rest with `background`; "stretch" distorts.
        background: What shows through transparent pixels and around padded images: the name of a color ("white",
            "#336699"), a gray 0..255, or `(red, green, blue)`.
        channels: 3, or 1 for gray (luma).

    Returns:
        uint8 `(height, width, channels)`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is not an image that decodes, or an argument is none of the above.
        TypeError: when `path` is not a path.
        ImportError: for HEIC without the extra `heif`.

    Example:
        >>> model.predict(read_image("photo.jpg", 224)[None])
    """
    check_fit("data.read_image", fit)
    size = as_size("data.read_image", image_size)
    if not is_whole(channels) or channels not in (1, 3):
        raise ValueError(
            f"data.read_image expects channels to be 1 or 3. Received channels={channels!r}. "
            "Leave it out for color."
        )
    color = as_color("data.read_image", background)
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(
            f"data.read_image expects the path of a file. Received {type(path).__name__}. "
            "Read several with a loop: np.stack([data.read_image(path, 224) for path in paths])."
        )
    name = os.path.expanduser(os.fsdecode(path))
    container = container_of(name)
    if not os.path.isfile(container):
        raise FileNotFoundError(
            f"data.read_image expects the path of an image file. Received {name!r}, which is "
            f"{'a folder' if os.path.isdir(name) else 'not there'}. Correct the path; relative paths begin at "
            f"{os.getcwd()}.{did_you_mean(None if os.path.isdir(name) else nearest_path(name, os.path.isfile))}"
        )
    try:
        found = headers.look(name)
        plan = _one_plan(found.height, found.width, found.orientation, size, fit)
        read = _one_reader(
            size,
            fit,
            color,
            int(channels),
            found.kind,
            found.orientation > 1,
            int(plan[SCALE]),
            container != name,
        )
        scalars = (tf.constant(number, tf.uint8) for number in (found.kind, found.orientation))
        return read(tf.constant(os.fsencode(name)), *scalars, tf.constant(plan)).numpy()
    except headers.MissingReaderError as error:
        raise ImportError(
            f"data.read_image expects pillow-heif for HEIC files. Received {name}, and pillow-heif is not installed. "
            "Run: pip install 'keras-recipes[heif]'"
        ) from error
    except (headers.NotAnImageError, tf.errors.OpError) as error:
        raise ValueError(
            f"data.read_image expects an image that decodes. Received {name}: {reason(error)} "
            "Repair, convert or replace it."
        ) from error


@functools.lru_cache(64)
def _one_reader(size, fit, background, channels, kind, turned, scale, in_records):
    reader = Reader(size, fit, background, channels, (kind,), turned, (scale,), in_records=in_records)
    scalar, plan = tf.TensorSpec((), tf.uint8), tf.TensorSpec((13,), tf.int32)
    signature = [tf.TensorSpec((), tf.string), scalar, scalar, plan]
    return tf.function(reader, input_signature=signature, autograph=False).get_concrete_function()


@functools.lru_cache(1024)
def _one_plan(height, width, orientation, size, fit):
    return jpeg_plans([height], [width], [orientation], size, fit)[0]


def reason(error: Exception) -> str:
    """The sentence of an error of TensorFlow or of recipes that says what is wrong with a file."""
    text = str(getattr(error, "message", None) or error)
    if "NotAnImageError: " in text:
        text = text.partition("NotAnImageError: ")[2]
    elif isinstance(error, tf.errors.OpError):
        # Between the trace of Keras' and TensorFlow's own and the name of the operation stands one sentence.
        lines = text.partition("\n\t [[")[0].split(" [Op:")[0].strip().splitlines()
        text = lines[-1].rpartition("}} ")[2] if lines else ""
    text = text.strip().splitlines()[0].strip() if text.strip() else "It does not decode."
    if text.startswith("jpeg::Uncompress failed"):
        text = "Truncated or damaged JPEG."
    return text if text.endswith(".") else f"{text}."


def why_left_out(error: Exception, file: str) -> str:
    """Why `read_image` refused a file, in a sentence or two, without its name."""
    words = " ".join(str(error).split())
    received = words.partition("Received ")[2] or words
    return received.removeprefix(f"{file}: ").removeprefix(f"{file}, and ").removeprefix(f"{file!r}, which ")


def check_fit(caller: str, fit: Any) -> None:
    """Raise a `ValueError` for another `fit` than "crop", "pad" or "stretch"."""
    if not is_one_of(fit, FITS):
        raise ValueError(
            f"{caller} expects fit to be 'crop', 'pad' or 'stretch'. Received fit={fit!r}. "
            "'crop' keeps the aspect ratio and cuts the ends off; 'pad' keeps everything."
        )


def as_size(caller: str, image_size: Any) -> tuple[int, int] | None:
    """`(height, width)` of a side or a pair, or None.

    Raises:
        ValueError: for anything else.
    """
    sides = (image_size, image_size) if is_whole(image_size) else image_size
    if sides is None:
        return None
    try:
        height, width = (int(side) if side == int(side) else 0 for side in sides)
    except (TypeError, ValueError, OverflowError):
        height = width = 0
    if min(height, width) < 1 or max(height, width) > 2**16:
        raise ValueError(
            f"{caller} expects image_size to be None, a number of pixels or (height, width), from 1 to {2**16}. "
            f"Received image_size={image_size!r}. Type for example image_size=224 or image_size=(180, 240)."
        )
    return height, width


def as_color(caller: str, background: Any) -> tuple[int, int, int]:
    """`(red, green, blue)` of a name, a gray or a triple.

    Raises:
        ValueError: for anything else.
    """
    color = None
    if isinstance(background, str):
        try:
            color = ImageColor.getrgb(background)[:3]
        except ValueError:
            color = None
    elif is_whole(background):
        color = (background,) * 3
    elif are_whole(background) and len(background) == 3:
        color = tuple(background)
    if color is None or not all(0 <= part <= 255 for part in color):
        raise ValueError(
            f"{caller} expects background to be the name of a color, a gray in 0..255 or (red, green, blue). "
            f"Received background={background!r}. Type for example background='white'."
        )
    return tuple(int(part) for part in color)
