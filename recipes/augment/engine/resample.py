"""Reading images at other places: whole pixels, along the axes, or anywhere; always once, from the raw values.

Every function takes images `(batch, height, width, channels)`, uint8 or float, and gives float32. A place outside
the image reads the `fill`: a color that broadcasts over the result, or "edge" (the nearest pixel), or "reflect"
(mirrored about the middle of the outermost pixel, as numpy's "reflect").
"""

import numpy as np
import tensorflow as tf

from recipes.augment.engine.operation import paint_over


def gather_pixels(images, rows, columns, fill):
    """Whole-pixel reads: `rows` (batch, out_height) and `columns` (batch, out_width), int32. Bit-exact."""
    height, width, channels = images.shape[1:]
    batch = tf.range(tf.shape(images)[0])[:, None, None]
    places = (batch * height + _inside(rows, height, fill)[:, :, None]) * width
    places = places + _inside(columns, width, fill)[:, None, :]
    pixels = tf.cast(tf.gather(tf.reshape(images, (-1, channels)), places), tf.float32)
    if isinstance(fill, str):
        return pixels
    outside = 1 - _valid(rows, height)[:, :, None] * _valid(columns, width)[:, None, :]
    return paint_over(pixels, outside[..., None], fill)


def resample_axes(images, y, x, fill):
    """Bilinear reads at the crossings of `y` (batch, out_height) and `x` (batch, out_width), float32."""
    height, width, channels = images.shape[1:]
    out_height, out_width = y.shape[1], x.shape[1]
    row, row_near, row_far = _taps(y, height, fill)
    column, column_near, column_far = _taps(x, width, fill)
    batch = tf.range(tf.shape(images)[0])[:, None] * height
    lines = tf.reshape(images, (-1, width * channels))
    near = tf.cast(tf.gather(lines, batch + _inside(row, height, fill)), tf.float32)
    far = tf.cast(tf.gather(lines, batch + _inside(row + 1, height, fill)), tf.float32)
    lines = tf.reshape(near * row_near[..., None] + far * row_far[..., None], (-1, width, channels))
    batch = tf.range(tf.shape(images)[0] * out_height)
    lines = tf.reshape(lines, (-1, out_height, width, channels))
    near = tf.gather(lines, _inside(column, width, fill), axis=2, batch_dims=1)
    far = tf.gather(lines, _inside(column + 1, width, fill), axis=2, batch_dims=1)
    result = near * column_near[:, None, :, None] + far * column_far[:, None, :, None]
    result = tf.ensure_shape(result, (None, out_height, out_width, channels))
    if isinstance(fill, str):
        return result
    covered = (row_near + row_far)[:, :, None] * (column_near + column_far)[:, None, :]
    return _add_fill(result, 1 - covered, fill)


def average_axes(images, y, x, fill):
    """`resample_axes` for shrinking: each output pixel averages the pixels it stands for, with a triangle.

    The width of the triangle is the distance of neighboring places, one pixel at least. Pixels outside have no
    weight; places outside read the fill.
    """
    height, width, channels = images.shape[1:]
    down, outside_down = _triangles(y, height, fill)
    across, outside_across = _triangles(x, width, fill)
    lines = tf.reshape(tf.cast(images, tf.float32), (-1, height, width * channels))
    lines = tf.reshape(tf.matmul(down, lines), (-1, y.shape[1], width, channels))
    result = tf.einsum("bow,bhwc->bhoc", across, lines)
    if isinstance(fill, str):
        return result
    outside = 1 - (1 - outside_down)[:, :, None] * (1 - outside_across)[:, None, :]
    return paint_over(result, outside[..., None], fill)


def _triangles(places, size, fill):
    """Weights (batch, out, size) of a triangle about each place, and 1.0 for places outside."""
    step = tf.abs(places[:, 1:2] - places[:, :1]) if places.shape[1] > 1 else tf.constant([[float(size)]])
    outside = tf.cast((places < -0.5) | (places > size - 0.5), tf.float32)
    if isinstance(fill, str) and fill == "reflect" and size > 1:
        turned = tf.math.floormod(places, 2.0 * (size - 1))
        places = tf.minimum(turned, 2.0 * (size - 1) - turned)
    else:
        places = tf.clip_by_value(places, -0.5, size - 0.5)
    distance = tf.abs(tf.range(size, dtype=tf.float32) - places[..., None])
    weights = tf.nn.relu(1 - distance / tf.maximum(step, 1.0)[..., None])
    return weights / tf.reduce_sum(weights, -1, keepdims=True), outside


def resample(images, y, x, fill):
    """Bilinear reads anywhere: `y` and `x` of shape (batch, out_height, out_width), float32."""
    height, width, channels = images.shape[1:]
    row, row_near, row_far = _taps(y, height, fill)
    column, column_near, column_far = _taps(x, width, fill)
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
    return _add_fill(result, 1 - covered, fill)


def _add_fill(result, outside, fill):
    """The missing share of each pixel, made up with the fill."""
    if isinstance(fill, np.ndarray) and not fill.any():
        return result
    return result + outside[..., None] * fill


def _taps(places, size, fill):
    """The first of two pixels around each place, and both weights (zero where a filled place is read)."""
    # Far outside, int32 would overflow and one pixel is as good as another.
    places = tf.clip_by_value(places, -3.0 * size - 2, 4.0 * size + 2)
    below = tf.floor(places)
    first = tf.cast(below, tf.int32)
    far = places - below
    near = 1 - far
    if not isinstance(fill, str):
        near = near * _valid(first, size)
        far = far * _valid(first + 1, size)
    return first, near, far


def _valid(index, size):
    """1.0 where an index is inside, else 0.0."""
    return tf.cast((index >= 0) & (index < size), tf.float32)


def _inside(index, size, fill):
    """An index that can be read, for any index."""
    if isinstance(fill, str) and fill == "reflect" and size > 1:
        index = tf.math.floormod(index, 2 * (size - 1))
        return tf.minimum(index, 2 * (size - 1) - index)
    return tf.clip_by_value(index, 0, size - 1)
