"""Targets for networks that do not classify: a region, a box, a similarity, an interval, a token."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from recipes.common.validation import as_numbers, is_whole
from recipes.explain.engine.errors import UsageError


def mask_score(mask: ArrayLike, class_number: int = 0) -> Callable[[Any], Any]:
    """Make a target: the mean score of a class over a region of a segmentation `(n, height, width, classes)`.

    Source: Vinogradova et al. 2020, "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation
    Mapping", equation 2, https://arxiv.org/abs/2002.11434, which takes the sum.

    Args:
        mask: `(height, width)`, true inside the region, or weights >= 0; the same for all images.
        class_number: Number of the class, from 0.

    Returns:
        A function of the output that gives one number per image, for `target=`.

    Raises:
        ValueError: when the mask is empty or not `(height, width)`; when the target is called, also when the output has
            another height, width or too few classes.

    Example:
        >>> explain.grad_cam(unet, images, explain.mask_score(prediction[0] == 2, 2))
    """
    weights = np.asarray(mask, "float32")
    if weights.ndim != 2 or not np.isfinite(weights).all() or weights.min(initial=0) < 0 or not weights.any():
        raise UsageError(
            "mask_score expects a mask (height, width) that is true somewhere. Received one of shape "
            f"{weights.shape} that {'is empty' if weights.ndim == 2 else 'has other axes'}. Explain image by image "
            "if each image has its own mask."
        )
    _check_number("mask_score", "class_number", class_number)

    def score(output: Any) -> Any:
        output = tf.convert_to_tensor(output)
        if output.shape.rank != 4 or output.shape[1:3] != weights.shape or class_number >= output.shape[-1]:
            raise UsageError(
                f"mask_score expects an output (n, {weights.shape[0]}, {weights.shape[1]}, classes) with more than "
                f"{class_number} classes. Received {tuple(output.shape)}. Resize the mask to the output, and name the "
                "output with target={output: mask_score(...)} if there are several."
            )
        values = tf.cast(output[..., class_number], "float32")
        return tf.reduce_sum(values * weights, (1, 2)) / weights.sum()

    return score


def box_score(
    box: int | ArrayLike, class_number: int, *, scores: int = 0, boxes: int | None = None
) -> Callable[[Any], Any]:
    """Make a target: the score of a class for one box of a detector.

    Source: Petsiuk et al. 2021, "D-RISE", section 3.1, https://arxiv.org/abs/2006.03204, where a detection is explained
    by the predicted box that overlaps it most. Here the score is that of the class for this box, which has a gradient.

    Args:
        box: The number of a box (an anchor), from 0, or four numbers, two opposite corners in the form of the predicted
            boxes. For four numbers, the predicted box that overlaps this box most is taken in each image.
        class_number: Number of the class, from 0.
        scores: Position of the output `(n, boxes, classes)` in the flat list of the model's outputs.
        boxes: Position of the output `(n, boxes, 4)`; needed if `box` is four numbers.

    Returns:
        A function of the outputs that gives one number per image, for `target=`.

    Raises:
        ValueError: when `box` is neither, or is four numbers without `boxes`; when the target is called, also when the
            outputs have other shapes or no predicted box overlaps `box`.

    Example:
        >>> explain.grad_cam(detector, images, explain.box_score((20, 30, 90, 110), 3, scores=1, boxes=0))
    """
    corners = None if is_whole(box) else np.asarray(box, "float32")
    if corners is not None and (corners.shape != (4,) or boxes is None or not np.isfinite(corners).all()):
        raise UsageError(
            "box_score expects the number of a box, or four finite numbers together with boxes=. Received "
            f"box={box!r}, boxes={boxes!r}. Give boxes= the position of the output with the predicted boxes."
        )
    _check_number("box_score", "class_number", class_number)
    for name, number in {"scores": scores, "boxes": boxes or 0, "box": box if corners is None else 0}.items():
        _check_number("box_score", name, number)

    def score(outputs: Any) -> Any:
        flat = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        least = 1 if corners is not None else int(box) + 1
        fits = max(scores, boxes or 0) < len(flat) and _fits(flat[scores], least, class_number + 1)
        if not fits or (corners is not None and tuple(flat[boxes].shape[1:]) != (flat[scores].shape[1], 4)):
            raise UsageError(
                f"box_score expects output scores= of shape (n, boxes, classes) with at least {least} boxes and "
                f"{class_number + 1} classes, and output boxes= of shape (n, boxes, 4). Received outputs of shapes "
                f"{[tuple(one.shape) for one in flat]} and scores={scores}, boxes={boxes}. Count the outputs from 0; "
                "the outputs of a dict are in the order of their sorted names."
            )
        values = tf.cast(flat[scores][..., class_number], "float32")
        if corners is None:
            return values[:, int(box)]
        shared = overlap(tf.cast(flat[boxes], "float32"), corners)
        _check_overlap(shared, corners, flat[boxes])
        return tf.gather(values, tf.argmax(shared, 1), axis=1, batch_dims=1)

    return score


def _fits(output, rows, columns):
    """Whether an output is `(n, boxes, classes)` with at least this many boxes and classes."""
    return output.shape.rank == 3 and all(
        have is None or have >= least for have, least in zip(output.shape[1:], (rows, columns), strict=True)
    )


def _check_overlap(shared, corners, boxes):
    """Raise when no predicted box overlaps the box, because then no predicted box can be chosen."""
    missed = np.flatnonzero(shared.numpy().max(1) == 0) if tf.executing_eagerly() else ()
    if len(missed):
        low, high = float(tf.reduce_min(boxes)), float(tf.reduce_max(boxes))
        raise UsageError(
            f"box_score expects a box that a predicted one overlaps. Received {corners.tolist()}, which none does in "
            f"{len(missed)} of {len(shared)} images, the first at index {missed[0]}; the predicted corners lie in "
            f"{low:.4g} ... {high:.4g}. Give the box in the units and the order of the predicted boxes, or the number "
            "of a box."
        )


def overlap(boxes: Any, box: ArrayLike) -> Any:
    """Intersection over union, `(n, boxes)`, of boxes `(n, boxes, 4)` with one box; two opposite corners each."""
    low, high = tf.minimum(boxes[..., :2], boxes[..., 2:]), tf.maximum(boxes[..., :2], boxes[..., 2:])
    box = np.asarray(box, "float32")
    mine = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    inside = tf.maximum(tf.minimum(high, mine[1]) - tf.maximum(low, mine[0]), 0)
    shared = tf.reduce_prod(inside, -1)
    union = tf.reduce_prod(high - low, -1) + float(np.prod(mine[1] - mine[0])) - shared
    return tf.math.divide_no_nan(shared, union)


def similarity_to(embedding: ArrayLike) -> Callable[[Any], Any]:
    """Make a target: the cosine between an image's embedding and a given embedding, for embedding networks.

    Source: Stylianou et al. 2019, "Visualizing Deep Similarity Networks", section 3, https://arxiv.org/abs/1901.00536.

    Args:
        embedding: `(size,)`, the model's output for the image to compare with.

    Returns:
        A function of the output `(n, size)` that gives one number per image in -1..1, for `target=`.

    Raises:
        ValueError: when the embedding is not a vector or is zero; when the target is called, also when the output has
            another size.

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


def interval_score(low: float = -np.inf, high: float = np.inf) -> Callable[[Any], Any]:
    """Make a target: how far a predicted value lies within an interval, for regression.

    It is the distance to the nearer end, positive inside and negative outside: `min(value - low, high - value)`. Pixels
    that increase it are evidence for the interval. Source: Letzgus et al. 2022, "Toward Explainable AI for Regression
    Models", section III, https://arxiv.org/abs/2112.11407, which explains why the value of a regression lies above or
    below a reference.

    Args:
        low, high: Ends of the interval in units of the output, low < high; one of them may be left out.

    Returns:
        A function of the output `(n,)` or `(n, 1)` that gives one number per image, for `target=`.

    Raises:
        ValueError: when the ends are not an interval; when the target is called, also when the output has several
            values per image.

    Example:
        >>> explain.saliency(age_model, photos, explain.interval_score(30, 40))
        >>> explain.saliency(age_model, photos, explain.interval_score(high=40))   # why not older?
    """
    ends = [float(as_numbers("interval_score", name, end)) for name, end in (("low", low), ("high", high))]
    if not ends[0] < ends[1] or not np.isfinite(ends).any():
        raise UsageError(
            f"interval_score expects low < high, and at least one of them finite. Received low={low!r}, high={high!r}. "
            "Write for example interval_score(30, 40)."
        )

    def score(output: Any) -> Any:
        output = tf.cast(tf.convert_to_tensor(output), "float32")
        if output.shape.rank not in (1, 2) or (output.shape.rank == 2 and output.shape[1] != 1):
            raise UsageError(
                f"interval_score expects an output of one value per image, (n,) or (n, 1). Received "
                f"{tuple(output.shape)}. If there are several outputs, name one with "
                "target={output: interval_score(...)}, or write a lambda that picks one value."
            )
        value = tf.reshape(output, [-1])
        inside = [value - ends[0]] * bool(np.isfinite(ends[0])) + [ends[1] - value] * bool(
            np.isfinite(ends[1])
        )
        return tf.reduce_min(tf.stack(inside), 0)

    return score


def token_score(token: int, position: int = -1) -> Callable[[Any], Any]:
    """Make a target: the score of a token at a position, for networks that write or tag text, `(n, steps, vocabulary)`.

    Source: Vafa et al. 2021, "Rationales for Sequential Predictions", section 2, https://arxiv.org/abs/2109.06387,
    which finds the evidence for the next word in the context. The score is the value before the softmax, as for
    classes.

    Args:
        token: Id of the token, from 0.
        position: Step of the output, counted from 0, or from the end if negative; -1 is the next token.

    Returns:
        A function of the output that gives one number per text, for `target=`.

    Raises:
        ValueError: when `token` or `position` is not a whole number; when the target is called, also when the output
            has another shape or is too short.

    Example:
        >>> explain.layer_integrated_gradients(writer, ids, explain.token_score(42), layer="embedding").sum(-1)
    """
    _check_number("token_score", "token", token)
    if not is_whole(position):
        raise UsageError(
            f"token_score expects position to be a whole number. Received {position!r}. Write -1 for the last position."
        )

    def score(output: Any) -> Any:
        output = tf.convert_to_tensor(output)
        shape = output.shape
        if shape.rank != 3 or token >= shape[2] or not -shape[1] <= position < shape[1]:
            raise UsageError(
                f"token_score expects an output (n, steps, vocabulary) that has token {token} and position {position}. "
                f"Received {tuple(shape)}. Count both from 0, or the position from the end with negative numbers."
            )
        return tf.cast(output[:, position, token], "float32")

    return score


def _check_number(method, name, number):
    if not is_whole(number) or number < 0:
        raise UsageError(
            f"{method} expects {name} to be a whole number from 0. Received {number!r}. Count from 0."
        )
