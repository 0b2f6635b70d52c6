"""classifier: all scores of a trained classifier on a test set, in one pass."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from recipes.common.datasets import as_batches, files_of
from recipes.common.models import output_activation, predict_batch
from recipes.common.types import Data
from recipes.evaluate.evaluation import Evaluation, Mistake
from recipes.evaluate.tally import Tally

_BLOCK = 65536  # examples scored at once


def classifier(
    model: Any,
    test: Data,
    *,
    class_names: Any = None,
    batch_size: int = 64,
    streaming: bool = False,
    thresholds: Any = None,
    pictures: int = 8,
    grad_cam: bool = False,
) -> Evaluation:
    """Predict a test set and score the predictions.

    Args:
        model: A trained `keras.Model` of one output of `(batch, classes)`, or one unit for two classes; or a
            `recipes.Run`. Its output may be logits: a model that ends in "linear" is given a softmax, or a sigmoid for
            one unit and for several labels.
        test: `tf.data.Dataset` of `(image, label)` or `(image, label, weight)`, batched or not, or a tuple of such
            arrays. Labels are class numbers, one-hot rows, or rows of 0 and 1 of any sum: several labels per example.
        class_names: Names of the classes; a run knows its own.
        batch_size: Images per batch, >= 1.
        streaming: False keeps every probability, 4 x (classes + 2) bytes per example. True keeps histograms of 4096
            bins instead, for any number of examples: AUROC, calibration error and coverage are then right to about
            1e-3, everything else exactly.
        thresholds: Threshold of each class, as `evaluate.thresholds` finds them, `(classes,)` in (0, 1); None is one
            half for several labels, and the likeliest class for one.
        pictures: Number of images of the most confident mistakes to keep in `.mistakes`, >= 0.
        grad_cam: Also show where in those images the evidence for the wrong class is.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: when labels do not fit the model's output, or outputs are not finite.

    Example:
        >>> print(classifier(run, test))
    """
    class_names = class_names if class_names is not None else getattr(model, "class_names", None)
    model = getattr(model, "model", model)
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4:
        raise ValueError(
            "evaluate.classifier expects a model of one answer per image. Received one that answers for every pixel, "
            f"with outputs {shape}. Its intersection over union is in run.history, and model.evaluate(images, masks) "
            "computes it for other images; recipes.train with masks compiles this metric."
        )
    scorer, kept = _Scorer(class_names, streaming, thresholds, output_activation(model)), {}
    for batch in _labeled_batches(model, test, batch_size, "evaluate.classifier"):
        outputs = predict_batch(model, batch[0]).astype("float32")
        labels = np.asarray(batch[1])
        weights = np.asarray(batch[2], "float64").reshape(-1) if len(batch) > 2 else None
        start = scorer.add(outputs, labels, weights)
        if pictures and not isinstance(batch[0], (dict, tuple, list)):
            _keep(kept, scorer.worst(pictures), start, np.asarray(batch[0]), labels, outputs)
    names, several = scorer.names, scorer.several
    worst = [number for number in scorer.worst(pictures) if number in kept]
    mistakes = _mistakes([kept[number] for number in worst], worst, names, scorer, several) if worst else ()
    if (files := files_of(test)) and mistakes:
        mistakes = tuple(replace(mistake, file=files[mistake.number]) for mistake in mistakes)
    if grad_cam and mistakes:
        mistakes = _with_maps(model, mistakes, names)
    return scorer.evaluation(mistakes)


def _keep(kept, wanted, start, images, labels, outputs):
    """Keep images, labels and outputs only of the examples that are wanted."""
    for number in [number for number in kept if number not in wanted]:
        del kept[number]
    for number in wanted:
        place = number - start
        if 0 <= place < len(images) and number not in kept:
            kept[number] = images[place].copy(), labels[place].copy(), outputs[place].copy()


def _mistakes(examples, numbers, names, scorer, several):
    images, labels, outputs = zip(*examples, strict=True)
    probabilities = as_probabilities(np.stack(outputs), scorer.activation, several)
    reached = probabilities if scorer.thresholds is None else probabilities / scorer.thresholds
    found = []
    for place, number in enumerate(numbers):
        row, label = probabilities[place], np.asarray(labels[place])
        if several:
            said = reached[place] >= (0.5 if scorer.thresholds is None else 1)
            true = "|".join(np.array(names)[label == 1]) or "none"
            words, sure = "|".join(np.array(names)[said]) or "none", np.where(said, row, 1 - row).min()
        else:
            label = label.argmax() if label.size > 1 else int(label.reshape(-1)[0])
            best = reached[place].argmax()
            true, words, sure = names[label], names[best], row[best]
        found.append(Mistake(int(number), images[place], true, words, float(sure)))
    return tuple(found)


def _with_maps(model, mistakes, names):
    """The same mistakes with their Grad-CAM; without it where the model has no feature maps, or off TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return mistakes
    from recipes.explain.attribution.grad_cam import (  # noqa: PLC0415 - needs TensorFlow
        grad_cam as grad_cam_maps,
    )

    images = np.stack([mistake.image for mistake in mistakes])
    targets = [names.index(mistake.predicted) if mistake.predicted in names else 0 for mistake in mistakes]
    single = model.output_shape[-1] == 1
    try:
        maps = grad_cam_maps(model, images, None if single else targets, verbose=0)
        truths = [None] * len(maps)
        # One unit has one map for both classes, and several labels have no one true class.
        if not single and all(mistake.label in names for mistake in mistakes):
            truths = grad_cam_maps(model, images, [names.index(one.label) for one in mistakes], verbose=0)
    except ValueError:
        return mistakes
    pairs = zip(mistakes, maps, truths, strict=True)
    return tuple(replace(mistake, map=map_, truth_map=truth) for mistake, map_, truth in pairs)


def _labeled_batches(model, data, batch_size, caller):
    name = "test" if "classifier" in caller else "validation"
    for batch in as_batches(data, model, batch_size=batch_size, caller=caller, name=name):
        if len(batch) < 2:
            raise ValueError(
                f"{caller} expects images with their labels. Received images only. Give (images, labels), or a "
                "data set of such pairs."
            )
        yield batch


def predict_labeled(
    model: keras.Model, data: Data, batch_size: int, caller: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """`(outputs, labels, weights or None)` of a whole labeled data set, as arrays."""
    outputs, labels, weights = [], [], []
    for batch in _labeled_batches(model, data, batch_size, caller):
        output = predict_batch(model, batch[0])
        outputs.append(output.astype("float32"))
        labels.append(np.asarray(batch[1]))
        weights += [np.asarray(batch[2])] if len(batch) > 2 else []
    weights = np.concatenate(weights).astype("float64").reshape(-1) if weights else None
    return np.concatenate(outputs), np.concatenate(labels), weights


def is_several(labels: np.ndarray) -> bool:
    """Whether labels are rows of 0 and 1 of which some do not sum to one: several labels per example, or none."""
    return labels.ndim == 2 and labels.shape[1] > 1 and not np.all(labels.sum(1) == 1)


def as_probabilities(outputs: np.ndarray, activation: str | None, several: bool = False) -> np.ndarray:
    """Probabilities `(n, classes)` of a model's outputs; one unit becomes two classes.

    Args:
        outputs: `(n, classes)` or `(n, 1)`.
        activation: Activation of the model's last layer, as `common.models.output_activation` says; None looks at the
            numbers.
        several: Whether classes do not exclude one another.

    Returns:
        float64 `(n, classes)` in [0, 1].

    Raises:
        ValueError: for outputs of another rank.
    """
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if outputs.ndim != 2:
        raise ValueError(
            f"recipes.evaluate expects outputs (examples, classes). Received shape {outputs.shape}. "
            "Only classifiers of whole images are covered."
        )
    outputs = outputs.astype("float64")
    single = outputs.shape[1] == 1
    if activation == "linear" or (activation is None and (outputs.min() < 0 or outputs.max() > 1)):
        if single or several:
            outputs = 1 / (1 + np.exp(-np.clip(outputs, -700, 700)))
        else:
            outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            outputs /= outputs.sum(axis=1, keepdims=True)
    return np.concatenate([1 - outputs, outputs], 1) if single else outputs


def from_probabilities(
    labels: Any,
    probabilities: Any,
    weights: Any = None,
    *,
    class_names: Any = None,
    streaming: bool = False,
    thresholds: Any = None,
) -> Evaluation:
    """Score predictions that were made already.

    Args:
        labels: Class numbers `(n,)`, one-hot rows `(n, classes)`, or rows of 0 and 1 for several labels per example.
        probabilities: `(n, classes)` in [0, 1]; `(n,)` or `(n, 1)` for the second of two classes.
        weights: Weight of each example, `(n,)`, >= 0; None counts each once.
        class_names: Names of the classes; None names them by their numbers.
        streaming: As in `classifier`.
        thresholds: As in `classifier`.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: for shapes that do not belong together, labels out of range, no examples, numbers that are not
            finite.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.dtype.kind != "f":
        probabilities = probabilities.astype("float64")
    if probabilities.ndim == 1:
        probabilities = probabilities[:, None]
    count, units = probabilities.shape if probabilities.ndim == 2 else (0, 0)
    classes = max(2, units)
    fits = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] in (1, classes))
    if not count or len(labels) != count or not fits:
        raise ValueError(
            "evaluate expects labels (n,) or (n, classes) and probabilities (n, classes), at least one. Received "
            f"shapes {labels.shape} and {probabilities.shape}. Check that they belong together."
        )
    weighted = None if weights is None else np.asarray(weights, "float64").reshape(-1)
    if weighted is not None and (len(weighted) != count or (weighted < 0).any() or not weighted.sum() > 0):
        raise ValueError(
            f"evaluate expects one weight >= 0 for each of {count} examples. Received {len(weighted)} weights. "
            "Leave them out to count each example once."
        )
    scorer = _Scorer(class_names, streaming, thresholds, "softmax")
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        scorer.add(probabilities[rows], labels[rows], None if weighted is None else weighted[rows])
    return scorer.evaluation()


class _Scorer:
    """Batches of outputs and labels of any form -> an `Evaluation`."""

    def __init__(self, class_names, streaming, thresholds, activation):
        self.given, self.streaming, self.thresholds = class_names, streaming, thresholds
        self.activation, self.tallies, self.names, self.count = activation, None, None, 0

    @property
    def several(self):
        return False not in self.tallies

    def worst(self, count):
        """Numbers of the most confident mistakes so far."""
        return [int(number) for number in self.tallies[self.several].worst[1][:count]]

    def add(self, outputs, labels, weights):
        """Add a batch; returns the number of its first example."""
        if not np.isfinite(outputs).all():
            raise ValueError(
                "evaluate expects finite probabilities. Received NaN or infinity. The model has diverged: see "
                "recipes.diagnose."
            )
        outputs = outputs[:, None] if outputs.ndim == 1 else outputs
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if self.tallies is None:
            self._begin(outputs, labels)
        labels = check_labels(labels, len(self.names))
        if labels.dtype == bool and not (labels.sum(axis=1) == 1).all():
            self.tallies.pop(False, None)  # that tally took the rows for one-hot labels
        for several, tally in self.tallies.items():
            known = labels if several or labels.dtype != bool else labels.argmax(axis=1)
            tally.add(self._probabilities(outputs, several), known, weights)
        start, self.count = self.count, self.count + len(outputs)
        return start

    def _begin(self, outputs, labels):
        if self.activation is None:
            self.activation = "linear" if outputs.min() < 0 or outputs.max() > 1 else "softmax"
        classes = max(2, outputs.shape[1])
        names = tuple(map(str, range(classes) if self.given is None else self.given))
        if len(names) != classes:
            raise ValueError(
                f"evaluate expects a name for each of {classes} classes. Received {len(names)}. Leave class_names out "
                "to call them by their numbers."
            )
        if self.thresholds is not None:
            self.thresholds = np.asarray(self.thresholds, "float64")
            fits = (
                self.thresholds.shape == (classes,) and ((0 < self.thresholds) & (self.thresholds < 1)).all()
            )
            if not fits:
                raise ValueError(
                    f"evaluate expects thresholds in (0, 1), one for each of {classes} classes. Received "
                    f"{self.thresholds}. Find them with evaluate.thresholds(model, validation)."
                )
        how = {"streaming": self.streaming, "thresholds": self.thresholds}
        kinds = (False, True) if labels.ndim == 2 else (False,)
        self.names = names
        self.tallies = {several: Tally(names, several=several, **how) for several in kinds}

    def _probabilities(self, outputs, several):
        if self.activation != "linear" and outputs.shape[1] > 1:
            return outputs
        return as_probabilities(outputs, self.activation, several).astype(outputs.dtype)

    def evaluation(self, mistakes=()):
        tally = self.tallies[self.several]
        if not tally.weight > 0:
            raise ValueError(
                "evaluate expects weights whose sum is above 0. Received zeros. Leave them out to count each example "
                "once."
            )
        found = tally.evaluation()
        return replace(found, mistakes=mistakes) if mistakes else found


def check_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels as int64 class numbers `(n,)`, or as booleans `(n, classes)`.

    Raises:
        ValueError: for rows of other numbers than 0 and 1, and class numbers out of range.
    """
    if labels.ndim == 2 and labels.shape[1] == classes:
        if not ((labels == 0) | (labels == 1)).all():
            raise ValueError(
                "evaluate expects rows of 0 and 1. Received other numbers. Test labels are not smoothed or mixed."
            )
        return labels == 1
    if labels.ndim != 1:
        raise ValueError(
            f"evaluate expects labels (n,) or (n, {classes}). Received shape {labels.shape}. Only classifiers of whole "
            "images are covered."
        )
    if labels.dtype.kind == "f" and (labels == np.floor(labels)).all():
        labels = labels.astype("int64")
    if labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"evaluate expects class numbers in 0..{classes - 1}. Received {labels.dtype} from {labels.min()} to "
            f"{labels.max()}. Number the classes as in training."
        )
    return labels.astype("int64")
