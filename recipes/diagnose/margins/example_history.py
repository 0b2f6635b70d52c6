"""How each example was answered in the course of a training."""

import numpy as np
from numpy.typing import NDArray


class ExampleHistory:
    """Sums over all times that an example was scored; 4 x (classes + 4) bytes an example.

    Args:
        labels: Class numbers `(n,)`.
        classes: How many there are.

    Attributes:
        times: How often each example was scored, int32 `(n,)`.
        forgotten: How often an example that was answered right was answered wrong the next time (Toneva et al. 2019,
            "An Empirical Study of Example Forgetting", definition 2.1), int32 `(n,)`.
    """

    def __init__(self, labels: NDArray[np.integer], classes: int) -> None:
        self.labels, self.classes = np.asarray(labels, np.int64), int(classes)
        count = len(self.labels)
        self.times, self.forgotten = np.zeros(count, np.int32), np.zeros(count, np.int32)
        self._margins, self._right = np.zeros(count, np.float32), np.zeros(count, bool)
        self._probabilities = np.zeros((count, self.classes), np.float32)

    def add(self, rows: NDArray[np.integer], probabilities: NDArray[np.floating]) -> None:
        """Take in what the model says of some examples now.

        Args:
            rows: Their numbers `(m,)`, each once.
            probabilities: `(m, classes)`.
        """
        p = np.clip(probabilities.astype(np.float32), 1e-7, 1)
        given = self.labels[rows]
        logs = np.log(p)
        own = logs[np.arange(len(rows)), given]
        logs[np.arange(len(rows)), given] = -np.inf
        margins = own - logs.max(1)
        right = margins > 0
        self.forgotten[rows] += self._right[rows] & ~right
        self._right[rows] = right
        self._margins[rows] += margins
        self._probabilities[rows] += p
        self.times[rows] += 1

    @property
    def margins(self) -> NDArray[np.float32]:
        """Mean margin `(n,)`: the area under the margin (AUM) of Pleiss et al. 2020, "Identifying Mislabeled Data",
        section 3.1, of logarithms of probabilities, which differ from logits by one number an example; NaN where an
        example was never scored."""
        with np.errstate(all="ignore"):
            return np.where(self.times > 0, self._margins / self.times, np.nan).astype(np.float32)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Mean probabilities `(n, classes)`."""
        return self._probabilities / np.maximum(self.times, 1)[:, None]
