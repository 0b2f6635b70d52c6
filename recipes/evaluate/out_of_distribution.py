"""out_of_distribution: whether a model notices images of another kind than those it was trained on."""

import os
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.backends import require_tensorflow
from recipes.common.datasets import as_batches
from recipes.common.models import output_activation
from recipes.common.types import Data, Images
from recipes.data.find_files import find_files, is_path
from recipes.data.read import read_image
from recipes.evaluate.classifier import as_probabilities
from recipes.evaluate.scores import area_under_roc
from recipes.evaluate.temperature import Temperature

_NEIGHBORS = 50


@dataclass(frozen=True)
class OutOfDistribution:
    """How well each score separates images from inside from those outside. High scores speak for inside.

    Attributes:
        auroc: By name of the score: the chance that an image from inside scores above one from outside.
        false_positives: By name: share of outside images that pass the threshold which 95 % of the inside images pass.
        thresholds: By name: that threshold.
        inside: By name: the score of each image from inside, float32 `(n,)`.
        outside: By name: the score of each image from outside, float32 `(m,)`.
    """

    auroc: dict[str, float]
    false_positives: dict[str, float]
    thresholds: dict[str, float]
    inside: dict[str, np.ndarray] = field(repr=False)
    outside: dict[str, np.ndarray] = field(repr=False)

    def table(self) -> str:
        """One line per score."""
        lines = [f"{'score':18}  AUROC   share of outside that passes where 95 % of inside do"]
        for name, area in self.auroc.items():
            lines.append(f"{name:18}  {area:.4f}  {self.false_positives[name]:.2%}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the scores of single images."""
        return {"auroc": self.auroc, "false_positives": self.false_positives, "thresholds": self.thresholds}

    def __str__(self) -> str:
        return self.table()


def out_of_distribution(
    model: Any, inside: "Data | Images | Any", outside: "Data | Images | Any", *, batch_size: int = 64
) -> OutOfDistribution:
    """Score images of a known kind and of another by three rules, and measure how well each rule tells them apart.

    - "max_softmax": the probability of the likeliest class (Hendrycks & Gimpel 2017, https://arxiv.org/abs/1610.02136);
    - "energy": `log sum exp` of the logits (Liu et al. 2020, equation 4 with the sign turned and temperature 1,
      https://arxiv.org/abs/2010.03759); left out where the logits before a softmax cannot be found;
    - "feature_distance": minus the distance to the 50th nearest known image (with fewer than 500 of them, to the one at
      a tenth of their number). Distances are between the inputs of the last Dense layer (or 1x1 convolution), scaled to
      length 1 (Sun et al. 2022, section 3, https://arxiv.org/abs/2204.06507). Every second image from inside is taken
      as known, and only the others are scored.

    Args:
        model: A trained `keras.Model` of one output `(batch, classes)`, or a `recipes.Run`.
        inside: Held-out images like the training images: arrays, a `tf.data.Dataset` of images or of `(image, label)`;
            with a run also a folder, a pattern, or a list of files, read as in training.
        outside: Images of another kind, in the same forms.
        batch_size: Images per batch, >= 1.

    Returns:
        An `OutOfDistribution`.

    Raises:
        ValueError: for fewer than four images inside or none outside; paths without a run that knows its images.
        RuntimeError: on another backend than TensorFlow.
    """
    require_tensorflow("evaluate.out_of_distribution", "for the logits and features it looks up")
    run, model = model, getattr(model, "model", model)
    scored = [
        _scores(run, model, images, batch_size, name)
        for images, name in ((inside, "inside"), (outside, "outside"))
    ]
    (known, features), (other, strange) = scored
    if len(features) < 4:
        raise ValueError(
            f"evaluate.out_of_distribution expects at least four images inside. Received {len(features)}. Give a few "
            "hundred."
        )
    inside_scores = {name: values[1::2] for name, values in known.items()}
    reference = features[::2]
    inside_scores["feature_distance"] = -neighbor_distance(features[1::2], reference)
    other["feature_distance"] = -neighbor_distance(strange, reference)
    auroc, passing, limits = {}, {}, {}
    for name, values in inside_scores.items():
        both = np.concatenate([values, other[name]])
        positive = np.arange(len(both)) < len(values)
        auroc[name] = area_under_roc(both, positive, np.ones(len(both)))
        limits[name] = float(np.quantile(values, 0.05))
        passing[name] = float((other[name] >= limits[name]).mean())
    return OutOfDistribution(auroc, passing, limits, inside_scores, other)


def neighbor_distance(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The distance of each row to its k-th nearest of others, k = min(50, a tenth of them), both scaled to length 1.

    Args:
        features: `(n, length)`.
        reference: `(m, length)`, m >= 1.

    Returns:
        float32 `(n,)` in [0, 2].
    """
    features, reference = (_unit(rows) for rows in (features, reference))
    place = max(1, min(_NEIGHBORS, len(reference) // 10)) - 1
    found = []
    for start in range(0, len(features), 1024):
        square = 2 - 2 * features[start : start + 1024] @ reference.T
        found.append(np.sqrt(np.maximum(np.partition(square, place, axis=1)[:, place], 0)))
    return np.concatenate(found).astype("float32")


def _unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _scores(run, model, images, batch_size, name):
    """`(scores by name, features)` of all images."""
    from recipes.explain.engine.logits import ending_of  # noqa: PLC0415 - reads TensorFlow's graphs
    from recipes.explain.inspection.features import features as features_of  # noqa: PLC0415 - the same

    plain = _before_temperature(model)

    @tf.function(autograph=False)
    def outputs_of(batch):
        outputs = plain(batch, training=False)
        ending = ending_of(outputs)
        found = ending.kind in ("softmax", "linear")
        return outputs, ending.logits if found else outputs[:, :0]

    activation = output_activation(plain)
    scores, vectors = {"max_softmax": [], "energy": []}, []
    for batch in _batches(run, model, images, batch_size, name):
        batch = batch.astype("float32")
        outputs, logits = (tensor.numpy().astype("float64") for tensor in outputs_of(batch))
        scores["max_softmax"].append(as_probabilities(outputs, activation).max(axis=1))
        if logits.shape[1] > 1:
            highest = logits.max(axis=1, keepdims=True)
            scores["energy"].append(np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0])
        vectors.append(features_of(model, batch, batch_size=batch_size))
    joined = {name: np.concatenate(parts).astype("float32") for name, parts in scores.items() if parts}
    return joined, np.concatenate(vectors)


def _before_temperature(model):
    """The model as it was trained, because the energy is computed from its own logits."""
    last = model.layers[-1] if model.layers else None
    return keras.Model(model.inputs, last.input) if isinstance(last, Temperature) else model


def _batches(run, model, images, batch_size, name):
    """Arrays of images from whatever was given."""
    caller = "evaluate.out_of_distribution"
    if is_path(images) or (isinstance(images, (list, tuple)) and images and all(map(is_path, images))):
        settings = getattr(run, "settings", None) or {}
        shape = tuple(settings.get("image_shape") or ())
        if len(shape) != 3 or settings.get("class_names") is None:
            raise ValueError(
                f"{caller} expects a run that knows how its images were read, for {name} as files. Received "
                f"{type(run).__name__} without that. Give arrays, or a tf.data.Dataset."
            )
        how = {
            "fit": settings.get("fit") or "crop",
            "background": tuple(settings.get("background") or ()) or "white",
        }
        files = find_files(images)
        for start in range(0, len(files), batch_size):
            batch = [
                read_image(os.fspath(f), shape[:2], channels=shape[2], **how)
                for f in files[start : start + batch_size]
            ]
            yield np.stack(batch)
        return
    for batch in as_batches(images, model, batch_size=batch_size, caller=caller, name=name):
        yield np.asarray(batch[0])
