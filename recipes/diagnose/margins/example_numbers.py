"""Which examples a training step gets: calculated from the seed, so that batches need not hold example numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class ExampleNumbers:
    """The numbers of the examples in the batches of a run.

    Attributes:
        count: Examples in the data set, or a few more where its last batch is not full; None until the first batch,
            where the batch size is not known before.
        steps: Batches per epoch.
        classes: Number of classes.
        batch_size: Examples per step; None for batched data, until the first batch gives it.
        order: Function of the epoch that returns the numbers of all examples in their order, int64, as in `Source`;
            None for batched data, whose examples are numbered in the order in which they come.
        unmixed: Function `(epoch, step, count)` that returns, as bool `(count,)`, which examples of a batch are not
            mixed with others (as MixUp does); None where no example is mixed.
        kept: Numbers, in the user's data, of the examples that are left, int64, where some were dropped; else None.
    """

    count: int | None
    steps: int
    classes: int
    batch_size: int | None
    order: Callable[[int], NDArray[np.int64]] | None
    unmixed: Callable[[int, int, int], NDArray[np.bool_]] | None = None
    kept: NDArray[np.int64] | None = None
    _known: tuple[int, NDArray[np.int64] | None] = field(default=(-1, None), repr=False)

    def rows(self, epoch: int, step: int, count: int) -> NDArray[np.int64] | None:
        """The numbers `(count,)` of the examples in the batch of a step, int64; None where they are not known.

        Args:
            epoch: Number of the epoch, from 0.
            step: Number of the step within the epoch, from 0.
            count: Examples in the batch.
        """
        if self.batch_size is None:
            if step:  # a run that was resumed within an epoch
                return None
            self.batch_size = count
        self.count = self.steps * self.batch_size if self.count is None else self.count
        start = step * self.batch_size
        if self.order is None:
            rows = np.arange(start, start + count)
            fits = count <= self.batch_size and start + count <= self.count
        else:
            if self._known[0] != epoch:
                self._known = epoch, self.order(epoch)
            rows = self._known[1][start : start + self.batch_size]
            fits = len(rows) == count
        if not fits:
            return None
        return rows if self.kept is None else self.kept[rows]
