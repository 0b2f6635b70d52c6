"""Watch what the activations look like along the depth of the network."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.callbacks.monitor import Monitor
from recipes.common.validation import is_number

if TYPE_CHECKING:
    import matplotlib.figure

    from recipes.probe import Probe


class ActivationMonitor(Monitor):
    """Find activations that saturate, collapse, fade away or blow up with depth.

    Source: Glorot and Bengio 2010, sections 3 and 4, https://proceedings.mlr.press/v9/glorot10a.html: the mean and
    spread of each layer's activations during training, and sigmoids that sit at 0. The thresholds are ours.

    Args:
        saturated: Warn about a layer in which a larger share of outputs, in [0, 1], is saturated: |y| > 0.95 for tanh,
            |2y - 1| > 0.95 for sigmoid. (A bounded ReLU at its ceiling is in the record, and does not warn.)
        collapsed: Warn about a layer whose outputs are nearly the same for every sample: their spread across samples is
            less than this times their root mean square, or all of them are zero. Softmax outputs are not judged,
            because they are all alike at the start of training.
        fading: Warn when the standard deviation of the last hidden activation is less than `fading` times that of the
            first one, or more than 1 / `fading` times that.
        **options: `every_steps`, `budget`, `samples`, `log_dir`, `strict`, see `Monitor`.

    Attributes:
        statistics: `{activation: {"mean", "std", "sample_std", "zero_fraction", "saturated_fraction"}}`, medians over
            the epoch's probes, in forward order.

    Logs `monitor/saturated_fraction` (of the worst sigmoid or tanh layer, NaN without one) and
    `monitor/activation_last_to_first` (standard deviation of the last hidden activation over that of the first).

    Raises:
        ValueError: for a threshold outside its range, or options that `Monitor` refuses.

    Example:
        >>> monitor = ActivationMonitor()
        >>> model.fit(images, labels, epochs=5, callbacks=[monitor])
        >>> monitor.statistics["dense"]["mean"], monitor.plot()
    """

    quantities = frozenset({"activations"})
    keys = ("monitor/saturated_fraction", "monitor/activation_last_to_first")
    _names = ("mean", "std", "sample_std", "zero_fraction", "saturated_fraction")

    def __init__(
        self, *, saturated: float = 0.5, collapsed: float = 1e-4, fading: float = 1e-3, **options: Any
    ) -> None:
        super().__init__(**options)
        known = is_number(saturated) and is_number(collapsed) and is_number(fading)
        if not known or not (0 < saturated <= 1 and 0 < collapsed < 1 and 0 < fading < 1):
            raise ValueError(
                "ActivationMonitor expects saturated in (0, 1], collapsed and fading in (0, 1). "
                f"Received saturated={saturated}, collapsed={collapsed}, fading={fading}. "
                "The defaults are 0.5, 1e-4 and 1e-3."
            )
        self.saturated = saturated
        self.collapsed = collapsed
        self.fading = fading

    def reset(self) -> None:
        self.statistics = {}
        self._rows = []
        self._warned = set()

    def on_probe(self, probe: "Probe") -> None:
        if "mean" in probe.values:
            self._rows.append([probe.values[name] for name in self._names])

    def summarize(self, epoch: int) -> dict[str, float]:
        rows, self._rows = np.array(self._rows), []
        if not len(rows):
            return dict.fromkeys(self.keys, float("nan"))
        medians = np.median(rows, axis=0)
        axis = self.record.axes["activations"]
        self.statistics = {
            str(name): dict(zip(self._names, medians[:, i].tolist(), strict=True))
            for i, name in enumerate(axis["name"])
        }
        seen = list(self.statistics.values())
        hidden = [s for s, kind in zip(seen, axis["kind"], strict=True) if kind != "softmax"]
        for name, kind in zip(axis["name"].tolist(), axis["kind"], strict=True):
            if kind != "softmax":
                self._judge(epoch, name, kind, self.statistics[name])
        ratio = float("nan")
        if len(hidden) > 1 and hidden[0]["std"] > 0:
            ratio = hidden[-1]["std"] / hidden[0]["std"]
            self._judge_depth(epoch, ratio)
        flat = [
            s["saturated_fraction"]
            for s, k in zip(seen, axis["kind"], strict=True)
            if k in ("sigmoid", "tanh")
        ]
        return dict(zip(self.keys, (max(flat, default=float("nan")), ratio), strict=True))

    def logged_values(self, probe: "Probe") -> "tuple[dict[str, float], dict[str, np.ndarray]]":
        names = self.record.axes["activations"]["name"]
        scalars = {
            f"{statistic}/{name}": value
            for statistic in self._names
            for name, value in zip(names, probe.values[statistic], strict=True)
            if not np.isnan(value)
        }
        rows = zip(names, probe.histograms["histogram_activation"], strict=True)
        return scalars, {f"activation/{name}": row for name, row in rows}

    def monitor_state(self) -> dict[str, Any]:
        rows = [[column.tolist() for column in row] for row in self._rows]
        return {"statistics": self.statistics, "warned": sorted(self._warned), "rows": rows}

    def set_monitor_state(self, state: dict[str, Any]) -> None:
        self.statistics, self._warned = dict(state["statistics"]), set(state["warned"])
        self._rows = [[np.array(column, "float32") for column in row] for row in state.get("rows", [])]

    def plot(self) -> "matplotlib.figure.Figure":
        """Draw mean, spread, zeros and saturation of every activation over the run, as a `matplotlib.figure.Figure`."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        return plot.activation_statistics(self.record)

    def _judge(self, epoch, name, kind, seen):
        if kind in ("sigmoid", "tanh") and seen["saturated_fraction"] > self.saturated:
            self._warn(
                name,
                f"ActivationMonitor expects at most {self.saturated:.0%} of the outputs of a {kind} to be saturated. "
                f"Received {seen['saturated_fraction']:.0%} in {name} in epoch {epoch}. "
                "Scale the inputs, initialize with glorot_normal, or use ReLU.",
            )
        size = np.hypot(seen["mean"], seen["std"])
        if np.isfinite(size) and seen["sample_std"] <= self.collapsed * size:
            what = (
                "zero for every sample"
                if size == 0
                else f"{seen['mean']:.3g} give or take {seen['sample_std']:.1g}"
            )
            self._warn(
                name,
                f"ActivationMonitor expects outputs that differ from sample to sample. Received {what} in {name} in "
                f"epoch {epoch}. Initialize the weights of the layers before it at random (he_normal), scale the "
                "inputs, or lower the learning rate.",
            )

    def _judge_depth(self, epoch, ratio):
        if not self.fading <= ratio <= 1 / self.fading:
            self._warn(
                "depth",
                f"ActivationMonitor expects the last activation's spread within a factor of {1 / self.fading:g} of the "
                f"first's. Received {ratio:.2g} in epoch {epoch}. "
                "Initialize with he_normal (ReLU) or glorot_normal (tanh), or use batch normalization.",
            )

    def _warn(self, what, text):
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(text, stacklevel=2)
