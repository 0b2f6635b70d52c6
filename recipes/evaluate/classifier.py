"""classifier: everything one asks of a trained classifier on a test set, in one pass."""

import html
import json
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from recipes.common.datasets import as_batches
from recipes.common.models import output_activation
from recipes.common.types import Data
from recipes.evaluate.scores import (
    area_under_roc,
    calibration_error,
    confusion_matrix,
    coverage_curve,
    wilson_interval,
)


@dataclass(frozen=True)
class Evaluation:
    """How a classifier did. Shares are in [0, 1]; of what never occurs a score is NaN, precision, recall and F1 are 0.

    Attributes:
        class_names: Of class 0, 1, ...
        count: Examples.
        accuracy: Share predicted right; of several labels an example, share with every label right.
        interval: 95 % of `accuracy`, by Wilson's score; without regard to weights.
        precision: Share right of those predicted as each class, `(classes,)`.
        recall: Share found of those of each class, `(classes,)`.
        f1: Harmonic mean of both, `(classes,)`.
        support: Examples of each class, `(classes,)`; sums of weights, if there are any.
        balanced_accuracy: Mean recall of the classes that occur.
        top5: Share with the true class among the five likeliest; NaN for five classes or fewer, and several labels.
        auroc: Area under the ROC curve of each class against the rest, `(classes,)`.
        confusion: Rows are true, columns predicted classes, `(classes, classes)`; for several labels `(classes, 2, 2)`.
        ece: Expected calibration error.
        reliability: `(bins, 3)`: mean confidence, accuracy, examples.
        coverage: `(n, 2)`: share of most confident examples, accuracy on it.
        worst: Numbers of the wrong predictions, most confident first, at most 100.
        log_loss: Mean `-log` of the probability of the truth.
    """

    class_names: tuple[str, ...]
    count: int
    accuracy: float
    interval: tuple[float, float]
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    balanced_accuracy: float
    top5: float
    auroc: np.ndarray
    confusion: np.ndarray
    ece: float
    log_loss: float
    reliability: np.ndarray = field(repr=False)
    coverage: np.ndarray = field(repr=False)
    worst: np.ndarray = field(repr=False)

    def confused_pairs(self, count: int = 10) -> list[tuple[str, str, float]]:
        """The most frequent mistakes, `(true class, predicted class, how often)`."""
        if self.confusion.ndim != 2:
            return []
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        places = np.stack(np.unravel_index(order, wrong.shape), 1)
        return [
            (self.class_names[true], self.class_names[said], float(wrong[true, said]))
            for true, said in places
            if wrong[true, said] > 0
        ]

    def table(self) -> str:
        """The scores as text: one line each for the whole, one a class, the most confused pairs."""
        low, high = self.interval
        lines = [
            f"{self.count} examples: accuracy {self.accuracy:.2%} (95 % {low:.2%} to {high:.2%}), "
            f"balanced {self.balanced_accuracy:.2%}, calibration error {self.ece:.2%}",
            "",
        ]
        width = max(5, *map(len, self.class_names))
        lines.append(f"{'class':{width}}  precision  recall      F1   AUROC  examples")
        rows = zip(
            self.class_names, self.precision, self.recall, self.f1, self.auroc, self.support, strict=True
        )
        lines += [f"{n:{width}}  {p:9.2%}  {r:6.2%}  {f:6.2%}  {a:6.4f}  {s:8g}" for n, p, r, f, a, s in rows]
        pairs = self.confused_pairs(5)
        if pairs:
            lines += ["", "most confused:"] + [f"  {true} taken for {said}: {n:g}" for true, said, n in pairs]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold of it; NaN becomes None."""
        plain = {}
        for name in self.__dataclass_fields__:
            if name not in ("coverage", "reliability", "worst"):
                plain[name] = _plain(getattr(self, name))
        return plain

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table())}</pre>"


def _plain(value):
    if isinstance(value, np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def classifier(model: Any, test: Data, *, class_names: Any = None, batch_size: int = 64) -> Evaluation:
    """Predict a test set and score the predictions.

    Args:
        model: A trained `keras.Model` of one output of `(batch, classes)`, or one unit for two classes; or a
            `recipes.Run`. Its output may be logits: a model that ends in "linear" is given a softmax, or a sigmoid for
            one unit and for several labels.
        test: `tf.data.Dataset` of `(image, label)` or `(image, label, weight)`, batched or not, or such arrays. Labels
            are class numbers, one-hot rows, or rows of 0 and 1 of any sum: several labels an example.
        class_names: Of the classes; a run knows its own.
        batch_size: Images at once.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: when labels do not fit the model's output.

    Example:
        >>> print(classifier(run, test))
    """
    class_names = class_names if class_names is not None else getattr(model, "class_names", None)
    model = getattr(model, "model", model)
    outputs, labels, weights = predict_labeled(model, test, batch_size, "evaluate.classifier")
    probabilities = as_probabilities(outputs, output_activation(model), is_several(labels))
    return from_probabilities(labels, probabilities, weights, class_names=class_names)


def predict_labeled(
    model: keras.Model, data: Data, batch_size: int, caller: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """`(outputs, labels, weights or None)` of a whole labeled data set, as arrays."""
    outputs, labels, weights = [], [], []
    for batch in as_batches(data, model, batch_size=batch_size, caller=caller, name="test"):
        if len(batch) < 2:
            raise ValueError(
                f"{caller} expects images with their labels. Received images only. Give (images, labels), or a "
                "data set of such pairs."
            )
        output = keras.ops.convert_to_numpy(model.predict_on_batch(batch[0]))
        outputs.append(output.astype("float32"))
        labels.append(np.asarray(batch[1]))
        weights += [np.asarray(batch[2])] if len(batch) > 2 else []
    weights = np.concatenate(weights).astype("float64").reshape(-1) if weights else None
    return np.concatenate(outputs), np.concatenate(labels), weights


def is_several(labels: np.ndarray) -> bool:
    """Whether labels are rows of 0 and 1 of which some do not sum to one: several labels an example, or none."""
    return labels.ndim == 2 and labels.shape[1] > 1 and not np.all(labels.sum(1) == 1)


def as_probabilities(outputs: np.ndarray, activation: str | None, several: bool = False) -> np.ndarray:
    """Probabilities `(n, classes)` of a model's outputs; one unit becomes two classes.

    Args:
        outputs: `(n, classes)` or `(n, 1)`.
        activation: Of the model's last layer, as `common.models.output_activation` says; None looks at the numbers.
        several: Whether classes do not exclude one another.
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
    labels: Any, probabilities: Any, weights: Any = None, *, class_names: Any = None
) -> Evaluation:
    """Score predictions that were made already.

    Args:
        labels: Class numbers `(n,)`, one-hot rows `(n, classes)`, or rows of 0 and 1 for several labels an example.
        probabilities: `(n, classes)`; `(n,)` or `(n, 1)` of the second of two classes.
        weights: Of the examples, `(n,)`, >= 0; None counts each once.
        class_names: Of the classes; None calls them by their numbers.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: for shapes that do not belong together, labels out of range, no examples, numbers that are not
            finite.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.ndim == 1:
        probabilities = probabilities[:, None]
    if probabilities.shape[-1] == 1:
        probabilities = np.concatenate([1 - probabilities, probabilities], 1)
    count, classes = probabilities.shape if probabilities.ndim == 2 else (0, 0)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if (
        not count
        or len(labels) != count
        or (labels.ndim == 2 and labels.shape[1] != classes)
        or labels.ndim > 2
    ):
        raise ValueError(
            "evaluate expects labels (n,) or (n, classes) and probabilities (n, classes), at least one. Received "
            f"shapes {labels.shape} and {probabilities.shape}. Check that they belong together."
        )
    if not np.isfinite(probabilities).all():
        raise ValueError(
            "evaluate expects finite probabilities. Received NaN or infinity. The model has diverged: see "
            "recipes.diagnose."
        )
    weighted = np.ones(count) if weights is None else np.asarray(weights, "float64").reshape(-1)
    if len(weighted) != count or (weighted < 0).any() or not weighted.sum() > 0:
        raise ValueError(
            f"evaluate expects one weight >= 0 for each of {count} examples. Received {len(weighted)} weights. "
            "Leave them out to count each example once."
        )
    names = tuple(map(str, range(classes))) if class_names is None else tuple(map(str, class_names))
    if len(names) != classes:
        raise ValueError(
            f"evaluate expects a name for each of {classes} classes. Received {len(names)}. Leave class_names out to "
            "call them by their numbers."
        )
    if labels.ndim == 2:
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                "evaluate expects rows of 0 and 1. Received other numbers. Test labels are not smoothed or mixed."
            )
        if not (labels.sum(axis=1) == 1).all():
            return _of_several(labels == 1, probabilities, weighted, names)
        labels = labels.argmax(axis=1)
    if labels.dtype.kind == "f" and (labels == np.floor(labels)).all():
        labels = labels.astype("int64")
    if labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"evaluate expects class numbers in 0..{classes - 1}. Received {labels.dtype} from {labels.min()} to "
            f"{labels.max()}. Number the classes as in training."
        )
    return _of_one(labels.astype("int64"), probabilities, weighted, names)


def _of_one(labels, probabilities, weights, names):
    classes = len(names)
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    confidence = probabilities[np.arange(len(labels)), predicted].astype("float64")
    confusion = confusion_matrix(labels, predicted, weights, classes)
    hit, support, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    recall = _share(hit, support)
    ece, diagram = calibration_error(confidence, right)
    truth = probabilities[np.arange(len(labels)), labels].astype("float64")
    top5 = np.nan
    if classes > 5:
        top5 = _mean((probabilities > truth[:, None]).sum(axis=1) < 5, weights)
    wrong = np.flatnonzero(~right)
    return Evaluation(
        class_names=names,
        count=len(labels),
        accuracy=_mean(right, weights),
        interval=wilson_interval(int(right.sum()), len(labels)),
        precision=_share(hit, said),
        recall=recall,
        f1=_share(2 * hit, support + said),
        support=support,
        balanced_accuracy=float(recall[support > 0].mean()),
        top5=top5,
        auroc=np.array([area_under_roc(probabilities[:, c], labels == c, weights) for c in range(classes)]),
        confusion=confusion,
        ece=ece,
        log_loss=_mean(-np.log(np.maximum(truth, np.finfo("float64").tiny)), weights),
        reliability=diagram,
        coverage=coverage_curve(confidence, right),
        worst=wrong[np.argsort(-confidence[wrong], kind="stable")][:100],
    )


def _of_several(labels, probabilities, weights, names):
    """Of labels that do not exclude one another, each a yes or no at one half."""
    predicted = probabilities >= 0.5
    each = weights[:, None]
    hit, support, said = ((what * each).sum(axis=0) for what in (labels & predicted, labels, predicted))
    none = weights.sum() - support - said + hit
    right = (labels == predicted).all(axis=1)
    sure = np.where(predicted, probabilities, 1 - probabilities).astype("float64")
    confidence = sure.min(axis=1)
    ece, diagram = calibration_error(sure.ravel(), (labels == predicted).ravel())
    truth = np.where(labels, probabilities, 1 - probabilities).astype("float64")
    recall = _share(hit, support)
    wrong = np.flatnonzero(~right)
    return Evaluation(
        class_names=names,
        count=len(labels),
        accuracy=_mean(right, weights),
        interval=wilson_interval(int(right.sum()), len(labels)),
        precision=_share(hit, said),
        recall=recall,
        f1=_share(2 * hit, support + said),
        support=support,
        balanced_accuracy=float(recall[support > 0].mean()) if (support > 0).any() else np.nan,
        top5=np.nan,
        auroc=np.array(
            [area_under_roc(probabilities[:, c], labels[:, c], weights) for c in range(len(names))]
        ),
        confusion=np.stack([none, said - hit, support - hit, hit], 1).reshape(-1, 2, 2),
        ece=ece,
        log_loss=_mean(-np.log(np.maximum(truth, np.finfo("float64").tiny)).mean(axis=1), weights),
        reliability=diagram,
        coverage=coverage_curve(confidence, right),
        worst=wrong[np.argsort(-confidence[wrong], kind="stable")][:100],
    )


def _share(part, whole):
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _mean(values, weights):
    return float((values * weights).sum() / weights.sum())
