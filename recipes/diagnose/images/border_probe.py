"""A classifier that sees the borders of images alone: where it is right, something there goes with the class."""

import numpy as np
from numpy.typing import NDArray

_DEPTH = 0.15  # of the sides
_FOLDS = 4
_TRIES = 2
_PENALTIES = (0.03, 0.3, 3.0)  # times the number of images
_BINS = 6
_FEW = 3  # features that a naive classifier takes
_CELLS = (
    *(f"upper {where}" for where in ("left corner", "edge, left", "edge", "edge, right", "right corner")),
    *(f"lower {where}" for where in ("left corner", "edge, left", "edge", "edge, right", "right corner")),
    *(f"left edge{where}" for where in (", above", "", ", below")),
    *(f"right edge{where}" for where in (", above", "", ", below")),
)
_OF_A_CELL = 6  # features
_PIECES = 8  # of each outermost line


def border_features(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What sixteen cells around the border hold, and pieces of the outermost lines.

    Of each cell, 15 % of the sides deep: mean, spread, smallest and largest gray level, mean difference of neighbors
    (as of letters), mean difference of the channels (as of colored ones).

    Args:
        images: `(n, height, width, channels)`.

    Returns:
        float32 `(n, features)`; 96 numbers of the cells, then 32 pieces of the outermost lines in gray, as many for any
        size.
    """
    gray = images.mean(-1)
    height, width = gray.shape[1:]
    parts = [_of_cell(images, gray, rows, columns) for rows, columns in _cells(height, width)]
    for line in (gray[:, 0], gray[:, -1], gray[:, :, 0], gray[:, :, -1]):
        pieces = np.array_split(line, _PIECES, 1)
        parts.append(np.stack([piece.mean(1) if piece.size else np.zeros(len(piece)) for piece in pieces], 1))
    return np.nan_to_num(np.concatenate(parts, 1)).astype(np.float32)


def _cells(height, width):
    """`(rows, columns)` of the cells, in the order of `_CELLS`; at least a pixel each."""
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
    """Collects features of up to `most` images, evenly over the data, and judges them.

    Args:
        most: Images that are kept.
    """

    def __init__(self, most: int) -> None:
        self.most, self.rng = most, np.random.default_rng(0)
        self.features, self.labels, self.seen = [], [], 0

    def add(self, features: NDArray[np.float32], labels: NDArray[np.integer]) -> None:
        """Keep some of a batch: each image of the whole has the same chance (reservoir sampling, Vitter 1985)."""
        for row, label in zip(features, labels.tolist(), strict=True):
            self.seen += 1
            if len(self.features) < self.most:
                self.features.append(row)
                self.labels.append(label)
            elif (place := int(self.rng.integers(self.seen))) < self.most:
                self.features[place], self.labels[place] = row, label

    def judge(self) -> tuple[float | None, float | None, bool]:
        """`(accuracy, chance, beats)`: on images the probe has not seen, and whether it is far above chance.

        Far is five standard errors, and a quarter of what there is above chance, of all images, or of the mean over the
        classes, which a rare one is seen by.
        """
        known = self._known()
        if known is None:
            return None, None, False
        features, number = known
        rows = np.eye(number.max() + 1)[number]
        right = np.zeros((2, len(rows[0])))  # by classifier and class
        for _ in range(_TRIES):
            for test in np.array_split(self.rng.permutation(len(rows)), _FOLDS):
                train = np.setdiff1d(np.arange(len(rows)), test)
                answers = [
                    classifier(features[train], rows[train], features[test]).argmax(1)
                    for classifier in (_ridge, _naive)
                ]
                right += [rows[test][one == number[test]].sum(0) for one in answers]
        right /= _TRIES
        counts, even = rows.sum(0), 1 / len(rows[0])
        accuracy, chance = float(right.sum(1).max() / len(rows)), float(rows.mean(0).max())
        error = np.sqrt(chance * (1 - chance) / len(rows))
        recall = float((right / counts).mean(1).max())
        error_of_recall = even * np.sqrt(np.sum(even * (1 - even) / counts))
        beats = accuracy > chance + max(5 * error, 0.25 * (1 - chance))
        beats |= recall > even + max(5 * error_of_recall, 0.25 * (1 - even))
        return accuracy, chance, bool(beats)

    def place(self) -> str | None:
        """In words, the part of the border that tells most by itself; None of what is not from `border_features`."""
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


def _ridge(train, wanted, test):
    """Answers `(n, classes)` of a linear regression on standardized features and their squares, for `test`.

    The penalty is the one under which images left out one at a time are answered best (the closed form of Allen 1974).
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
    """Logarithms of the chances `(n, classes)` by the few features that tell most, taken as independent."""
    told, edges = _told(train, wanted)
    share = (wanted.sum(0) + 1) / (len(wanted) + wanted.shape[1])
    answers = np.log(share) + np.zeros((len(test), 1))
    for place in np.argsort(-told)[:_FEW]:
        counts = _counts(train[:, place], wanted, edges[:, place]) + share
        logs = np.log(counts / counts.sum(0)) - np.log(1 / _BINS)
        answers = answers + logs[np.searchsorted(edges[:, place], test[:, place])]
    return answers


def _told(features, wanted):
    """How often each feature alone is right, naming the class most frequent at a like value; edges of the values."""
    edges = np.quantile(features, np.linspace(0, 1, _BINS + 1)[1:-1], axis=0)
    counts = [
        _counts(column, wanted, edge).max(1).sum() for column, edge in zip(features.T, edges.T, strict=True)
    ]
    return np.array(counts) / len(features), edges


def _counts(column, wanted, edges):
    """Images of each class by the place of their value between edges, `(_BINS, classes)`."""
    return np.eye(_BINS)[np.searchsorted(edges, column)].T @ wanted
