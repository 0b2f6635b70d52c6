"""FastGeometricEnsembling: members from short, low cycles at the end of one training run."""

import numpy as np
from recipes.callbacks.snapshot_ensemble import SnapshotEnsemble

from recipes.common.validation import is_number


class FastGeometricEnsembling(SnapshotEnsemble):
    """Train as usual for most of the run, then move in short triangles of the rate and keep each bottom as a member.

    Source: Garipov et al. 2018, section 5, https://arxiv.org/abs/1802.10026. Good solutions are joined by paths of
    low loss, so short cycles at low rates are enough to find different ones, where `SnapshotEnsemble` needs long
    ones. In the cycles the rate goes in straight lines from `high` to `low` and back. Unlike the paper's, the last
    cycle ends at its bottom, where the last snapshot is taken. The part before, which the paper leaves open, is half
    a cosine from the compiled rate down to `high`.

    Args:
        cycles: Snapshots to take, >= 1.
        start: Part of the run before the cycles, in [0, 1). Paper: about 0.8. 0 for a model that is trained already.
        high: Highest rate of the cycles, as a fraction of the compiled rate. Paper: 0.5 (0.05 of 0.1).
        low: Lowest rate, as a fraction of the compiled rate, < `high`. Paper: 0.005.
        **options: `folder`, `last`, `learning_rate`, `overwrite`, `steps_per_epoch` as in `SnapshotEnsemble`.

    Raises:
        ValueError: as `SnapshotEnsemble`, and for rates or a start that cannot be.

    Example:
        >>> paths = FastGeometricEnsembling(cycles=6, start=0.75)
        >>> model.fit(train, epochs=40, callbacks=[paths])
        >>> paths.ensemble().predict(images)
    """

    def __init__(self, cycles=5, *, start=0.75, high=0.5, low=0.005, **options):
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

    def _rates(self, peak, ends):
        begin = round(self.start * ends[-1])
        return _Triangles(peak, self.high * peak, self.low * peak, begin, np.array(ends))


class _Triangles:
    """Half a cosine to `high` in `begin` updates; then straight lines, at `low` in the update before each of `ends`."""

    elementwise = True

    def __init__(self, peak, high, low, begin, ends):
        self.peak, self.high, self.begin = peak, high, begin
        bottoms = ends - 1.0
        tops = [begin - 1.0, *(bottoms[1:] + bottoms[:-1]) / 2]
        self.steps = np.stack([tops, bottoms], axis=1).ravel()
        self.rates = np.array([high, low] * len(ends))

    def __call__(self, step):
        cycles = np.interp(step, self.steps, self.rates)
        place = np.minimum(np.divide(step, max(self.begin, 1)), 1)
        descent = self.high + (self.peak - self.high) / 2 * (1 + np.cos(np.pi * place))
        return np.where(np.less(step, self.begin), descent, cycles).astype("float32")
