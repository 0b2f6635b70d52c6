"""Classifiers that see only the borders of images: where they are right, something there tells the class."""

import numpy as np
from numpy.typing import NDArray

_DEPTH = 0.15  # of the border, as a share of the sides
_FOLDS = 4
_TRIES = 2
_PENALTIES = (0.03, 0.3, 3.0)  # times the number of images
_BINS = 6
_FEW = 3  # features that the naive Bayes classifier uses
_CELLS = tuple(
    words.format(edge)
    for edge in ("upper", "lower")
    for words in (
        "{} left corner",
        "left part of the {} edge",
        "{} edge",
        "right part of the {} edge",
        "{} right corner",
    )
) + tuple(
    words.format(edge)
    for edge in ("left", "right")
    for words in ("upper part of the {} edge", "{} edge", "lower part of the {} edge")
)
_OF_A_CELL = 6  # features per cell
_PIECES = 8  # pieces of each outermost row or column
_MORE = 0.25  # least difference in Youden's J by which the border has to predict a class better than the middle does
_ERRORS = 3.0  # least number of standard errors of that difference


def border_features(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of sixteen cells around the border of each image, and of its outermost rows and columns.

    Each cell is 15 % of the sides deep. Its six features are the mean, standard deviation, minimum and maximum gray
    level, the mean difference of neighboring pixels (large for letters), and the mean difference of the color channels
    (large for color).

    Args:
        images: `(n, height, width, channels)`, values in [0, 255].

    Returns:
        float32 `(n, 128)` for images of any size: 96 features of the cells, then the mean gray levels of 32 pieces of
        the outermost rows and columns.
    """
    gray = images.mean(-1)
    height, width = gray.shape[1:]
    lines = (gray[:, 0], gray[:, -1], gray[:, :, 0], gray[:, :, -1])
    return _features(images, gray, _cells(height, width), lines)


def middle_features(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features of `border_features` for the middle of the images, for comparison.

    The sixteen cells form a grid in the middle, half of the sides wide; the rows and columns are those around the grid.

    Args:
        images: `(n, height, width, channels)`, values in [0, 255].

    Returns:
        float32 `(n, 128)`, as from `border_features`.
    """
    gray = images.mean(-1)
    rows, columns = (_quarters(side) for side in gray.shape[1:])
    top, bottom, left, right = rows[0].start, rows[-1].stop - 1, columns[0].start, columns[-1].stop - 1
    inside = slice(top, bottom + 1), slice(left, right + 1)
    lines = (
        gray[:, top, inside[1]],
        gray[:, bottom, inside[1]],
        gray[:, inside[0], left],
        gray[:, inside[0], right],
    )
    return _features(images, gray, [(row, column) for row in rows for column in columns], lines)


def _features(images, gray, cells, lines):
    parts = [_of_cell(images, gray, rows, columns) for rows, columns in cells]
    for line in lines:
        pieces = np.array_split(line, _PIECES, 1)
        parts.append(np.stack([piece.mean(1) if piece.size else np.zeros(len(piece)) for piece in pieces], 1))
    return np.nan_to_num(np.concatenate(parts, 1)).astype(np.float32)


def _quarters(side):
    """Four slices of the middle half of a side, each at least one pixel long."""
    edges = np.rint(np.linspace(side / 4, 3 * side / 4, 5)).astype(int)
    return [
        slice(max(0, min(first, side - 1)), max(first + 1, last))
        for first, last in zip(edges, edges[1:], strict=False)
    ]


def _cells(height, width):
    """`(rows, columns)` of the cells, in the order of `_CELLS`; each is at least one pixel wide and high."""
    tall, wide = max(1, round(_DEPTH * height)), max(1, round(_DEPTH * width))
    across, down = (_between(depth, side) for depth, side in ((wide, width), (tall, height)))
    row = [slice(0, wide), *across, slice(width - wide, width)]
    found = [(rows, columns) for rows in (slice(0, tall), slice(height - tall, height)) for columns in row]
    return found + [
        (rows, columns) for columns in (slice(0, wide), slice(width - wide, width)) for rows in down
    ]


def _between(depth, side):
    edges = np.rint(np.linspace(depth, side - depth, 4)).astype(int)
    return [
        slice(max(0, min(first, side - 1)), max(first + 1, last))
        for first, last in zip(edges, edges[1:], strict=False)
    ]


def _of_cell(images, gray, rows, columns):
    cell = gray[:, rows, columns]
    pixels = cell.reshape(len(cell), -1)
    changes = sum(
        np.abs(np.diff(cell, axis=axis)).mean((1, 2)) if cell.shape[axis] > 1 else 0.0 for axis in (1, 2)
    )
    color = images[:, rows, columns]
    colored = (color.max(-1) - color.min(-1)).mean((1, 2))
    changes = np.broadcast_to(changes, colored.shape)
    return np.stack([pixels.mean(1), pixels.std(1), pixels.min(1), pixels.max(1), changes, colored], 1)


class BorderProbe:
    """Collects features of a random sample of images, and tests how well they predict the class.

    Args:
        most: Largest number of images in the sample, > 0.
    """

    def __init__(self, most: int) -> None:
        self.most, self.rng = most, np.random.default_rng(0)
        self.features, self.labels, self.seen = [], [], 0

    def add(self, features: NDArray[np.float32], labels: NDArray[np.integer]) -> None:
        """Add a batch to the sample, in which each image of the data set has the same probability.

        Source: reservoir sampling, Vitter 1985, "Random Sampling with a Reservoir", algorithm R.

        Args:
            features: float32 `(n, features)`.
            labels: Class numbers `(n,)`.
        """
        for row, label in zip(features, labels.tolist(), strict=True):
            self.seen += 1
            if len(self.features) < self.most:
                self.features.append(row)
                self.labels.append(label)
            elif (place := int(self.rng.integers(self.seen))) < self.most:
                self.features[place], self.labels[place] = row, label

    def judge(self) -> tuple[float | None, float | None, bool]:
        """Accuracy of the probe on images that it was not trained on, compared with chance.

        It is far above chance where the difference is more than five standard errors and more than a quarter of the
        distance from chance to 1. Both the accuracy and the mean recall of the classes are tested, as rare classes
        count little in the accuracy.

        Returns:
            `(accuracy, chance, beats)`: the accuracy in [0, 1], the share of the most frequent class, and whether the
            probe is far above chance. It is `(None, None, False)` for fewer than 40 images or a single class.
        """
        known = self._known()
        if known is None:
            return None, None, False
        features, number = known
        rows = np.eye(number.max() + 1)[number]
        return _judge(self._answers(features, rows), number, rows)

    def judge_border(self) -> tuple[float | None, float | None, bool]:
        """As `judge`, but the border also has to predict some class better than the middle of the images does.

        In ordinary photos, the border predicts the class too, by the grass or the sky around the object, but the middle
        predicts it better. For some class, the Youden's J of the border has to be larger by 0.25, or only half as far
        from 1. The difference also has to be more than three standard errors on the same images. The features are
        compared as they are, and as differences from the median cell of their image, which show a stamp.

        The collected features have to be those of `border_features`, followed by those of `middle_features`.

        Returns:
            `(accuracy, chance, beats)` of the border, as in `judge`.
        """
        known = self._known()
        if known is None:
            return None, None, False
        features, number = known
        rows = np.eye(number.max() + 1)[number]
        border, middle = np.split(features, 2, 1)
        answers = self._answers(border, rows)
        accuracy, chance, beats = _judge(answers, number, rows)
        if not beats:
            return accuracy, chance, False
        beats = _tells_more(answers, self._answers(middle, rows), rows > 0)
        if not beats:
            border, middle = _against_median(border), _against_median(middle)
            beats = _tells_more(self._answers(border, rows), self._answers(middle, rows), rows > 0)
        return accuracy, chance, beats

    def _answers(self, features, rows):
        """Predictions of two classifiers for images that they were not trained on, `(classifiers, tries, n)`."""
        answers = np.zeros((2, _TRIES, len(rows)), int)
        for attempt in range(_TRIES):
            for test in np.array_split(self.rng.permutation(len(rows)), _FOLDS):
                train = np.setdiff1d(np.arange(len(rows)), test)
                for number, classifier in enumerate((_ridge, _naive)):
                    found = classifier(features[train], rows[train], features[test])
                    answers[number, attempt, test] = found.argmax(1)
        return answers

    def place(self) -> str | None:
        """In words, the part of the border that predicts the class best; None for features from elsewhere."""
        known = self._known()
        if known is None or known[0].shape[1] < _OF_A_CELL * len(_CELLS):
            return None
        features, number = known
        rows = np.eye(number.max() + 1)[number]
        cells = features[:, : _OF_A_CELL * len(_CELLS)]
        return _CELLS[int(np.argmax(_told(cells, rows)[0])) // _OF_A_CELL]

    def _known(self):
        labels = np.array(self.labels)
        if len(labels) < 40 or len(np.unique(labels)) < 2 or len({len(row) for row in self.features}) > 1:
            return None
        return np.stack(self.features), np.unique(labels, return_inverse=True)[1]


def _judge(answers, number, rows):
    """`(accuracy, chance, beats)` of predictions, see `BorderProbe.judge`."""
    right = (answers == number).mean(1) @ rows  # by classifier and class
    counts, even = rows.sum(0), 1 / len(rows[0])
    accuracy, chance = float(right.sum(1).max() / len(rows)), float(rows.mean(0).max())
    error = np.sqrt(chance * (1 - chance) / len(rows))
    recall = float((right / counts).mean(1).max())
    error_of_recall = even * np.sqrt(np.sum(even * (1 - even) / counts))
    beats = accuracy > chance + max(5 * error, 0.25 * (1 - chance))
    beats |= recall > even + max(5 * error_of_recall, 0.25 * (1 - even))
    return accuracy, chance, bool(beats)


def _against_median(features):
    """Features of the cells minus those of the median cell of the same image."""
    cells = features[:, : _OF_A_CELL * len(_CELLS)].reshape(len(features), -1, _OF_A_CELL)
    return (cells - np.median(cells, 1, keepdims=True)).reshape(len(features), -1)


def _tells_more(border, middle, belongs):
    """Whether the border predicts some class better than the middle does; `belongs` is bool `(n, classes)`."""
    for number, own in enumerate(belongs.T):
        (most, of_border), (less, of_middle) = (
            _told_of(number, own, answers) for answers in (border, middle)
        )
        weights = np.where(own, 1 / own.sum(), 1 / (~own).sum())
        error = np.sqrt(np.sum((weights * (of_border - of_middle)) ** 2))
        enough = most - less > _MORE or 1 - most < 0.5 * (1 - less)
        if enough and most - less > _ERRORS * error:
            return True
    return False


def _told_of(number, own, answers):
    """Youden's J of one class against the others with the better classifier, and its accuracy for each image."""
    right = ((answers == number) == own).mean(1)  # of each classifier, by image
    told = [one[own].mean() + one[~own].mean() - 1 for one in right]
    return max(told), right[int(np.argmax(told))]


def _ridge(train, wanted, test):
    """Scores `(n, classes)` for `test` of a ridge regression on standardized features and their squares.

    The penalty is chosen by leave-one-out accuracy, in the closed form of Allen 1974 (the PRESS statistic).
    """
    mean, scale = train.mean(0), train.std(0) + 1e-3
    train, test = ((x - mean) / scale for x in (train, test))
    train, test = (
        np.concatenate([x, np.clip(x * x, 0, 9), np.ones((len(x), 1))], 1).astype(np.float64)
        for x in (train, test)
    )
    values, vectors = np.linalg.eigh(train.T @ train)
    turned, target = train @ vectors, wanted - wanted.mean(0)
    best, answers = -1.0, None
    for penalty in _PENALTIES:
        shrunk = turned / (np.maximum(values, 0) + penalty * len(train))
        fitted, own = turned @ (shrunk.T @ target), np.sum(turned * shrunk, 1, keepdims=True)
        left_out = (fitted - own * target) / np.maximum(1 - own, 1e-6) + wanted.mean(0)
        right = np.mean(left_out.argmax(1) == wanted.argmax(1))
        if right > best:
            best, answers = right, test @ vectors @ (shrunk.T @ target) + wanted.mean(0)
    return answers


def _naive(train, wanted, test):
    """Log-probabilities `(n, classes)`, up to a constant, of naive Bayes on the three most predictive features."""
    told, edges = _told(train, wanted)
    share = (wanted.sum(0) + 1) / (len(wanted) + wanted.shape[1])
    answers = np.log(share) + np.zeros((len(test), 1))
    for place in np.argsort(-told)[:_FEW]:
        counts = _counts(train[:, place], wanted, edges[:, place]) + share
        logs = np.log(counts / counts.sum(0)) - np.log(1 / _BINS)
        answers = answers + logs[np.searchsorted(edges[:, place], test[:, place])]
    return answers


def _told(features, wanted):
    """Accuracy of each feature alone, which predicts the most frequent class of its bin; and the edges of the bins."""
    edges = np.quantile(features, np.linspace(0, 1, _BINS + 1)[1:-1], axis=0)
    counts = [
        _counts(column, wanted, edge).max(1).sum() for column, edge in zip(features.T, edges.T, strict=True)
    ]
    return np.array(counts) / len(features), edges


def _counts(column, wanted, edges):
    """Number of images of each class in each bin, `(_BINS, classes)`."""
    return np.eye(_BINS)[np.searchsorted(edges, column)].T @ wanted
