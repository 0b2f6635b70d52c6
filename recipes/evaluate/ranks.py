"""Scores that come from the order of the probabilities: exactly from all of them, or from histograms.

Both classes are given batches and answer the same three questions: the area under each ROC curve, the calibration error
with its diagram, and the accuracy on the most confident examples.
"""

import math

import numpy as np

from recipes.evaluate.scores import area_under_roc, calibration_error, coverage_curve, error_of_bins

BINS = 4096
_CALIBRATION_BINS, _POINTS = 15, 1000
_BLOCK = 65536
# Log odds of float32 probabilities above 0 and below 1 lie between these.
_LOWEST, _HIGHEST = -90.0, 18.0


class ExactRanks:
    """Keeps every probability. Memory per example: 4 bytes per class and 4 for its label, and 4 more for the scores.

    Weighted examples and float64 probabilities take the plain way, which needs several times that.
    """

    def __init__(self, several: bool) -> None:
        self.several, self.chunks, self.plain = several, [], False

    def add(self, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
        """Add a batch: `(b, classes)`, class numbers `(b,)` or booleans `(b, classes)`, weights `(b,)` or None."""
        self.plain |= weights is not None or probabilities.dtype != np.float32
        if probabilities.min() < 0 or probabilities.max() > 1:
            self.plain = True
        kept = labels if labels.dtype == bool else labels.astype("int32")
        self.chunks.append((probabilities, kept, weights))

    @property
    def count(self) -> int:
        """Number of examples."""
        return sum(len(labels) for _, labels, _ in self.chunks)

    def areas(self, classes: int) -> np.ndarray:
        """`area_under_roc` of each class, float64 `(classes,)`."""
        weighted = any(weights is not None for _, _, weights in self.chunks)
        return np.array([self._weighted_area(c) if weighted else self._area(c) for c in range(classes)])

    def _of_class(self, number):
        for probabilities, labels, weights in self.chunks:
            positive = labels[:, number] if self.several else labels == number
            yield probabilities[:, number], positive, weights

    def _weighted_area(self, number):
        scores, positive, weights = zip(*self._of_class(number), strict=True)
        weights = [
            np.ones(len(yes)) if each is None else each for each, yes in zip(weights, positive, strict=True)
        ]
        return area_under_roc(np.concatenate(scores), np.concatenate(positive), np.concatenate(weights))

    def _area(self, number):
        """How many negatives lie below each positive, ties counted half; both sorted in one array."""
        scores = np.empty(self.count, self.chunks[0][0].dtype)
        first, last = 0, len(scores)
        for values, positive, _ in self._of_class(number):
            yes, no = values[positive], values[~positive]
            scores[first : first + len(no)] = no
            scores[last - len(yes) : last] = yes
            first, last = first + len(no), last - len(yes)
        negatives, positives = scores[:first], scores[first:]
        if not len(negatives) or not len(positives):
            return math.nan
        negatives.sort()
        positives.sort()
        below = 0
        for start in range(0, len(positives), _BLOCK):
            block = positives[start : start + _BLOCK]
            below += int(np.searchsorted(negatives, block, "left").sum())
            below += int(np.searchsorted(negatives, block, "right").sum())
        return below / 2 / len(negatives) / len(positives)

    def calibration(self) -> tuple[float, np.ndarray]:
        """`calibration_error` of the predicted classes, or of each yes and no."""
        parts = [_sureness(p, y, self.several, every=True) for p, y, _ in self.chunks] if self.plain else None
        if parts is not None:
            return calibration_error(*map(np.concatenate, zip(*parts, strict=True)))
        keys = self._keys(every=True)
        ends = np.linspace(0, len(keys), min(_CALIBRATION_BINS, len(keys)) + 1).round().astype(int)
        rights = np.diff(_rights_up_to(keys, ends))
        sums = [_confidences(keys[start:stop]) for start, stop in zip(ends[:-1], ends[1:], strict=True)]
        return error_of_bins(np.array(sums), rights, np.diff(ends))

    def coverage(self) -> np.ndarray:
        """`coverage_curve` at no more than 1000 places."""
        if self.plain:
            parts = [_sureness(p, y, self.several, every=False) for p, y, _ in self.chunks]
            curve = coverage_curve(*map(np.concatenate, zip(*parts, strict=True)))
            return curve[_places(len(curve)) - 1]
        keys = self._keys(every=False)
        taken = _places(len(keys))
        rights = _rights_up_to(keys, (len(keys) - taken)[::-1])[::-1]
        total = _rights_up_to(keys, np.array([len(keys)]))[0]
        return np.stack([taken / len(keys), (total - rights) / taken], 1)

    def _keys(self, every):
        """The bits of each confidence, which for numbers in [0, 1] order as they do, then one for right; sorted."""
        width = self.chunks[0][0].shape[1] if self.several and every else 1
        keys, start = np.empty(self.count * width, np.uint32), 0
        for probabilities, labels, _ in self.chunks:
            confidence, right = _sureness(probabilities, labels, self.several, every=every)
            bits = (confidence.astype(np.float32) + np.float32(0)).view(np.uint32)
            keys[start : start + len(bits)] = bits << 1 | right
            start += len(bits)
        keys.sort()
        return keys


class HistogramRanks:
    """Keeps counts in 4096 bins of equal width in the log odds of the probability, whatever the number of examples."""

    def __init__(self, several: bool, classes: int) -> None:
        self.several = several
        self.positive, self.negative = np.zeros((classes, BINS)), np.zeros((classes, BINS))
        self.sure, self.one = np.zeros((3, BINS)), np.zeros((3, BINS))  # count, right, sum of confidences

    def add(self, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
        """As `ExactRanks.add`."""
        classes = len(self.positive)
        weights = np.ones(len(labels)) if weights is None else weights
        bins = _bins_of(probabilities) + BINS * np.arange(classes)
        rows = labels if self.several else labels[:, None] == np.arange(classes)
        each = np.broadcast_to(weights[:, None], rows.shape)
        self.positive += np.bincount(bins[rows], each[rows], classes * BINS).reshape(classes, BINS)
        self.negative += np.bincount(bins[~rows], each[~rows], classes * BINS).reshape(classes, BINS)
        for held, every in ((self.sure, True), (self.one, False)):
            confidence, right = _sureness(probabilities, labels, self.several, every=every)
            places = _bins_of(confidence)
            for row, values in enumerate((None, right.astype(float), confidence.astype(float))):
                held[row] += np.bincount(places, values, BINS)

    def areas(self, classes: int) -> np.ndarray:
        """The area under each ROC curve, where scores in one bin count as ties."""
        below = np.cumsum(self.negative, axis=1) - self.negative / 2
        total = self.positive.sum(1) * self.negative.sum(1)
        hits = (self.positive * below).sum(1)
        return np.divide(hits, total, out=np.full(classes, np.nan), where=total > 0)

    def calibration(self) -> tuple[float, np.ndarray]:
        """The calibration error over bins of equal numbers; a bin of the histogram is split in proportion."""
        ends = np.linspace(0, self.sure[0].sum(), _CALIBRATION_BINS + 1)
        count, rights, sums = (np.diff(_cumulative(self.sure[0], row, ends)) for row in self.sure)
        return error_of_bins(sums, rights, count)

    def coverage(self) -> np.ndarray:
        """The accuracy on the most confident share of the examples."""
        count, right = np.cumsum(self.one[0][::-1]), np.cumsum(self.one[1][::-1])
        used = np.flatnonzero(self.one[0][::-1])
        return np.stack([count[used] / count[-1], right[used] / count[used]], 1)


def _sureness(probabilities, labels, several, *, every):
    """Confidence and whether that was right: of each example, or of each yes and no where `every`."""
    if several:
        predicted = probabilities >= 0.5
        sure = np.where(predicted, probabilities, 1 - probabilities)
        right = predicted == labels
        return (sure.ravel(), right.ravel()) if every else (sure.min(axis=1), right.all(axis=1))
    predicted = probabilities.argmax(axis=1)
    return probabilities[np.arange(len(labels)), predicted], predicted == labels


def _bins_of(probabilities):
    with np.errstate(divide="ignore"):
        wide = probabilities.astype("float64")
        odds = np.log(wide) - np.log1p(-wide)
    place = (np.clip(odds, _LOWEST, _HIGHEST) - _LOWEST) * ((BINS - 1) / (_HIGHEST - _LOWEST))
    return place.astype(np.int64)


def _cumulative(counts, values, ends):
    """Sum of `values` over the first `ends` examples of a histogram of `counts`."""
    return np.interp(ends, np.concatenate([[0], np.cumsum(counts)]), np.concatenate([[0], np.cumsum(values)]))


def _places(count):
    """No more than 1000 numbers of examples in 1..count, the last one among them."""
    return np.unique(np.ceil(np.linspace(0, count, min(count, _POINTS) + 1)[1:]).astype(int))


def _rights_up_to(keys, positions):
    """Right predictions among the first `positions` (ascending) keys; those of one confidence are evenly spread."""
    found, seen, start = [], 0, 0
    for position in positions:
        low, middle, high = position, position, position
        if position < len(keys):
            value = keys[position] >> np.uint32(1) << np.uint32(1)
            low, middle = (int(np.searchsorted(keys, edge)) for edge in (value, value | np.uint32(1)))
            high = int(np.searchsorted(keys, value | np.uint32(1), "right"))
        for block in range(start, low, _BLOCK):
            seen += int(np.count_nonzero(keys[block : min(block + _BLOCK, low)] & np.uint32(1)))
        start = max(start, low)
        inside = (high - middle) * (position - low) / (high - low) if high > low else 0.0
        found.append(seen + inside)
    return np.array(found)


def _confidences(keys):
    blocks = (keys[start : start + _BLOCK] for start in range(0, len(keys), _BLOCK))
    return sum(float((block >> np.uint32(1)).view(np.float32).sum(dtype="float64")) for block in blocks)
