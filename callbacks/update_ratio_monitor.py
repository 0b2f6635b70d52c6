"""Watch how far each step moves the weights, relative to their size."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.callbacks.monitor import Monitor
from recipes.common.validation import is_number

if TYPE_CHECKING:
    import matplotlib.figure

    from recipes.probe import Probe


class UpdateRatioMonitor(Monitor):
    """Measure |dW| / |W| per layer: about 1e-3 is a healthy step.

    Much lower and the layer hardly learns; much higher and each step throws away what the last one found. The
    update is the real one, weights after the step minus weights before it, so that weight decay, clipping,
    constraints, momentum and averages written over the weights are all included.
    Source: the lecture notes of Stanford's CS231n, "Neural Networks Part 3", section "Ratio of weights:updates",
    https://cs231n.github.io/neural-networks-3/#ratio. Norms are Euclidean over the whole variable.

    A layer with a factor on its learning rate (`optimizers.layerwise`) is judged by its ratio over that factor.

    Only kernels are judged. Biases and normalization parameters start near zero or one, where the ratio means little;
    they are in the record, where their role tells them from kernels.

    Args:
        low: A layer whose median ratio over an epoch is lower than this is called too slow, > 0.
        high: A layer whose median ratio over an epoch is higher than this is called too fast, > `low`.
        warn: Whether to warn; False where a `TrainingDoctor`, which sees the curves as well, speaks.
        **options: `every_steps`, `budget`, `samples`, `log_dir`, `strict`, see `Monitor`.

    Logs `monitor/update_ratio`, the median over kernels of their median over the epoch's probes, and
    `monitor/update_ratio_off`, how many kernels are outside `low..high` (NaN in an epoch without a probe).

    Warns once per layer. A layer is judged only by an epoch with three probes or more. It is called slow only after the
    first epoch, because warm-up starts slowly. The learning rate must then be above a tenth of the highest one seen,
    because a schedule may end near zero on purpose.

    Raises:
        ValueError: unless 0 < low < high, or for options that `Monitor` refuses.

    Example:
        >>> monitor = UpdateRatioMonitor()
        >>> model.fit(images, labels, epochs=5, callbacks=[monitor])
        >>> monitor.ratios["dense"], monitor.plot()
    """

    quantities = frozenset({"variables"})
    keys = ("monitor/update_ratio", "monitor/update_ratio_off")

    def __init__(self, low: float = 1e-4, high: float = 1e-2, *, warn: bool = True, **options: Any) -> None:
        if not (is_number(low) and is_number(high) and 0 < low < high):
            raise ValueError(
                f"UpdateRatioMonitor expects 0 < low < high. Received low={low}, high={high}. "
                "The defaults, 1e-4 and 1e-2, bracket the usual 1e-3."
            )
        super().__init__(**options)
        self.low, self.high, self.warn = low, high, warn

    def reset(self) -> None:
        self.ratios = {}
        self._epoch_ratios = []
        self._warned = set()

    def on_probe(self, probe: "Probe") -> None:
        weight, update = probe.values["weight_norm"], probe.values["update_norm"]
        ratio = np.divide(update, weight, out=np.full_like(weight, np.nan), where=weight > 0)
        if not np.isnan(update).all():
            self._epoch_ratios.append(ratio)

    def summarize(self, epoch: int) -> dict[str, float]:
        rows, self._epoch_ratios = np.array(self._epoch_ratios), []
        if not len(rows):
            return dict.fromkeys(self.keys, float("nan"))
        axis = self.record.axes["variables"]
        kernels = np.flatnonzero(axis["role"] == "kernel")
        medians = _nanmedian(rows[:, kernels])
        factors = np.asarray(axis.get("factor", np.ones(len(axis["role"]))))[kernels]
        self.ratios = dict(zip(axis["layer"][kernels].tolist(), medians.tolist(), strict=True))
        # A layer with a factor on its rate is judged by what it would do at the common rate.
        judged = medians / np.where(factors > 0, factors, np.nan)
        slow, fast = judged < self.low, judged > self.high
        if len(rows) >= 3:
            for index in np.flatnonzero(fast | (slow & (epoch > 0) & (not self._rate_has_decayed()))):
                name = str(axis["name"][kernels[index]])
                self._warn(epoch, name, judged[index], factor=float(factors[index]))
        return dict(zip(self.keys, (float(_nanmedian(medians)), float(np.sum(slow | fast))), strict=True))

    def _rate_has_decayed(self):
        rates = self.record.learning_rate
        known = rates[np.isfinite(rates)]
        return len(known) > 0 and known[-1] < 0.1 * known.max()

    def logged_values(self, probe: "Probe") -> "tuple[dict[str, float], dict[str, np.ndarray]]":
        names = self.record.axes["variables"]["name"]
        ratio = probe.values["update_norm"] / np.maximum(probe.values["weight_norm"], 1e-30)
        scalars = {f"update_ratio/{name}": value for name, value in zip(names, ratio, strict=True)}
        histograms = {}
        for kind in ("weight", "update"):
            rows = zip(names, probe.histograms[f"histogram_{kind}"], strict=True)
            histograms |= {f"{kind}/{name}": row for name, row in rows}
        return scalars, histograms

    def monitor_state(self) -> dict[str, Any]:
        rows = [ratios.tolist() for ratios in self._epoch_ratios]
        return {"ratios": self.ratios, "warned": sorted(self._warned), "rows": rows}

    def set_monitor_state(self, state: dict[str, Any]) -> None:
        self.ratios, self._warned = dict(state["ratios"]), set(state["warned"])
        self._epoch_ratios = [np.array(ratios, "float32") for ratios in state.get("rows", [])]

    def plot(self) -> "matplotlib.figure.Figure":
        """Draw the ratio of every kernel over the run, as a `matplotlib.figure.Figure`."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        return plot.update_ratios(self.record, low=self.low, high=self.high)

    def _warn(self, epoch, name, ratio, factor):
        if name in self._warned or not self.warn:
            return
        self._warned.add(name)
        if ratio > self.high:
            advice = "Lower the learning rate, or clip gradients (clipnorm=1.0)"
        elif ratio == 0:
            advice = "Its weights do not change at all: check that a gradient reaches it"
        else:
            advice = "Raise the learning rate, or check the initial scale of these weights"
        warnings.warn(
            f"UpdateRatioMonitor expects |dW|/|W| between {self.low:g} and {self.high:g}. "
            f"Received {ratio:.2g} for {name} in epoch {epoch}"
            f"{f', with its factor of {factor:g} on the rate divided out' if factor != 1 else ''}. {advice}.",
            stacklevel=2,
        )


def _nanmedian(values):
    values = np.asarray(values, "float64")
    known = ~np.all(np.isnan(values), axis=0)
    if values.ndim == 1:
        return np.nanmedian(values) if known else np.nan
    result = np.full(values.shape[1], np.nan)
    result[known] = np.nanmedian(values[:, known], axis=0)
    return result
