"""Move the annotations of an image together with its pixels: masks, heat maps, weights, boxes and keypoints."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import tensorflow as tf

from recipes.augment.engine import resample as reads
from recipes.augment.engine.geometry import Read, move_points, split_reads
from recipes.augment.engine.mixing import mix_images
from recipes.augment.engine.plan import Plan, moved_by_filters

#: Order and unit of the four numbers of a box: fractions of the sides with "rel", otherwise pixels from the edge.
BoxFormat: TypeAlias = Literal["rel_yxyx", "rel_xyxy", "yxyx", "xyxy", "xywh", "cxcywh", "rel_cxcywh"]
#: Order and unit of a point: fractions of the sides with "rel", otherwise pixels, where 0 is the first pixel's center.
PointFormat: TypeAlias = Literal["yx", "xy", "rel_yx", "rel_xy"]
BOX_FORMATS: tuple[str, ...] = get_args(BoxFormat)
POINT_FORMATS: tuple[str, ...] = get_args(PointFormat)

_ALONG_AN_EDGE = 32


def move_pixels(
    plan: Plan,
    roles: Sequence[str],
    parts: Sequence[tf.Tensor],
    draws: Any,
    *,
    mask_fill: float,
    classes: int | None,
) -> list[tf.Tensor]:
    """Move and mix masks, heat maps and pixel weights of shape `(batch, height, width[, channels])`.

    Masks and weights take the nearest pixel and keep their dtype. Heat maps are resampled bilinearly, as the images
    are. Mixed masks become soft one-hot masks, float32 `(batch, height, width, classes)`.
    """
    moved = []
    for role, part in zip(roles, parts, strict=True):
        flat = part.shape.rank == 3
        values = part[..., None] if flat else part
        fill = mask_fill if role == "masks" else 0.0
        mixed = False
        for slots in plan.passes:
            geometry = [slot for slot in slots if slot.op.stage == "geometry"]
            for read in [*split_reads(geometry), *map(Read, moved_by_filters(slots))]:
                values = _read(values, read, role, fill, draws)
            for slot in slots:
                if slot.op.stage == "mix":
                    values, mixed = mix_images(slot, mask_shares(values, classes), draws)[0], True
        moved.append(values[..., 0] if flat and not (mixed and values.shape[-1] != 1) else values)
    return moved


def mask_shares(masks: tf.Tensor, classes: int | None) -> tf.Tensor:
    """Convert masks to float32 `(batch, height, width, classes)`, which can be blended; class numbers become one-hot.

    A number that is not a class, such as 255 for "ignore", becomes zeros.
    """
    if masks.shape[-1] == 1 and classes is not None:
        return tf.one_hot(tf.cast(masks[..., 0], tf.int32), classes)
    return tf.cast(masks, tf.float32)


def _read(values: tf.Tensor, read: Read, role: str, fill: float, draws: Any) -> tf.Tensor:
    batch = tf.shape(values)[0]
    outside = read.fill if isinstance(read.fill, str) and read.fill in ("edge", "reflect") else fill
    if read.turns:
        y, x = read.places(draws, batch)
    else:
        y, x = (tf.cast(places, tf.float32) for places in read.lines(draws, batch))
        y, x = y[:, :, None], x[:, None, :]
    if role != "heatmaps" or read.exact:
        return reads.nearest(values, y, x, outside)
    color = outside if isinstance(outside, str) else np.zeros((1, 1, 1, 1), "float32")
    if read.turns:
        moved = reads.resample(values, y, x, color)
    else:
        rows = reads.read_rows(values, read.taps(y[:, :, 0], read.first.height, color), color)
        moved = reads.read_columns(rows, read.taps(x[:, 0], read.first.width, color), color)
    return tf.cast(moved, values.dtype)


def move_boxes(
    plan: Plan, boxes: tf.Tensor, draws: Any, *, form: str, smallest_share: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Move boxes, cut them at the borders of the image, and tell which of them are kept.

    A moved box is the smallest box, with sides along the axes, around the moved outline. A box becomes a row of -1 when
    less than `smallest_share` of its area is inside the image, when it is empty, or when it was a row of -1.

    Returns:
        `(boxes, kept)`: float32 `(batch, n, 4)` in the format `form`, and bool `(batch, n)`.
    """
    slots = plan.geometry()
    edges = to_edges(boxes, form, plan.first.height, plan.first.width)
    given = (edges[..., 2] > edges[..., 0]) & (edges[..., 3] > edges[..., 1])
    given &= ~tf.reduce_all(tf.cast(boxes, tf.float32) == -1, -1)
    middle = (plan.first.height / 2, plan.first.width / 2)
    curved = any(slot.op.bends for slot in slots)
    y, x = outline(edges, middle) if curved else corners(edges)
    batch, count = tf.shape(y)[0], tf.shape(y)[1]
    y, x = move_points(slots, draws, *(tf.reshape(place - 0.5, (batch, -1)) for place in (y, x)))
    y, x = (tf.reshape(place + 0.5, (batch, count, -1)) for place in (y, x))
    whole = tf.stack(
        [tf.reduce_min(y, -1), tf.reduce_min(x, -1), tf.reduce_max(y, -1), tf.reduce_max(x, -1)], -1
    )
    limits = np.float32([plan.last.height, plan.last.width] * 2)
    inside = tf.clip_by_value(whole, 0.0, limits)
    area = lambda box: (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])  # noqa: E731
    # A tolerance of a millionth, so that a box inside the image has a share of 1 in spite of rounding.
    kept = given & (area(inside) > 0) & (area(inside) >= (smallest_share - 1e-6) * area(whole))
    result = from_edges(inside, form, plan.last.height, plan.last.width)
    return tf.where(kept[..., None], result, -1.0), kept


def corners(edges: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`y` and `x` of the four corners, each `(..., 4)`, for boxes `(..., 4)` given as top, left, bottom, right."""
    top, left, bottom, right = tf.unstack(edges, axis=-1)
    return tf.stack([top, top, bottom, bottom], -1), tf.stack([left, right, left, right], -1)


def outline(edges: tf.Tensor, middle: tuple[float, float]) -> tuple[tf.Tensor, tf.Tensor]:
    """`y` and `x` of points along the four edges of each box, among them the point nearest to the image center.

    Lens distortion bends an edge most at the point nearest to the center.
    """
    top, left, bottom, right = (edge[..., None] for edge in tf.unstack(edges, axis=-1))
    where = np.linspace(0, 1, _ALONG_AN_EDGE + 1, dtype="float32")
    along = []
    for low, high, center in ((top, bottom, middle[0]), (left, right, middle[1])):
        nearest = tf.minimum(tf.maximum(tf.fill(tf.shape(low), center), low), high)
        along.append(tf.concat([low + (high - low) * where, nearest], -1))
    down, across = along
    y = tf.concat([top + 0 * across, bottom + 0 * across, down, down], -1)
    x = tf.concat([across, across, left + 0 * down, right + 0 * down], -1)
    return y, x


def to_edges(boxes: tf.Tensor, form: str, height: int, width: int) -> tf.Tensor:
    """Convert boxes of any format to top, left, bottom and right edges.

    Args:
        boxes: `(..., 4)` in the format, of any dtype.
        form: One of `BOX_FORMATS`; "rel_..." means fractions of the sides of the image.
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Returns:
        float32 `(..., 4)`, in pixels from the upper left corner of the image.
    """
    boxes = tf.cast(boxes, tf.float32)
    if form.endswith("wh"):
        left, top, wide, high = tf.unstack(boxes, axis=-1)
        if form.endswith("cxcywh"):
            left, top = left - wide / 2, top - high / 2
        boxes = tf.stack([top, left, top + high, left + wide], -1)
    elif form.endswith("xyxy"):
        boxes = tf.gather(boxes, [1, 0, 3, 2], axis=-1)
    return boxes * np.float32([height, width] * 2) if form.startswith("rel") else boxes


def from_edges(edges: tf.Tensor, form: str, height: int, width: int) -> tf.Tensor:
    """Convert edges to boxes of any format: the inverse of `to_edges`.

    Args:
        edges: float32 `(..., 4)`: top, left, bottom, right, in pixels from the upper left corner.
        form: One of `BOX_FORMATS`.
        height: Height of the images in pixels, after a crop or a resize.
        width: Width of the images in pixels, after a crop or a resize.

    Returns:
        float32 `(..., 4)` in the format; fractions of the sides for "rel_...".
    """
    if form.startswith("rel"):
        edges = edges / np.float32([height, width] * 2)
    if form.endswith("wh"):
        top, left, bottom, right = tf.unstack(edges, axis=-1)
        first = [(left + right) / 2, (top + bottom) / 2] if form.endswith("cxcywh") else [left, top]
        return tf.stack([*first, right - left, bottom - top], -1)
    return tf.gather(edges, [1, 0, 3, 2], axis=-1) if form.endswith("xyxy") else edges


def move_keypoints(plan: Plan, points: tf.Tensor, draws: Any, *, form: str) -> tf.Tensor:
    """Move keypoints `(batch, ..., 2)`, or `(batch, ..., 3)` with a visibility last; the result is float32.

    A point that leaves the image keeps its coordinates, which then lie outside; its visibility becomes 0. Two negative
    coordinates mean "no point" and stay unchanged.
    """
    points = tf.cast(points, tf.float32)
    first, last = ((frame.height, frame.width) for frame in (plan.first, plan.last))
    y, x = points[..., 0], points[..., 1]
    if form.endswith("xy"):
        y, x = x, y
    absent = (y < 0) & (x < 0)
    relative = form.startswith("rel")
    if relative:
        y, x = y * first[0] - 0.5, x * first[1] - 0.5
    flat = [tf.reshape(place, (tf.shape(place)[0], -1)) for place in (y, x)]
    y, x = (tf.reshape(place, tf.shape(absent)) for place in move_points(plan.geometry(), draws, *flat))
    inside = (y >= -0.5) & (y <= last[0] - 0.5) & (x >= -0.5) & (x <= last[1] - 0.5)
    if relative:
        y, x = (y + 0.5) / last[0], (x + 0.5) / last[1]
    moved = [x, y] if form.endswith("xy") else [y, x]
    if points.shape[-1] == 3:
        moved.append(tf.where(inside, points[..., 2], 0.0))
    return tf.where(absent[..., None], points, tf.stack(moved, -1))
