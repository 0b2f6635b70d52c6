"""Which examples a training step is given: told from the seed, so that the batches hold nothing more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class ExampleNumbers:
    """The numbers of the examples in the stream of a run.

    Attributes:
        count: Examples of the data set, or a few more where its last batch is not full; None until a batch tells.
        steps: Batches of one pass.
        classes: Number of classes.
        batch_size: Examples a step; None where the first batch tells, of data that comes batched.
        order: As of `Source`; None for data that comes batched, which is numbered as it comes.
        unmixed: function `(epoch, step, count) -> bool (count,)`: which are mixed with no other; None where none is.
        kept: Numbers in the data that the user gave, int64, where some of it was dropped; else None.
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
        """The numbers `(count,)` of the examples in a step's batch; None where they cannot be told.

        Args:
            epoch: From 0.
            step: Of the epoch, from 0.
            count: Examples in the batch.
        """
        if self.batch_size is None:
            if step:  # of a run that was taken up within an epoch
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
