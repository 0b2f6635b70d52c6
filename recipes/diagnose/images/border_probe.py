"""A linear classifier that sees the borders of images alone: where it is right, something there goes with the class."""

import numpy as np
from numpy.typing import NDArray

_CORNER = 0.15  # of the sides
_TRIES = 5


def border_features(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Averages of the corners, 3 x 3 each, and of the outermost pixels, 8 a side, with the spread of the corners.

    Args:
        images: `(n, height, width, channels)`.

    Returns:
        float32 `(n, features)`; 27 numbers a corner and 32 pieces of border in gray, as many for any size.
    """
    gray = images.mean(-1)
    height, width = gray.shape[1:]
    tall, wide = max(1, int(_CORNER * height)), max(1, int(_CORNER * width))
    parts = []
    for rows in (slice(0, tall), slice(height - tall, height)):
        for columns in (slice(0, wide), slice(width - wide, width)):
            corner = gray[:, rows, columns]
            parts.append(np.stack([_mean_of(piece) for piece in _pieces(corner)], 1))
            parts.append(corner.std((1, 2))[:, None])
    for line in (gray[:, 0], gray[:, -1], gray[:, :, 0], gray[:, :, -1]):
        parts.append(np.stack([piece.mean(1) for piece in np.array_split(line, min(8, line.shape[1]), 1)], 1))
    color = images[:, [0, -1]].mean((1, 2)) if images.shape[-1] == 3 else np.zeros((len(images), 0))
    features = np.concatenate([*parts, color], 1)
    return np.nan_to_num(features).astype(np.float32)


def _pieces(corner):
    for band in np.array_split(corner, 3, 1):
        yield from np.array_split(band, 3, 2)


def _mean_of(piece):
    return piece.mean((1, 2)) if piece.size else np.zeros(len(piece))


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

        Far is five standard errors, and a quarter of what there is above chance.
        """
        labels = np.array(self.labels)
        if len(labels) < 40 or len(np.unique(labels)) < 2 or len({len(row) for row in self.features}) > 1:
            return None, None, False
        features, number = np.stack(self.features), np.unique(labels, return_inverse=True)[1]
        rows = np.eye(number.max() + 1)[number]
        right = []
        for _ in range(_TRIES):
            order = self.rng.permutation(len(rows))
            train, test = order[: len(order) // 2], order[len(order) // 2 :]
            said = _ridge(features[train], rows[train], features[test]).argmax(1)
            right.append(np.mean(said == number[test]))
        accuracy, chance = float(np.mean(right)), float(rows.mean(0).max())
        error = np.sqrt(chance * (1 - chance) / (len(rows) / 2))
        return accuracy, chance, bool(accuracy > chance + max(5 * error, 0.25 * (1 - chance)))


def _ridge(train, wanted, test):
    """Answers of a linear regression with a penalty on standardized features, and their squares, for `test`."""
    mean, scale = train.mean(0), train.std(0) + 1e-3
    train, test = ((x - mean) / scale for x in (train, test))
    train, test = (np.concatenate([x, np.clip(x * x, 0, 9), np.ones((len(x), 1))], 1) for x in (train, test))
    moments = train.T @ train + 0.1 * len(train) * np.eye(train.shape[1])
    return test @ np.linalg.solve(moments, train.T @ (wanted - wanted.mean(0))) + wanted.mean(0)
