"""Segmentation in `recipes.train`: labels that are maps, a class for every pixel, and a model that gives such maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.validation import is_one_of

if TYPE_CHECKING:
    from recipes.augment import Pipeline
    from recipes.training.settings import Settings


def map_size(model: keras.Model, settings: Settings) -> tuple[int | None, int | None] | None:
    """`(height, width)` of the map of classes that a model gives, None where one is open; None for another task.

    A model of one output `(batch, height, width, classes)` is taken for a segmentation when its loss is a
    cross-entropy, or still to be picked: with `loss="mse"` the same shape is an image.

    Args:
        model: Compiled or not.
        settings: The arguments of `recipes.train`; `info.task` decides where it is known.

    Raises:
        ValueError: for a model with another output where `info` says that the labels are masks.
    """
    outputs = getattr(model, "outputs", None)
    several = outputs is not None and len(outputs) != 1
    fits = outputs is not None and not several and len(outputs[0].shape) == 4
    if getattr(settings.info, "task", None) == "segmentation" and outputs is not None and not fits:
        received = "several outputs" if several else f"an output of shape {tuple(outputs[0].shape)}"
        raise ValueError(
            "recipes.train expects a model with one output (height, width, classes) for masks. Received "
            f"{model.name!r} with {received}. End it with a convolution that gives a number per class at every pixel, "
            "such as Conv2D(classes, 1, activation='softmax'), or build recipes.models.unet(image_shape, classes)."
        )
    if not fits or outputs[0].shape[-1] is None or not judges_classes(model, settings):
        return None
    return tuple(outputs[0].shape[1:3])


def judges_classes(model: keras.Model, settings: Settings) -> bool:
    """Whether the loss, or the one that "auto" will pick, is one of class labels."""
    judged = model.loss if model.compiled else settings.loss
    if not model.compiled and is_one_of(judged, ("auto",)):
        return True
    name = judged if isinstance(judged, str) else getattr(judged, "name", getattr(judged, "__name__", ""))
    return "crossentropy" in str(name)


def plain_maps(labels: tf.Tensor) -> tf.Tensor:
    """Maps of one channel without it, booleans as class numbers: `(batch, height, width)`; rows stay rows."""
    if labels.shape.rank == 4 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    return tf.cast(labels, tf.int64) if labels.dtype == tf.bool else labels


def check_maps(labels: np.ndarray, name: str, classes: int, size: tuple[int | None, int | None]) -> None:
    """Refuse labels that are not maps of classes of the same size as the model's.

    Args:
        labels: `(n, height, width)`, perhaps with a channel, or rows `(n, height, width, classes)`.
        name: The argument's name, used in errors.
        classes: Number of classes.
        size: As from `map_size`.

    Raises:
        ValueError: for such labels.
    """
    labels = labels[..., 0] if labels.ndim == 4 and labels.shape[-1] == 1 else labels
    if labels.ndim not in (3, 4):
        raise ValueError(
            f"recipes.train expects masks (height, width) as labels of {name}, as the model gives a class for every "
            f"pixel. Received labels of shape {labels.shape[1:]}. Give masks, or a model that ends with pooling and "
            "Dense(classes) for whole images."
        )
    if any(ours is not None and ours != theirs for ours, theirs in zip(size, labels.shape[1:3], strict=True)):
        raise ValueError(
            f"recipes.train expects masks as large as the maps of the model, {_by(size)}. Received masks of {name} of "
            f"{_by(labels.shape[1:3])}. Load both with one image_size=, and let the model's upsampling end at the size "
            "of its input."
        )
    if labels.ndim == 4:
        _check_rows(labels, name, classes)
        return
    if np.issubdtype(labels.dtype, np.floating) and not np.array_equal(labels, np.round(labels)):
        raise ValueError(
            f"recipes.train expects class numbers in the masks of {name}. Received {labels.dtype} with fractions, for "
            f"example {labels[labels != np.round(labels)][0]:.4g}. Do not scale or interpolate masks (resize them with "
            "method='nearest'); for a regression give loss='mse' and metrics."
        )
    check_numbers(np.unique(labels), name, classes)


def check_numbers(found: np.ndarray, name: str, classes: int) -> None:
    """Refuse class numbers in masks that the model has no output for; `found` are the numbers that occur."""
    wrong = found[(found < 0) | (found >= classes)]
    if not wrong.size:
        return
    received = f"the numbers {', '.join(str(int(number)) for number in wrong[:5])}"
    remedy = f"Number the classes from 0, or build the model with {int(found.max()) + 1} classes."
    if set(found.tolist()) <= {0, 255}:
        remedy = "Divide masks of 0 and 255 by 255."
    elif wrong.tolist() in ([255], [-1]):
        remedy = (
            "Where it marks pixels that do not count, hand them over as (image, mask, weight) with a weight of 0 "
            "there, and any class in the mask."
        )
    raise ValueError(map_range_message(name, classes, f"{received}. {remedy}"))


def map_range_message(name: str, classes: int, received: str) -> str:
    return (
        f"recipes.train expects class numbers in 0..{classes - 1} in the masks of {name}. Received {received}"
    )


def _check_rows(labels, name, classes):
    if labels.shape[-1] != classes:
        raise ValueError(
            f"recipes.train expects masks in {name} of shape (height, width), or with {classes} channels, one per "
            f"class. Received {labels.shape[-1]} channels. Turn colors into class numbers first."
        )
    sums = labels.astype("float32").sum(-1)
    if labels.min() < 0 or not np.allclose(sums, 1, atol=1e-2):
        raise ValueError(
            f"recipes.train expects the channels of masks of {name} to be shares of the classes that add up to 1. "
            f"Received sums from {sums.min():.4g} to {sums.max():.4g}. Give class numbers (height, width), or, where "
            "the labels are images, loss='mse' and metrics."
        )


def _by(size):
    return " x ".join("any" if side is None else str(side) for side in size)


def augmented(
    pipeline: Pipeline, batch: tuple[Any, ...], seed: Any, part: tuple[Any, Any] | None = None
) -> tuple[Any, ...]:
    """Augment a batch, or `part` of one, of images, masks and perhaps weights; mask pixels move with their image."""
    moving = {"masks": batch[1]}
    if len(batch) == 3:
        moving["pixel_weights" if batch[2].shape.rank >= 3 else "sample_weight"] = batch[2]
    moved = pipeline(batch[0], seed=seed, part=part, **moving)
    return (moved["images"], *(moved[name] for name in moving))


def weighted(batch: tuple[Any, ...], class_weight: dict[int, float]) -> tuple[Any, ...]:
    """`(images, masks, weights)`: every pixel with the weight of its class. Keras weighs only whole examples."""
    weights = tf.constant([class_weight[number] for number in range(len(class_weight))], tf.float32)
    labels = batch[1]
    if labels.shape.rank == 4:
        of_each = tf.linalg.matvec(tf.cast(labels, tf.float32), weights)
    else:
        of_each = tf.gather(weights, tf.cast(labels, tf.int32))
    return (*batch[:2], of_each)


def intersection_over_union(
    model: keras.Model, label_spec: tf.TensorSpec, logits: bool
) -> keras.metrics.Metric:
    """The metric "iou": intersection over union of each class, over all pixels of an epoch, and the mean of classes.

    Source: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.3. Classes that are
    neither given nor predicted do not count. A metric of Keras' own, so that the saved model needs nothing else.
    """
    classes = model.outputs[0].shape[-1]
    options = {"name": "iou", "dtype": "float32"}  # the default, integers, cuts weights down to 0 and 1
    if classes == 1:
        return keras.metrics.BinaryIoU(threshold=0.0 if logits else 0.5, **options)
    rows = label_spec.shape.rank == 4
    return keras.metrics.MeanIoU(classes, sparse_y_true=not rows, sparse_y_pred=False, **options)
