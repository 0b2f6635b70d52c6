"""The columns of a probe's record that the rules use."""

from typing import Any

import numpy as np


class RecordView:
    """The columns of a record that the rules use, with what is known about the run.

    Args:
        record: A `recipes.probe.Record` of one probe or more.
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`, or an empty one.
        learned: Whether the curves show that the run learns.
        initial: Loss of the best constant prediction, penalties included, or None.
        first: Loss that the run began with, by its curves, or None.
        now: Loss of the last epoch, or None.
    """

    def __init__(
        self,
        record: Any,
        facts: dict,
        learned: bool,
        initial: float | None,
        first: float | None = None,
        now: float | None = None,
    ) -> None:
        self.record, self.facts, self.learned, self.initial = record, facts, learned, initial
        self.first, self.now = first, now
        self.count = len(record)
        self.late = slice(self.count - max(1, -(-self.count * 3 // 10)), None)
        self.early = slice(0, max(1, -(-self.count // 5)))
        self.epoch, self.step, self.loss = record.epoch, record.step, record.loss.astype("float64")
        variables = record.axes["variables"]
        self.names = np.asarray(variables.get("layer", np.array([], "str")))
        roles = np.asarray(variables.get("role", np.array([], "str")))
        self.kernels = np.flatnonzero(roles == "kernel")
        self.weight, self.gradient = record.weight_norm, record.gradient_norm
        # A layer may have a factor on its learning rate; the ratio is judged without it, at the common rate.
        self.factors = np.asarray(variables.get("factor", np.ones(len(self.names))), "float64")
        self.ratio = record.update_ratio / np.where(self.factors > 0, self.factors, np.nan)
        self.activations = record.axes["activations"]
        self.optimizer = facts.get("optimizer", {})
        # A custom training step may report no loss, which is not the same as a loss that is NaN.
        self.tells_loss = bool(np.isfinite(self.loss).any())

    @property
    def rates_told(self) -> str:
        """The learning-rate factors per layer, as words to put behind a rate; empty where all factors are 1."""
        found = sorted({float(one) for one in self.factors[self.kernels]})
        if found in ([], [1.0]):
            return ""
        names = {one: str(self.names[self.kernels][self.factors[self.kernels] == one][0]) for one in found}
        ends = dict.fromkeys((found[0], found[-1]))
        told = " to ".join(f"{one:.2g} ({names[one]})" for one in ends)
        return f", with factors per layer of {told} that are divided out here"

    def layer(self, column: int) -> str:
        """The name of the layer that a variable belongs to."""
        return str(self.names[column])

    def kernel_ratio(self, rows: slice) -> np.ndarray:
        """Median |dW| / |W| of each kernel over some probes, `(kernels,)`, >= 0; NaN where it was not measured.

        Args:
            rows: The probes.
        """
        return median(self.ratio[rows][:, self.kernels])

    @property
    def began(self) -> float | None:
        """The loss from which a rise is measured.

        It is that of the best constant prediction, or that of the first steps if that is higher. None where no loss is
        known, or where it is 0 or negative, so that a ratio to it means nothing.
        """
        loss = self.loss[np.isfinite(self.loss)]
        if not len(loss) or loss.min() < 0:
            return None
        if self.initial is None and self.step[0] == 0 and self.loss[0] > 1e-7:
            return float(self.loss[0])  # before any step could have raised it
        known = [float(np.median(loss[: max(3, len(loss) // 5)])), self.first, self.initial]
        start = max((value for value in known if value is not None and np.isfinite(value)), default=0.0)
        return start if start > 1e-7 else None

    @property
    def climbing(self) -> float:
        """The highest loss as a multiple of `began`; 1 where that is not known."""
        loss = self.loss[np.isfinite(self.loss)]
        return float(np.max(loss)) / self.began if self.began else 1.0


def median(values: Any) -> np.ndarray:
    """Median of each column of `(rows, columns)`, float64 `(columns,)`; NaN for a column that holds only NaN."""
    values = np.asarray(values, "float64")
    known = ~np.isnan(values).all(axis=0)
    result = np.full(values.shape[1], np.nan)
    if known.any():
        result[known] = np.nanmedian(values[:, known], axis=0)
    return result


def row_medians(values: Any) -> np.ndarray:
    """Median of each row of `(probes, kernels)`, float64 `(at most probes,)`, without rows that hold only NaN."""
    values = np.asarray(values, "float64")
    return np.array([np.nanmedian(row) for row in values if not np.isnan(row).all()])
