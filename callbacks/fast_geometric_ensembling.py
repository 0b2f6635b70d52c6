"""FastGeometricEnsembling: members from short, low cycles at the end of one training run."""

from typing import Any

import numpy as np

from recipes.callbacks.snapshot_ensemble import SnapshotEnsemble
from recipes.common.validation import is_number
from recipes.schedules import Cosine, Join, Linear, Schedule, Triangle


class FastGeometricEnsembling(SnapshotEnsemble):
    """Train as usual for most of the run, then let the rate move in short triangles and keep a member at each bottom.

    Source: Garipov et al. 2018, section 5, https://arxiv.org/abs/1802.10026. Good solutions are joined by paths of
    low loss, so short cycles at low rates are enough to find different ones, where `SnapshotEnsemble` needs long
    ones. In the cycles the rate goes in straight lines from `high` to `low` and back. Unlike the paper's, the last
    cycle ends at its bottom, where the last snapshot is taken. In the part before, which the paper leaves open, the
    rate follows half a cosine from the compiled rate down to `high`.

    Args:
        cycles: Snapshots to take, >= 1.
        start: Part of the run before the cycles, in [0, 1). Paper: about 0.8. 0 for a model that is trained already.
        high: Highest rate of the cycles, as a fraction of the compiled rate. Paper: 0.5 (0.05 of 0.1).
        low: Lowest rate, as a fraction of the compiled rate, < `high`. Paper: 0.005.
        **options: `folder`, `last`, `learning_rate`, `overwrite`, `steps_per_epoch` as in `SnapshotEnsemble`.

    Raises:
        ValueError: as `SnapshotEnsemble`, and for `start`, `high` or `low` outside their ranges.

    Example:
        >>> paths = FastGeometricEnsembling(cycles=6, start=0.75)
        >>> model.fit(train, epochs=40, callbacks=[paths])
        >>> paths.ensemble().predict(images)
    """

    def __init__(
        self,
        cycles: int = 5,
        *,
        start: float = 0.75,
        high: float = 0.5,
        low: float = 0.005,
        **options: Any,
    ) -> None:
        super().__init__(cycles, **options)
        if not is_number(start) or not 0 <= start < 1:
            raise ValueError(
                f"FastGeometricEnsembling expects start as a part of the run, in [0, 1). Received start={start}. "
                "Take 0.75."
            )
        if not (is_number(low) and is_number(high) and 0 <= low < high <= 1):
            raise ValueError(
                "FastGeometricEnsembling expects 0 <= low < high <= 1, fractions of the compiled rate. "
                f"Received low={low}, high={high}. Divide the rates you mean by the compiled one."
            )
        self.start, self.high, self.low = start, high, low

    def _targets(self, run):
        begin = round(self.start * run)
        length = (run - begin) / (self.cycles - 0.5)
        return begin + length * (np.arange(self.cycles) + 0.5)

    def _rates(self, peak: float, ends: list[int]) -> Schedule:
        """Half a cosine to `high`; then straight lines, at `low` in the update before each of `ends`."""
        high, low, begin = self.high * peak, self.low * peak, round(self.start * ends[-1])
        bottoms = [end - 1 for end in ends]
        parts = [(0, Cosine(peak, begin, final=high))] if begin else []
        if bottoms[0] > begin:
            # The first step of a cycle has taken one increment already, as in section 5.
            first = high - (high - low) / (ends[0] - begin)
            parts.append((begin, Linear(first, bottoms[0] - begin, final=low)))
        for bottom, following in zip(bottoms, bottoms[1:], strict=False):
            parts.append((bottom, Triangle(low, high, following - bottom)))
        if len(bottoms) == 1 and bottoms[0] <= begin:
            parts.append((begin, Triangle(low, high, 2)))  # its first step, which is the run's last
        boundaries, schedules = zip(*parts, strict=True)
        return Join(schedules, boundaries[1:]) if len(parts) > 1 else schedules[0]
