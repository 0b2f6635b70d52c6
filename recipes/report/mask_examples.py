"""What a trained segmentation network gets right and wrong on held-out data, for the report."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from recipes.common.color import class_colors
from recipes.common.models import output_activation, predict_array
from recipes.common.types import Data
from recipes.diagnose.checks.sample import read_sample
from recipes.evaluate.class_maps import class_maps, gives_class_maps, intersection_over_union, map_confusion

_MOST_BYTES = 64 * 2**20  # of images to look at


@dataclass(frozen=True)
class MaskExample:
    """One image `(height, width, channels)`, its given and its predicted mask `(height, width)`, and their IoU."""

    image: np.ndarray
    given: np.ndarray
    predicted: np.ndarray
    iou: float


@dataclass(frozen=True)
class MaskPredictions:
    """How a segmentation does on held-out data.

    Attributes:
        count: Images looked at.
        confusion: Pixels, int64 `(classes, classes)`: rows are given, columns predicted classes.
        iou: float64 `(classes,)`, NaN for classes that never occur.
        worst: list of `MaskExample`, lowest mean IoU first.
        best: The same, highest first.
    """

    count: int
    confusion: np.ndarray
    iou: np.ndarray
    worst: list[MaskExample]
    best: list[MaskExample]


def mask_predictions(
    model: keras.Model, validation: Data, *, count: int = 6, examples: int = 500
) -> MaskPredictions | None:
    """Predict held-out masks and pick the worst and the best.

    Args:
        model: A trained network with one output of `(batch, height, width, classes)`.
        validation: `tf.data.Dataset` or arrays of `(images, masks)`.
        count: Number of worst and number of best predictions to pick.
        examples: Largest number of held-out examples to look at.

    Returns:
        `MaskPredictions`, or None for a model or labels of another task than segmentation.
    """
    if not gives_class_maps(model) or len(model.inputs) != 1:
        return None
    sample = read_sample(
        validation,
        model,
        batch_size=16,
        batches=-(-examples // 16),
        seconds=10.0,
        name="validation",
        most_bytes=_MOST_BYTES,
    )
    inputs, given = sample.inputs, sample.labels
    classes = max(2, model.outputs[0].shape[-1])
    if given.ndim == 4:
        given = given[..., 0] if given.shape[-1] == 1 else given.argmax(-1)
    if given.ndim != 3 or not np.array_equal(given, np.round(given)):
        return None
    outputs = predict_array(model, inputs, batch_size=16)
    predicted = class_maps(outputs, output_activation(model))
    if predicted.shape != given.shape:
        return None
    each = [map_confusion([(one, said)], classes) for one, said in zip(given, predicted, strict=True)]
    confusion = np.sum(each, axis=0)
    scores = np.array(
        [np.nanmean(intersection_over_union(counts)) if counts.any() else 1.0 for counts in each]
    )
    order = np.argsort(scores, kind="stable")

    def example(row):
        return MaskExample(inputs[row], given[row].astype("int64"), predicted[row], float(scores[row]))

    worst = order[: min(count, len(order))]
    best = [row for row in order[::-1][:count] if row not in set(worst.tolist())]
    iou = intersection_over_union(confusion)
    return MaskPredictions(
        len(scores), confusion, iou, [example(i) for i in worst], [example(i) for i in best]
    )


def painted(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image in gray under the colors of its classes; class 0 leaves it as it is.

    Args:
        image: uint8 `(height, width, 3)`.
        mask: Class numbers `(height, width)`; numbers outside 0..255 are drawn white.

    Returns:
        uint8 `(height, width, 3)`.
    """
    gray = image.astype("float32").mean(-1, keepdims=True).repeat(3, -1)
    known = (mask >= 0) & (mask < 256)
    colors = np.where(known[..., None], class_colors(256)[np.where(known, mask, 0)], 255)
    share = np.where(mask == 0, 0.0, 0.6)[..., None]
    return np.rint(gray * (1 - share) + colors * share).astype(np.uint8)
