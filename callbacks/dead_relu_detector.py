"""Find the ReLUs that have stopped firing."""

import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from recipes.callbacks.monitor import Monitor
from recipes.common.types import Data, Images
from recipes.common.validation import is_number

if TYPE_CHECKING:
    import matplotlib.figure

    from recipes.probe import Probe


class DeadReluDetector(Monitor):
    """Find rectified units that are never active, and so have stopped learning.

    A ReLU whose input is negative on every sample passes no gradient, so nothing brings it back.
    Source: the lecture notes of Stanford's CS231n, "Neural Networks Part 1", section "Commonly used activation
    functions", https://cs231n.github.io/neural-networks-1/#actfun ("as much as 40% of your network can be dead").

    Probes see a few batches, so a unit they never saw active is only a suspect. A suspect is called dead after a look
    at every sample: of `data`, in inference mode with the weights of that moment, or, without `data`, of the epoch that
    follows, batch by batch as training goes through it. Units that fire again are taken off the list.

    It looks at ReLU, ReLU6, `Activation("relu")`, `activation="relu"` and functional relus, also in nested models. A
    unit is a channel of a convolution or a feature of a Dense layer. A relu that is called as a plain function inside a
    subclassed `call` is not a layer and cannot be seen. Leaky activations are listed apart, in `never_positive`: they
    still learn.

    Args:
        data: Where a suspect is confirmed: an array `(n, ...)`, `(images, labels)`, or a `tf.data.Dataset`. This costs
            one forward pass over `data` in every epoch with new suspects, outside the budget. None confirms on the
            training batches of the next epoch, within the budget (which may not suffice in a short run: then suspects
            stay suspects).
        warn_above: Warn about a layer in which a larger share of the units, in [0, 1], is dead. A few are usual.
        warn_when_idle: Whether to warn about a model without any ReLU.
        **options: `every_steps`, `budget`, `samples`, `log_dir`, `strict`, see `Monitor`.

    Attributes:
        dead_units: `{layer: [unit, ...]}`, confirmed.
        suspects: `{layer: [unit, ...]}`, inactive on all probes of the last probed epoch, not confirmed.
        fractions: `{layer: share of its units that is dead}`.
        died: `{layer: {unit: epoch}}`, the first epoch, counted from 0, since when a dead unit was never active; 0 can
            mean from the start.
        never_positive: As `dead_units`, for leaky activations.

    Logs `monitor/dead_relu_fraction`, the share of all ReLU units that is dead, and `monitor/dead_relu_suspects`, a
    number of units. Warns once per layer. In a model without any ReLU it warns that there is none, and does nothing.

    Raises:
        TypeError: for `data` that can be read only once, such as a generator.
        ValueError: for `warn_above` outside [0, 1], or options that `Monitor` refuses.

    Example:
        >>> detector = DeadReluDetector(data=images[:1000])
        >>> model.fit(images, labels, epochs=5, callbacks=[detector])
        >>> detector.dead_units, detector.plot()
    """

    quantities = frozenset({"activations", "ever_active"})
    keys = ("monitor/dead_relu_fraction", "monitor/dead_relu_suspects")

    def __init__(
        self,
        data: "Data | Images | None" = None,
        *,
        warn_above: float = 0.2,
        warn_when_idle: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if data is not None and hasattr(data, "__next__"):
            raise TypeError(
                f"DeadReluDetector expects data to be an array or a tf.data.Dataset. Received {data!r}, which can be "
                "read only once. Collect it into an array first."
            )
        if not is_number(warn_above) or not 0 <= warn_above <= 1:
            raise ValueError(
                f"DeadReluDetector expects warn_above to be a share in [0, 1]. Received warn_above={warn_above}. "
                "The default, 0.2, warns about layers in which more than a fifth of the units are dead."
            )
        self.data = data
        self.warn_above = warn_above
        self.warn_when_idle = warn_when_idle

    def reset(self) -> None:
        self.dead_units, self.suspects, self.fractions = {}, {}, {}
        self.died, self.never_positive = {}, {}
        self._kinds, self._last_active, self._epoch_active = {}, {}, {}
        self._asked = {}
        self._check = None
        self._warned = set()

    def on_probe(self, probe: "Probe") -> None:
        axis, start = self.record.axes["activations"], 0
        for index in np.flatnonzero(np.isin(axis.get("kind", []), ("relu", "leaky_relu"))):
            layer, units = str(axis["layer"][index]), int(axis["units"][index])
            active, start = probe.active[start : start + units] > 0, start + units
            if not np.isfinite(probe.values["mean"][index]):
                continue  # of NaN nothing is positive, and the unit is not dead but broken
            self._kinds[layer] = str(axis["kind"][index])
            self._epoch_active[layer] = self._epoch_active.get(layer, np.zeros(units, bool)) | active

    def summarize(self, epoch: int) -> dict[str, float]:
        seen, self._epoch_active = self._epoch_active, {}
        if not self._kinds:
            self._note_idle()
            return dict.fromkeys(self.keys, float("nan"))
        if not seen:
            return self._report(epoch)
        for layer, active in seen.items():
            last = self._last_active.setdefault(layer, np.full(active.size, -1))
            last[active] = epoch
            self._keep(layer, [unit for unit in self._list(layer).get(layer, []) if not active[unit]])
        silent = {layer: np.flatnonzero(~active).tolist() for layer, active in seen.items()}
        new = {
            layer: sorted({*units} - {*self._list(layer).get(layer, [])}) for layer, units in silent.items()
        }
        self.suspects = {layer: units for layer, units in new.items() if units}
        if self.suspects and not all(
            bool(keras.ops.all(keras.ops.isfinite(v))) for v in self.model.trainable_variables
        ):
            self.suspects = {}  # a ReLU may turn NaN into 0: such a network is broken, and its units not dead
        elif self.suspects and self.data is not None:
            self._look_at_data()
        elif self.suspects and self._hub.sweep(self):
            self._asked = self.suspects
        return self._report(epoch)

    def swept(self, layout: list[tuple[str, int]], active: "np.ndarray", complete: bool) -> bool:
        """Take from the hub which units were active in any batch so far; True ends the sweep."""
        found, start = {}, 0
        for name, units in layout:
            layer = name.split("#")[0]
            here = active[start : start + units] > 0
            found[layer] = found[layer] | here if layer in found else here
            start += units
        for layer, units in found.items():
            self._epoch_active[layer] = self._epoch_active.get(layer, np.zeros(units.size, bool)) | units
        if complete:
            self._settle(found)
        return not any(self._still_silent(found).values())

    def _look_at_data(self):
        if self._check is None:
            from recipes.probe.active_units import ActivityCheck  # noqa: PLC0415 - brings the adapter of the backend

            self._check = ActivityCheck(self.model)
        self._asked = self.suspects
        self._settle(self._check(self.data))
        self.suspects = {}

    def _still_silent(self, active):
        return {layer: [u for u in units if not active[layer][u]] for layer, units in self._asked.items()}

    def _settle(self, active):
        for layer, units in self._still_silent(active).items():
            self._keep(layer, sorted({*self._list(layer).get(layer, []), *units}))

    def logged_values(self, probe: "Probe") -> "tuple[dict[str, float], dict[str, np.ndarray]]":
        axis = self.record.axes["activations"]
        rows = zip(
            axis["name"], axis["kind"], np.split(probe.rates, np.cumsum(axis["units"])[:-1]), strict=True
        )
        inactive = {
            f"inactive_units/{name}": np.mean(rates == 0) for name, kind, rates in rows if kind == "relu"
        }
        return inactive, {}

    def monitor_state(self) -> dict[str, Any]:
        return {
            "dead_units": self.dead_units,
            "never_positive": self.never_positive,
            "died": {layer: sorted(units.items()) for layer, units in self.died.items()},
            "last_active": {layer: last.tolist() for layer, last in self._last_active.items()},
            "epoch_active": {layer: active.tolist() for layer, active in self._epoch_active.items()},
            "asked": self._asked,
            "sweep": self._hub.sweep_state(self) if self._hub is not None else None,
            "kinds": self._kinds,
            "warned": sorted(self._warned),
        }

    def set_monitor_state(self, state: dict[str, Any]) -> None:
        self.dead_units, self.never_positive = dict(state["dead_units"]), dict(state["never_positive"])
        self.died = {layer: {int(u): e for u, e in units} for layer, units in state["died"].items()}
        self._last_active = {layer: np.array(last) for layer, last in state["last_active"].items()}
        active = state.get("epoch_active", {})
        self._epoch_active = {layer: np.array(units, bool) for layer, units in active.items()}
        self._asked = dict(state.get("asked", {}))
        if state.get("sweep") is not None:
            self._hub.resume_sweep(self, state["sweep"])
        self._kinds, self._warned = dict(state["kinds"]), set(state["warned"])

    def plot(self) -> "matplotlib.figure.Figure":
        """Draw each unit's rate of activity over the run, dead units marked, as a `matplotlib.figure.Figure`."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        return plot.unit_activity(self.record, self.dead_units)

    def _list(self, layer):
        return self.dead_units if self._kinds.get(layer) == "relu" else self.never_positive

    def _keep(self, layer, units):
        before = self.died.pop(layer, {})
        self._list(layer).pop(layer, None)
        if units:
            self._list(layer)[layer] = units
            self.died[layer] = {u: before.get(u, int(self._last_active[layer][u]) + 1) for u in units}

    def _report(self, epoch):
        sizes = {
            layer: last.size for layer, last in self._last_active.items() if self._kinds[layer] == "relu"
        }
        self.fractions = {layer: len(self.dead_units.get(layer, [])) / size for layer, size in sizes.items()}
        for layer, fraction in self.fractions.items():
            if fraction > self.warn_above and layer not in self._warned:
                self._warned.add(layer)
                warnings.warn(
                    f"DeadReluDetector expects at most {self.warn_above:.0%} of a layer's ReLUs to be dead. Received "
                    f"{fraction:.0%} ({len(self.dead_units[layer])} of {sizes[layer]} units) in {layer} after epoch "
                    f"{epoch}. Lower the learning rate, initialize with he_normal and zero biases, or use LeakyReLU.",
                    stacklevel=2,
                )
        dead = sum(len(self.dead_units.get(layer, [])) for layer in sizes)
        waiting = sum(len(units) for layer, units in self.suspects.items() if layer in sizes)
        return dict(zip(self.keys, (dead / max(1, sum(sizes.values())), float(waiting)), strict=True))

    def _note_idle(self):
        name = self.model.name
        text = (
            f"DeadReluDetector expects a model with ReLU layers. Received {name!r}, in which none was found."
        )
        if len(self.record) and text not in self.record.notes:
            self.record.notes.append(text)
            if self.warn_when_idle:
                warnings.warn(f"{text} It does nothing; leave it out.", stacklevel=2)
