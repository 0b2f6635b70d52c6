"""Targets of networks that do not classify: a region of a segmentation, a box of a detection, a likeness."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from recipes.common.validation import is_whole
from recipes.explain.engine.errors import UsageError


def mask_score(mask: ArrayLike, class_number: int = 0) -> Callable[[Any], Any]:
    """A target: the mean score of a class over a region of a segmentation, `(n, height, width, classes)`.

    Source: Vinogradova et al. 2020, "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation
    Mapping", equation 2, https://arxiv.org/abs/2002.11434 (there the sum).

    Args:
        mask: `(height, width)`, true where the score counts, or weights of at least 0. The same for all images.
        class_number: Which class, from 0.

    Returns:
        A function of the output that gives one number per image, for `target=`.

    Raises:
        ValueError: an empty mask, or one that is no `(height, width)`; when called, an output of other sides.

    Example:
        >>> explain.grad_cam(unet, images, explain.mask_score(prediction[0] == 2, 2))
    """
    weights = np.asarray(mask, "float32")
    if weights.ndim != 2 or not np.isfinite(weights).all() or weights.min(initial=0) < 0 or not weights.any():
        raise UsageError(
            "mask_score expects a mask (height, width) that is true somewhere. Received one of shape "
            f"{weights.shape} that {'is empty' if weights.ndim == 2 else 'has other axes'}. Explain image by image "
            "where each has a mask of its own."
        )
    _check_number("mask_score", "class_number", class_number)

    def score(output: Any) -> Any:
        output = tf.convert_to_tensor(output)
        if output.shape.rank != 4 or output.shape[1:3] != weights.shape or class_number >= output.shape[-1]:
            raise UsageError(
                f"mask_score expects an output (n, {weights.shape[0]}, {weights.shape[1]}, classes) with more than "
                f"{class_number} classes. Received {tuple(output.shape)}. Resize the mask to the output, and name the "
                "output with target={output: mask_score(...)} where there are several."
            )
        values = tf.cast(output[..., class_number], "float32")
        return tf.reduce_sum(values * weights, (1, 2)) / weights.sum()

    return score


def box_score(
    box: int | ArrayLike, class_number: int, *, scores: int = 0, boxes: int | None = None
) -> Callable[[Any], Any]:
    """A target: the score of a class for one box of a detector.

    Source: Petsiuk et al. 2021, "D-RISE", section 3.1, https://arxiv.org/abs/2006.03204: a detection is explained by
    the box that overlaps it most; here the class's own score of that box, which has a gradient.

    Args:
        box: The number of a box (an anchor), from 0, or a box of four numbers in the form of the predicted ones (two
            opposite corners): of each image the predicted box that overlaps it most is taken.
        class_number: Which class, from 0.
        scores: Which of the model's outputs, in flat order, holds `(n, boxes, classes)`.
        boxes: Which holds `(n, boxes, 4)`; needed where `box` is four numbers.

    Returns:
        A function of the outputs that gives one number per image, for `target=`.

    Raises:
        ValueError: a box that is neither; corners without `boxes`; when called, outputs of other shapes.

    Example:
        >>> explain.grad_cam(detector, images, explain.box_score((20, 30, 90, 110), 3, scores=1, boxes=0))
    """
    corners = None if is_whole(box) else np.asarray(box, "float32")
    if corners is not None and (corners.shape != (4,) or boxes is None or not np.isfinite(corners).all()):
        raise UsageError(
            "box_score expects the number of a box, or four finite numbers together with boxes=. Received "
            f"box={box!r}, boxes={boxes!r}. Say with boxes= which output holds the predicted boxes."
        )
    _check_number("box_score", "class_number", class_number)

    def score(outputs: Any) -> Any:
        flat = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        if max(scores, boxes or 0) >= len(flat) or flat[scores].shape.rank != 3:
            raise UsageError(
                "box_score expects output scores= of shape (n, boxes, classes). Received outputs of shapes "
                f"{[tuple(one.shape) for one in flat]} and scores={scores}, boxes={boxes}. Count the outputs from 0."
            )
        values = tf.cast(flat[scores][..., class_number], "float32")
        if corners is None:
            return values[:, int(box)]
        best = tf.argmax(overlap(tf.cast(flat[boxes], "float32"), corners), 1)
        return tf.gather(values, best, axis=1, batch_dims=1)

    return score


def overlap(boxes: Any, box: ArrayLike) -> Any:
    """Intersection over union of boxes `(n, boxes, 4)` with one box, two opposite corners each: `(n, boxes)`."""
    low, high = tf.minimum(boxes[..., :2], boxes[..., 2:]), tf.maximum(boxes[..., :2], boxes[..., 2:])
    box = np.asarray(box, "float32")
    mine = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    inside = tf.maximum(tf.minimum(high, mine[1]) - tf.maximum(low, mine[0]), 0)
    shared = tf.reduce_prod(inside, -1)
    union = tf.reduce_prod(high - low, -1) + float(np.prod(mine[1] - mine[0])) - shared
    return tf.math.divide_no_nan(shared, union)


def similarity_to(embedding: ArrayLike) -> Callable[[Any], Any]:
    """A target: the cosine between an image's embedding and a given one, for networks that embed.

    Source: Stylianou et al. 2019, "Visualizing Deep Similarity Networks", section 3, https://arxiv.org/abs/1901.00536.

    Args:
        embedding: `(size,)`, what the model returns for the image to compare with.

    Returns:
        A function of the output `(n, size)` that gives one number per image in -1..1, for `target=`.

    Raises:
        ValueError: an embedding that is no vector or has no length; when called, an output of another size.

    Example:
        >>> explain.grad_cam(embedder, images, explain.similarity_to(embedder(other[None])[0]))
    """
    vector = np.asarray(embedding, "float32")
    length = np.linalg.norm(vector)
    if vector.ndim != 1 or not np.isfinite(length) or length == 0:
        raise UsageError(
            f"similarity_to expects a vector (size,), not zero. Received shape {vector.shape} of length {length}. "
            "Write similarity_to(model(image[None])[0])."
        )

    def score(output: Any) -> Any:
        output = tf.convert_to_tensor(output)
        if output.shape.rank != 2 or output.shape[-1] != len(vector):
            raise UsageError(
                f"similarity_to expects an output (n, {len(vector)}). Received {tuple(output.shape)}. Embed the other "
                "image with the same model."
            )
        values = tf.cast(output, "float32")
        return tf.linalg.matvec(tf.math.l2_normalize(values, -1), tf.constant(vector / length))

    return score


def _check_number(method, name, number):
    if not is_whole(number) or number < 0:
        raise UsageError(
            f"{method} expects {name} to be a whole number from 0. Received {number!r}. Count from 0."
        )
