"""Fixed views of an image to predict on: flips, shifts, the ten crops at several scales, the whole image at several."""

from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

from recipes.common.validation import are_whole, is_whole


class Views:
    """Deterministic views of a batch of images, in groups of one size each.

    Args:
        groups: functions `(images float32 (batch, height, width, channels)) -> list of batches`, all of one shape.
        counts: Views in each group.
        check: function `(height, width)` of the original images; raises ValueError when the views do not fit.
    """

    def __init__(
        self,
        groups: Iterable[Callable[[tf.Tensor], list[tf.Tensor]]],
        counts: Iterable[int],
        check: Callable[[int, int], None] = lambda height, width: None,
    ) -> None:
        self.groups, self.counts, self.check = list(groups), list(counts), check

    def __len__(self):
        return sum(self.counts)


def flips() -> Views:
    """The image and its mirror image, left to right: 2 views, as a `Views` for `predict_tta`."""
    return Views([_with_mirror(lambda images: [images])], [2])


def shifts(pixels: int) -> Views:
    """The image and its 8 neighbors moved by `pixels` in both directions, the border repeated: 9 views.

    Args:
        pixels: Size of the shift in pixels, >= 1 and less than the sides of the image.

    Returns:
        A `Views`, for `predict_tta`.

    Raises:
        ValueError: for another `pixels`; in `predict_tta`, for images that are not larger.
    """
    if not isinstance(pixels, int) or pixels < 1:
        raise ValueError(
            f"ensemble.shifts expects a whole number of pixels, 1 or more. Received {pixels!r}. "
            "Take 1 or 2 for small images."
        )

    def check(height, width):
        if pixels >= min(height, width):
            raise ValueError(
                f"ensemble.shifts expects images larger than the shift. Received {height}x{width} images and "
                f"pixels={pixels}. Shift by less."
            )

    def group(images):
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        rows = [tf.clip_by_value(tf.range(height) - dy, 0, height - 1) for dy in (-pixels, 0, pixels)]
        columns = [tf.clip_by_value(tf.range(width) - dx, 0, width - 1) for dx in (-pixels, 0, pixels)]
        return [
            tf.gather(tf.gather(images, row, axis=1), column, axis=2) for row in rows for column in columns
        ]

    return Views([group], [9], check)


def ten_crop(size: int, scales: Sequence[int] | None = None) -> Views:
    """The four corners, the center, and the mirror images of all five, at every scale: 10 views per scale.

    Sources: Krizhevsky et al. 2012, section 4.1, https://papers.nips.cc/paper/4824; several scales: He et al. 2015,
    section 3.4, https://arxiv.org/abs/1512.03385, who use (224, 256, 384, 480, 640) with size 224.

    Args:
        size: Side of the square crops in pixels, which is the model's input.
        scales: Length in pixels to which the shorter side of the image is resized first (bilinear, antialiased, the
            other side in proportion), one entry per scale, each >= `size`. None: crops of the image as it is.

    Returns:
        A `Views`, for `predict_tta`.

    Raises:
        ValueError: for scales below `size`, or sides that are not whole numbers; in `predict_tta`, for images smaller
            than `size` when there are no `scales`.
    """
    scales = (None,) if scales is None else scales
    known = is_whole(size) and (are_whole(scales) or (isinstance(scales, tuple) and scales == (None,)))
    if (
        not known
        or not len(scales)
        or size < 1
        or any(scale is not None and scale < size for scale in scales)
    ):
        raise ValueError(
            f"ensemble.ten_crop expects scales of at least size={size}, the side of the crops. Received "
            f"size={size!r} and scales={scales!r}. Leave out the smaller ones, and give whole numbers."
        )

    def check(height, width):
        if None in scales and size > min(height, width):
            raise ValueError(
                f"ensemble.ten_crop expects images of at least {size}x{size} without scales. Received "
                f"{height}x{width}. Give scales=({size},) to enlarge them first."
            )

    def crops(scale):
        def group(images):
            images = _resized(images, scale)
            bottom, right = tf.shape(images)[1] - size, tf.shape(images)[2] - size
            corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
            found = [images[:, top : top + size, left : left + size] for top, left in corners]
            return [tf.ensure_shape(view, (None, size, size, None)) for view in found]

        return _with_mirror(group)

    return Views([crops(scale) for scale in scales], [10] * len(scales), check)


def multi_scale(scales: Sequence[int], flip: bool = True) -> Views:
    """The whole image at several scales, for models that take any size: 1 or 2 views per scale.

    Source: He et al. 2015, section 3.4 ("fully convolutional form"), https://arxiv.org/abs/1512.03385; the model
    averages over positions itself.

    Args:
        scales: Length in pixels to which the shorter side is resized, one entry per scale, each >= 1.
        flip: Take the mirror images too.

    Returns:
        A `Views`, for `predict_tta`.

    Raises:
        ValueError: for no scales, or scales below 1.
    """
    scales = tuple(scales)
    if not scales or any(scale < 1 for scale in scales):
        raise ValueError(
            f"ensemble.multi_scale expects scales of 1 pixel or more. Received {scales}. The paper's are 224 to 640."
        )

    def at(scale):
        def group(images):
            return [_resized(images, scale)]

        return _with_mirror(group) if flip else group

    return Views([at(scale) for scale in scales], [2 if flip else 1] * len(scales))


def _with_mirror(group):
    def both(images):
        views = group(images)
        return views + [tf.reverse(view, axis=[2]) for view in views]

    return both


def _resized(images, scale):
    """Shorter side `scale`, the longer one in proportion, rounded."""
    if scale is None:
        return images
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    shorter = tf.minimum(height, width)
    sides = [tf.cast(tf.round(side * scale / shorter), tf.int32) for side in (height, width)]
    return tf.image.resize(images, tf.stack(sides), antialias=True)
