"""What a trained classifier gets right and wrong on held-out data, for the report."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from recipes.common.models import predict_array
from recipes.common.types import Data
from recipes.diagnose.checks.sample import read_sample


@dataclass(frozen=True)
class Example:
    """One image with its prediction.

    Attributes:
        image: `(height, width, channels)`.
        map: `(height, width)`, the evidence for the predicted class; or None.
        label: The true class.
        predicted: The predicted one.
        confidence: Its probability.
        number: Number of the example in the held-out data; None for arrays, of which random rows are looked at.
        truth_map: `(height, width)`, the evidence for the true class where another one was predicted; or None.
    """

    image: np.ndarray
    map: np.ndarray | None
    label: int
    predicted: int
    confidence: float
    number: int | None = None
    truth_map: np.ndarray | None = None


@dataclass(frozen=True)
class Predictions:
    """Counts and examples of a classifier on held-out data.

    Attributes:
        labels: int64 `(n,)`, the true class of each example looked at.
        predicted: int64 `(n,)`, the predicted ones.
        confidence: float64 `(n,)`, the probability of the predicted class.
        classes: Number of classes.
        right: list of `Example`, most confident first, of different classes as far as there are.
        wrong: list of `Example`, most confident first.
        note: At which layer the maps were taken, or why there are none; empty without images to show.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    classes: int
    right: list[Example]
    wrong: list[Example]
    note: str

    def confusion(self) -> np.ndarray:
        """Counts, int64 `(classes, classes)`: rows are true, columns predicted classes. 800 MB for 10,000."""
        counts = np.zeros((self.classes, self.classes), "int64")
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts


def predictions(
    model: keras.Model, validation: Data, *, count: int = 6, examples: int = 2000
) -> Predictions | None:
    """Predict held-out examples and pick some, each with its Grad-CAM.

    Args:
        model: A trained classifier: one output of `(batch, classes)`, or one unit for two classes.
        validation: `tf.data.Dataset` or arrays of `(inputs, labels)`.
        count: Number of right and number of wrong predictions to pick.
        examples: Largest number of held-out examples to look at.

    Returns:
        `Predictions`, or None for a model or labels of another task than classification.
    """
    sample = read_sample(
        validation, model, batch_size=64, batches=-(-examples // 64), seconds=10.0, name="validation"
    )
    outputs = getattr(model, "outputs", None)
    if outputs is None or len(outputs) != 1 or len(outputs[0].shape) != 2 or len(model.inputs) != 1:
        return None
    inputs, labels = sample.inputs, sample.labels
    width = outputs[0].shape[-1]
    numbers = labels.argmax(-1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
    if not np.array_equal(numbers, np.round(numbers)) or numbers.min() < 0 or numbers.max() >= max(width, 2):
        return None
    scores = predict_array(model, inputs, batch_size=64)
    probabilities = _probabilities(scores)
    numbers, predicted = numbers.astype("int64"), probabilities.argmax(-1)
    sure = probabilities.max(-1)
    right = _spread(np.flatnonzero(predicted == numbers), sure, numbers, count)
    wrong = np.flatnonzero(predicted != numbers)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
    maps, note = _maps(model, inputs, np.concatenate([right, wrong]).astype("int64"))
    truths = [None] * len(right) + [None] * len(wrong)
    if width > 1 and len(wrong) and maps[-1] is not None:  # one unit has one map for both classes
        truths[len(right) :], note = _maps(model, inputs, wrong.astype("int64"), numbers[wrong])
        note += " For a mistake the evidence for the answer comes first, that for the true class after it."
    made = [
        Example(
            inputs[i],
            map_,
            int(numbers[i]),
            int(predicted[i]),
            float(sure[i]),
            int(i) if sample.ordered else None,
            truth,
        )
        for i, map_, truth in zip([*right, *wrong], maps, truths, strict=True)
        if inputs.ndim == 4
    ]
    classes = probabilities.shape[1]
    return Predictions(numbers, predicted, sure, classes, made[: len(right)], made[len(right) :], note)


def _probabilities(scores):
    scores = np.asarray(scores, "float64")
    if scores.shape[1] == 1:
        scores = scores if scores.min() >= 0 and scores.max() <= 1 else 1 / (1 + np.exp(-scores))
        return np.concatenate([1 - scores, scores], axis=1)
    if scores.min() >= 0 and np.allclose(scores.sum(-1), 1, atol=1e-2):
        return scores
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _spread(rows, sure, labels, count):
    """Rows sorted by certainty, one of each class before the second of any."""
    rows = rows[np.argsort(-sure[rows], kind="stable")]
    turn = np.zeros(len(rows), int)
    for number in np.unique(labels[rows]):
        same = labels[rows] == number
        turn[same] = np.arange(same.sum())
    return rows[np.argsort(turn, kind="stable")][:count]


def _maps(model, inputs, rows, targets=None):
    if inputs.ndim != 4 or not len(rows):
        return [None] * len(rows), "The inputs are not images."
    if keras.backend.backend() != "tensorflow":
        return [None] * len(rows), "Without heat maps, which need Keras on TensorFlow."
    from recipes import explain  # noqa: PLC0415 - needs TensorFlow, which other backends do without

    try:
        maps, layer = explain.grad_cam(model, inputs[rows], targets, verbose=0, return_layer=True)
    except (ValueError, TypeError) as error:  # no layer with feature maps, for example
        return [None] * len(rows), f"Grad-CAM does not fit this model: {error}"
    return list(keras.ops.convert_to_numpy(maps)), f"Beside each image: its Grad-CAM at layer {layer}."
