"""Read images at other positions: at whole pixels, along the axes, or anywhere; always from the original values.

Every function takes images `(batch, height, width, channels)`, uint8 or float. A position outside the image reads the
`fill`: a color that broadcasts over the result, "edge" (the nearest pixel), or "reflect" (mirrored about the center of
the outermost pixel, like numpy's "reflect").
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from recipes.augment.engine.operation import paint_over

try:  # the public tf.slice would be compiled again for every position it reads
    from tensorflow.compiler.tf2xla.python import xla
except ImportError:  # this module is not part of TensorFlow's public interface
    xla = None


def gather_pixels(
    images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, fill: Any, *, keep_integers: bool = False
) -> tf.Tensor:
    """Read whole pixels at `rows` `(batch, out_height)` and `columns` `(batch, out_width)`, int32; bit-exact.

    The result is float32; with `keep_integers` it has the dtype of the images, if that dtype can hold the fill.
    """
    height, width, channels = images.shape[1:]
    batch = tf.range(tf.shape(images)[0])[:, None, None]
    places = (batch * height + _inside(rows, height, fill)[:, :, None]) * width
    places = places + _inside(columns, width, fill)[:, None, :]
    pixels = tf.gather(tf.reshape(images, (-1, channels)), places)
    if not keep_integers:
        pixels = tf.cast(pixels, tf.float32)  # here, because compiled float masks are faster than selections
    if isinstance(fill, str):
        return pixels
    outside = 1 - _valid(rows, height)[:, :, None] * _valid(columns, width)[:, None, :]
    if pixels.dtype.is_integer and fits(fill, images.dtype):
        return tf.where(outside[..., None] > 0, tf.constant(fill, images.dtype), pixels)
    return paint_over(tf.cast(pixels, tf.float32), outside[..., None], fill)


def mirror(images: tf.Tensor, down: tf.Tensor | None, across: tf.Tensor | None) -> tf.Tensor:
    """Mirror images top to bottom where `down` (bool, `(batch,)`) is True, left to right where `across` is; exact."""
    for axis, chosen in ((1, down), (2, across)):
        if chosen is not None:
            images = tf.where(chosen[:, None, None, None], tf.reverse(images, [axis]), images)
    return images


def slides(images: tf.Tensor, fill: Any, height: int, width: int) -> bool:
    """Whether `slide_pixels` can read windows of this size and is faster than `gather_pixels`.

    For small images the loop costs more than it saves; for large images the copy with margins does.
    """
    values = int(np.prod(images.shape[1:]))
    whole = images.dtype == tf.uint8 and fits(fill, images.dtype)
    known = whole or (images.dtype == tf.float32 and isinstance(fill, np.ndarray))
    return (
        xla is not None
        and known
        and height <= images.shape[1]
        and width <= images.shape[2]
        and 2048 <= values <= 8192
    )


def slide_pixels(
    images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, fill: Any, *, down: bool, across: bool
) -> tf.Tensor:
    """`gather_pixels` for compiled code, in the dtype of the images: one contiguous copy per image, then mirroring.

    A window is read as one contiguous range of memory. Where it crosses the left or right border, the range contains
    pixels of a neighboring row; these are painted over with the fill.

    Args:
        images: `(batch, height, width, channels)`.
        rows, columns: As for `gather_pixels`, in steps of 1, or of -1 in images that are mirrored.
        fill: A numpy array that `fits`.
        down, across: Whether rows, or columns, may run backwards.
    """
    height, width, channels = images.shape[1:]
    out_height, out_width, line = rows.shape[1], columns.shape[1], width * channels
    margin = tf.zeros(((height + 1) * line,), images.dtype)
    values = tf.concat([margin, tf.reshape(images, (-1,)), margin], 0)
    top = tf.clip_by_value(tf.minimum(rows[:, 0], rows[:, -1]), -height, height)
    left = tf.clip_by_value(tf.minimum(columns[:, 0], columns[:, -1]), -width, width)
    start = (1 + height + tf.range(tf.shape(images)[0]) * height + top) * line + left * channels
    # Masks of rows and of columns, whose product is the mask of the image.
    inside_rows = _bits(_inside_steps(top, out_height, height), images.dtype)
    inside_columns = _inside_steps(left, out_width, width)
    inside_columns = _bits(tf.repeat(inside_columns, channels, 1), images.dtype)
    paint = np.tile(np.asarray(fill).reshape(-1), out_width).astype(images.dtype.as_numpy_dtype)

    backwards = [places[:, 0] > places[:, -1] for places, may in ((rows, down), (columns, across)) if may]

    def one(given):
        begin, row, column, *turned = given
        window = xla.dynamic_slice(values, begin[None], [out_height * line])
        window = tf.reshape(window, (out_height, line))[:, : out_width * channels]
        inside = _both(row[:, None], column[None])
        window = tf.where(inside > 0, window, paint) if paint.any() else _both(window, inside)
        return (window, *turned)

    # Passing the flags through the loop stores them; otherwise they would be computed again for each value.
    read, *turned = tf.map_fn(
        one,
        (start, inside_rows, inside_columns, *backwards),
        fn_output_signature=(images.dtype, *[tf.bool] * len(backwards)),
    )
    turned = iter(turned)
    read = tf.reshape(read, (-1, out_height, out_width, channels))
    return mirror(read, next(turned) if down else None, next(turned) if across else None)


class Taps(NamedTuple):
    """The pixels that each output position reads along one axis, and their weights.

    Attributes:
        index: `(batch, out, taps)`, int32: indices of pixels, all inside the image.
        weight: `(batch, out, taps)`, float32.
        missing: `(batch, out)`, float32: the share that the fill adds; None if the fill is "edge" or "reflect".
    """

    index: tf.Tensor
    weight: tf.Tensor
    missing: tf.Tensor | None


def bilinear_taps(places: tf.Tensor, size: int, fill: Any) -> Taps:
    """The two pixels around each position, weighted by their distance; a color outside is read like a pixel."""
    first, near, far = _two_pixels(places, size, fill)
    index = tf.stack([_inside(first, size, fill), _inside(first + 1, size, fill)], -1)
    return Taps(index, tf.stack([near, far], -1), None if isinstance(fill, str) else 1 - (near + far))


def triangle_taps(places: tf.Tensor, size: int, fill: Any, most: float) -> Taps:
    """Pixels weighted by a triangle around each position, as in PIL's BILINEAR and tf.image's antialias.

    On each side the triangle is as wide as the distance between neighboring positions, and at least one pixel. So for
    enlarged images the taps are those of bilinear reading. Pixels outside the image have no weight; positions outside
    read the fill.

    Args:
        places: Positions in pixels, float32 `(batch, out)`, evenly spaced in each row.
        size: Number of pixels along this axis.
        fill: As for every function of this module.
        most: Upper limit of the distance between neighboring positions, in pixels.
    """
    step = tf.abs(places[:, 1:2] - places[:, :1]) if places.shape[1] > 1 else tf.constant([[float(most)]])
    step = tf.maximum(step, 1.0)
    outside = tf.cast((places < -0.5) | (places > size - 0.5), tf.float32)
    if isinstance(fill, str) and fill == "reflect" and size > 1:
        turned = tf.math.floormod(places, 2.0 * (size - 1))
        places = tf.minimum(turned, 2.0 * (size - 1) - turned)
    else:
        places = tf.clip_by_value(places, -0.5, size - 0.5)
    # An open interval of length 2 step holds at most ceil(2 step) whole numbers; 1e-4 is a tolerance for rounding.
    count = min(int(np.ceil(2 * max(most, 1.0) - 1e-4)), 2 * size + 1)
    first = tf.cast(tf.floor(places - step), tf.int32) + 1
    index = first[..., None] + tf.range(count)
    distance = tf.abs(tf.cast(index, tf.float32) - places[..., None])
    weight = tf.nn.relu(1 - distance / step[..., None]) * _valid(index, size)
    weight = weight / tf.reduce_sum(weight, -1, keepdims=True)
    index = tf.clip_by_value(index, 0, size - 1)
    if isinstance(fill, str):
        return Taps(index, weight, None)
    return Taps(index, weight * (1 - outside[..., None]), outside)


def read_rows(images: tf.Tensor, taps: Taps, fill: Any) -> tf.Tensor:
    """Weighted sums of rows, float32 `(batch, out, width, channels)`, computed from whole rows."""
    height, width, channels = images.shape[1:]
    lines = tf.reshape(images, (-1, width * channels))
    start = tf.range(tf.shape(images)[0])[:, None] * height
    total = 0.0
    for tap in range(taps.index.shape[-1]):
        line = tf.gather(lines, start + taps.index[..., tap])
        total = total + taps.weight[..., tap, None] * tf.cast(line, tf.float32)
    result = tf.reshape(total, (-1, taps.index.shape[1], width, channels))
    return _add_missing(result, taps.missing, (slice(None), slice(None), None), fill)


def read_columns(images: tf.Tensor, taps: Taps, fill: Any) -> tf.Tensor:
    """Weighted sums of columns, float32 `(batch, height, out, channels)`."""
    height, _, channels = images.shape[1:]
    total = 0.0
    for tap in range(taps.index.shape[-1]):
        column = tf.gather(images, taps.index[..., tap], axis=2, batch_dims=1)
        total = total + taps.weight[:, None, :, tap, None] * tf.cast(column, tf.float32)
    result = tf.ensure_shape(total, (None, height, taps.index.shape[1], channels))
    return _add_missing(result, taps.missing, (slice(None), None), fill)


def resample(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor, fill: Any) -> tf.Tensor:
    """Read bilinearly at positions `y` and `x`, float32 `(batch, out_height, out_width)`, in pixels.

    The result is float32 `(batch, out_height, out_width, channels)`.
    """
    height, width, channels = images.shape[1:]
    row, row_near, row_far = _two_pixels(y, height, fill)
    column, column_near, column_far = _two_pixels(x, width, fill)
    batch = tf.range(tf.shape(images)[0])[:, None, None] * height
    pixels = tf.reshape(images, (-1, channels))
    columns = _inside(column, width, fill), _inside(column + 1, width, fill)

    def line(rows):
        start = (batch + _inside(rows, height, fill)) * width
        near = tf.cast(tf.gather(pixels, start + columns[0]), tf.float32)
        far = tf.cast(tf.gather(pixels, start + columns[1]), tf.float32)
        return near * column_near[..., None] + far * column_far[..., None]

    result = line(row) * row_near[..., None] + line(row + 1) * row_far[..., None]
    if isinstance(fill, str):
        return result
    covered = (row_near + row_far) * (column_near + column_far)
    return _add_missing(result, 1 - covered, (), fill)


def nearest(values: tf.Tensor, y: tf.Tensor, x: tf.Tensor, fill: Any) -> tf.Tensor:
    """Read the nearest pixel, in the dtype of the values; halves are rounded up, as in PIL's NEAREST.

    Args:
        values: `(batch, height, width, channels)`, any dtype.
        y, x: Positions in pixels, float32, that broadcast to (batch, out_height, out_width).
        fill: "edge", "reflect", or one number.
    """
    height, width, channels = values.shape[1:]
    # Positions far outside would overflow int32. The 1e-5 is a tolerance for rounding errors at halves.
    rows, columns = (
        tf.cast(tf.floor(tf.clip_by_value(place, -3.0 * size - 2, 4.0 * size + 2) + (0.5 + 1e-5)), tf.int32)
        for place, size in ((y, height), (x, width))
    )
    start = tf.range(tf.shape(values)[0])[:, None, None] * height
    places = (start + _inside(rows, height, fill)) * width + _inside(columns, width, fill)
    pixels = tf.gather(tf.reshape(values, (-1, channels)), places)
    if isinstance(fill, str):
        return pixels
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return tf.where(inside[..., None], pixels, tf.cast(fill, values.dtype))


def fits(fill: Any, dtype: tf.DType) -> bool:
    """Whether a fill is a constant and consists of whole numbers that this integer dtype can hold."""
    if not isinstance(fill, np.ndarray):
        return False
    return bool(np.all(fill == np.floor(fill)) and fill.min() >= dtype.min and fill.max() <= dtype.max)


def _add_missing(result, missing, axes, fill):
    """Add the fill to each pixel, weighted by the missing share."""
    if missing is None or (isinstance(fill, np.ndarray) and not fill.any()):
        return result
    return result + missing[(*axes, ..., None)] * fill


def _two_pixels(places, size, fill):
    """The first of two pixels around each position, and both weights (zero for a pixel that the fill replaces)."""
    # Positions far outside would overflow int32; all of them read the same fill.
    places = tf.clip_by_value(places, -3.0 * size - 2, 4.0 * size + 2)
    below = tf.floor(places)
    first = tf.cast(below, tf.int32)
    far = places - below
    near = 1 - far
    if not isinstance(fill, str):
        near = near * _valid(first, size)
        far = far * _valid(first + 1, size)
    return first, near, far


def _inside_steps(first, count, size):
    """Which of `count` positions from `first` `(batch,)` on are inside, bool `(batch, count)`."""
    places = first[:, None] + tf.range(count)
    return (places >= 0) & (places < size)


def _bits(inside, dtype):
    """A mask in this dtype: where True, all bits set for integers and 1 for floats."""
    return tf.cast(inside, dtype) * tf.constant(1 if dtype.is_floating else dtype.max, dtype)


def _both(one, other):
    return one * other if one.dtype.is_floating else tf.bitwise.bitwise_and(one, other)


def _valid(index, size):
    """1.0 where an index is inside, else 0.0."""
    return tf.cast((index >= 0) & (index < size), tf.float32)


def _inside(index, size, fill):
    """Map any index to one inside the image, by clipping or, for the fill "reflect", by mirroring."""
    if isinstance(fill, str) and fill == "reflect" and size > 1:
        index = tf.math.floormod(index, 2 * (size - 1))
        return tf.minimum(index, 2 * (size - 1) - index)
    return tf.clip_by_value(index, 0, size - 1)
