"""Sums over batches of predictions, from which an `Evaluation` is made at the end."""

import numpy as np

from recipes.evaluate.evaluation import Evaluation
from recipes.evaluate.ranks import ExactRanks, HistogramRanks
from recipes.evaluate.scores import confusion_matrix, wilson_interval

_WORST = 100


class Tally:
    """What is known about the predictions so far.

    Args:
        class_names: Names of class 0, 1, ...
        several: Whether classes do not exclude one another.
        streaming: Keep histograms instead of the probabilities.
        thresholds: Threshold of each class, in (0, 1); None is one half for several labels, and the likeliest class for
            one.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        *,
        several: bool,
        streaming: bool,
        thresholds: np.ndarray | None = None,
    ) -> None:
        classes = len(class_names)
        self.class_names, self.several, self.thresholds = class_names, several, thresholds
        self.ranks = HistogramRanks(several, classes) if streaming else ExactRanks(several)
        self.confusion = np.zeros((classes, 2, 2) if several else (classes, classes))
        self.count = self.right = 0
        self.weight = self.weight_right = self.weight_top5 = self.loss = 0.0
        self.worst = np.zeros(0), np.zeros(0, int)  # confidence, number

    def add(self, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
        """Add a batch.

        Args:
            probabilities: `(b, classes)`.
            labels: int64 class numbers `(b,)`; bool `(b, classes)` for several labels.
            weights: `(b,)`, >= 0, or None.
        """
        self.ranks.add(probabilities, labels, weights)
        each = np.ones(len(labels)) if weights is None else weights
        wide = probabilities.astype("float64")
        right, confidence, loss = (self._several if self.several else self._single)(wide, labels, each)
        self.weight += each.sum()
        self.weight_right += each[right].sum()
        self.loss += (each * loss).sum()
        wrong = np.flatnonzero(~right)
        together = np.concatenate([self.worst[0], confidence[wrong]])
        numbers = np.concatenate([self.worst[1], wrong + self.count])
        order = np.argsort(-together, kind="stable")[:_WORST]
        self.worst = together[order], numbers[order]
        self.count += len(labels)
        self.right += int(right.sum())

    def _single(self, probabilities, labels, weights):
        classes, rows = len(self.class_names), np.arange(len(labels))
        reached = probabilities if self.thresholds is None else probabilities / self.thresholds
        predicted = reached.argmax(axis=1)
        self.confusion += confusion_matrix(labels, predicted, weights, classes)
        truth = probabilities[rows, labels]
        if classes > 5:
            self.weight_top5 += weights[(probabilities > truth[:, None]).sum(axis=1) < 5].sum()
        return predicted == labels, probabilities[rows, predicted], _minus_log(truth)

    def _several(self, probabilities, labels, weights):
        """Score labels that do not exclude one another, each a yes or no."""
        predicted = probabilities >= (0.5 if self.thresholds is None else self.thresholds)
        each = weights[:, None]
        hit, yes, said = ((what * each).sum(axis=0) for what in (labels & predicted, labels, predicted))
        none = weights.sum() - yes - said + hit
        self.confusion += np.stack([none, said - hit, yes - hit, hit], 1).reshape(-1, 2, 2)
        sure = np.where(predicted, probabilities, 1 - probabilities).min(axis=1)
        truth = np.where(labels, probabilities, 1 - probabilities)
        return (labels == predicted).all(axis=1), sure, _minus_log(truth).mean(axis=1)

    def evaluation(self) -> Evaluation:
        """The scores of all batches together."""
        if self.several:
            hit = self.confusion[:, 1, 1]
            support, said = self.confusion[:, 1].sum(axis=1), self.confusion[:, :, 1].sum(axis=1)
        else:
            hit, support, said = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        classes, recall = len(self.class_names), _share(hit, support)
        ece, diagram = self.ranks.calibration()
        occurs = support > 0
        return Evaluation(
            class_names=self.class_names,
            count=self.count,
            accuracy=float(self.weight_right / self.weight),
            interval=wilson_interval(self.right, self.count),
            precision=_share(hit, said),
            recall=recall,
            f1=_share(2 * hit, support + said),
            support=support,
            balanced_accuracy=float(recall[occurs].mean()) if occurs.any() else np.nan,
            top5=float(self.weight_top5 / self.weight) if classes > 5 and not self.several else np.nan,
            auroc=self.ranks.areas(classes),
            confusion=self.confusion,
            ece=ece,
            log_loss=float(self.loss / self.weight),
            reliability=diagram,
            coverage=self.ranks.coverage(),
            worst=self.worst[1],
        )


def _minus_log(truth):
    return -np.log(np.maximum(truth, np.finfo("float64").tiny))


def _share(part, whole):
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
