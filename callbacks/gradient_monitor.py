"""Watch the gradients along the depth of the network."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.callbacks.monitor import Monitor
from recipes.common.validation import is_number

if TYPE_CHECKING:
    import matplotlib.figure

    from recipes.probe import Probe


class GradientMonitor(Monitor):
    """Find gradients that vanish or explode on their way from the loss to the first layers.

    It compares root mean squares, norm / sqrt(size), of the kernels' gradients, which do not grow with the size of a
    layer. They are taken before clipping, with loss scaling undone; under gradient accumulation each is the gradient of
    one micro-batch.
    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks",
    section 4.2, https://proceedings.mlr.press/v9/glorot10a.html, and for spikes Pascanu et al. 2013, "On the difficulty
    of training recurrent neural networks", section 3.2, https://arxiv.org/abs/1211.5063. The thresholds are ours.

    Args:
        vanishing: Warn when the gradient of the first kernel is less than this times that of the last one, in (0, 1).
        exploding: Warn when the gradient of the first kernel is more than this times that of the last one, > 1.
        spike: Warn when the norm of all gradients is more than this times the median of the probes before it, > 1.
        **options: `every_steps`, `budget`, `samples`, `log_dir`, `strict`, see `Monitor`.

    Attributes:
        rms: `{layer: median over the epoch's probes}` in forward order.
        first_to_last: The first kernel's `rms` divided by the last one's.
        trend: Factor from one layer to the next towards the input, from a straight line through log(rms): 1 for
            gradients of the same size, below 1 for gradients that vanish.
        spikes: Steps of the probes with a spike.

    Logs `monitor/gradient_norm` (all trainable variables together) and `monitor/gradient_first_to_last`.

    Raises:
        ValueError: for a threshold outside its range, or options that `Monitor` refuses.

    Example:
        >>> monitor = GradientMonitor(every_steps=10)
        >>> model.fit(images, labels, epochs=5, callbacks=[monitor])
        >>> monitor.first_to_last, monitor.plot()
    """

    quantities = frozenset({"variables"})
    keys = ("monitor/gradient_norm", "monitor/gradient_first_to_last")

    def __init__(
        self, *, vanishing: float = 1e-3, exploding: float = 1e3, spike: float = 10.0, **options: Any
    ) -> None:
        super().__init__(**options)
        known = is_number(vanishing) and is_number(exploding) and is_number(spike)
        if not known or not 0 < vanishing < 1 < exploding or spike <= 1:
            raise ValueError(
                f"GradientMonitor expects 0 < vanishing < 1 < exploding and spike > 1. Received vanishing={vanishing}, "
                f"exploding={exploding}, spike={spike}. The defaults are 1e-3, 1e3 and 10."
            )
        self.vanishing = vanishing
        self.exploding = exploding
        self.spike = spike

    def reset(self) -> None:
        self.rms, self.first_to_last, self.trend = {}, float("nan"), float("nan")
        self.spikes = []
        self._epoch_norms, self._all_norms = [], []
        self._warned = set()

    def on_probe(self, probe: "Probe") -> None:
        norms = probe.values["gradient_norm"].astype("float64")
        if not np.isfinite(norms[~np.isnan(norms)]).all() or np.isnan(norms).all():
            return  # NonFiniteGuard's business; loss scaling overflows now and then
        total = float(np.sqrt(np.nansum(np.square(norms))))
        if len(self._all_norms) >= 5 and total > self.spike * np.median(self._all_norms):
            self.spikes.append(probe.step)
            self._hub.alarm()
            self._warn(
                "spike",
                f"GradientMonitor expects the gradient's norm to stay within {self.spike:g} times its median. Received "
                f"{total:.3g} at step {probe.step}, where the median is {np.median(self._all_norms):.3g}. "
                "Clip gradients (clipnorm=1.0), lower the learning rate or warm it up.",
            )
        self._all_norms.append(total)
        self._epoch_norms.append(norms)

    def summarize(self, epoch: int) -> dict[str, float]:
        rows, self._epoch_norms = np.array(self._epoch_norms), []
        if not len(rows):
            return dict.fromkeys(self.keys, float("nan"))
        axis = self.record.axes["variables"]
        kernels = np.flatnonzero((axis["role"] == "kernel") & ~np.isnan(rows).any(axis=0))
        kernels = kernels[np.argsort(axis["depth"][kernels], kind="stable")]
        rms = np.median(rows[:, kernels] / np.sqrt(axis["size"][kernels]), axis=0)
        self.rms = dict(zip(axis["name"][kernels].tolist(), rms.tolist(), strict=True))
        self._compare(epoch, rms)
        norm = float(np.median(np.sqrt(np.nansum(np.square(rows), axis=1))))
        return dict(zip(self.keys, (norm, self.first_to_last), strict=True))

    def logged_values(self, probe: "Probe") -> "tuple[dict[str, float], dict[str, np.ndarray]]":
        names = self.record.axes["variables"]["name"]
        scalars = {f"gradient_norm/{n}": v for n, v in zip(names, probe.values["gradient_norm"], strict=True)}
        rows = zip(names, probe.histograms["histogram_gradient"], strict=True)
        return scalars, {f"gradient/{name}": row for name, row in rows}

    def monitor_state(self) -> dict[str, Any]:
        rows = [norms.tolist() for norms in self._epoch_norms]
        return {"norms": self._all_norms, "spikes": self.spikes, "warned": sorted(self._warned), "rows": rows}

    def set_monitor_state(self, state: dict[str, Any]) -> None:
        self._all_norms, self.spikes = list(state["norms"]), list(state["spikes"])
        self._warned = set(state["warned"])
        self._epoch_norms = [np.array(norms) for norms in state.get("rows", [])]

    def plot(self) -> "matplotlib.figure.Figure":
        """Draw the gradient of every kernel by depth, over the run, as a `matplotlib.figure.Figure`."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        return plot.gradient_flow(self.record)

    def _compare(self, epoch, rms):
        if len(rms) < 2 or rms[-1] == 0:
            self.first_to_last = self.trend = float("nan")
            return
        self.first_to_last = float(rms[0] / rms[-1])
        towards_input = np.log(np.maximum(rms[::-1], 1e-45))
        self.trend = float(np.exp(np.polyfit(np.arange(len(rms)), towards_input, 1)[0]))
        names = list(self.rms)
        story = (
            f"Received {self.first_to_last:.2g} in epoch {epoch}: {rms[0]:.2g} in {names[0]}, {rms[-1]:.2g} in "
            f"{names[-1]}, a factor of {self.trend:.2g} per layer."
        )
        if self.first_to_last < self.vanishing:
            self._warn(
                "vanishing",
                f"GradientMonitor expects the first layer's gradient to be at least {self.vanishing:g} of the last's. "
                f"{story} Use ReLU with he_normal, batch normalization or residual connections.",
            )
        if self.first_to_last > self.exploding:
            self._warn(
                "exploding",
                f"GradientMonitor expects the first layer's gradient to be at most {self.exploding:g} of the last's. "
                f"{story} Initialize with smaller weights, normalize, or clip gradients (clipnorm=1.0).",
            )

    def _warn(self, what, text):
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(text, stacklevel=2)
