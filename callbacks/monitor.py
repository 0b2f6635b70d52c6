"""What all monitors have in common: joining the hub of a fit, when to probe, state, and what to do with errors."""

import base64
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from recipes.callbacks.fit_member import FitMember
from recipes.callbacks.rate_driver import Logs
from recipes.checkpoints.comparison import without_numbers
from recipes.common.backends import require_probe
from recipes.common.optional import optional
from recipes.common.traversal import layers_of
from recipes.common.types import Path
from recipes.common.validation import is_one_of, is_whole

if TYPE_CHECKING:
    import numpy as np

    from recipes.probe import Hub, Probe, Record

DEFAULT_BUDGET = 0.01


class Monitor(FitMember):
    """A callback that looks inside training steps through the model's hub (`recipes.probe`).

    Several monitors in one `fit` share one hub: each sees every probe, whichever of them asked for it. Training is
    the same, bit for bit, with and without them.

    Args:
        every_steps: Training steps from one probe to the next, >= 1. The same steps are probed in every run.
        budget: Share of the training time that probes may take, in (0, 1]; which steps are probed depends on the
            clock. 0.01 when neither is given.
        samples: How many samples of the batch activation statistics look at, or "auto": as many as make 2^18
            numbers per layer, at least 16.
        log_dir: Folder for TensorBoard: scalars and histograms of every probe. Needs the extra `tensorboard`. None
            writes nothing.
        strict: Raise an error that occurs inside a monitor. By default it is reported once, with the monitor's name,
            and training goes on without that monitor.

    Raises:
        ValueError: for `every_steps` together with `budget`, or one of them or `samples` outside its range.
        ImportError: for `log_dir` without the extra `tensorboard`.
    """

    quantities: frozenset[str] = frozenset()
    checks_every_step = False
    takes_examples = False
    times_calls = False
    keys: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        every_steps: int | None = None,
        budget: float | None = None,
        samples: 'int | Literal["auto"]' = "auto",
        log_dir: "Path | None" = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_probe(name)
        from recipes.probe.cadence import Budget, Every  # noqa: PLC0415 - brings the adapter of the backend

        if every_steps is not None and budget is not None:
            raise ValueError(
                f"{name} expects every_steps= or budget=, not both. "
                f"Received every_steps={every_steps}, budget={budget}. "
                "Give every_steps= for the same steps in every run, budget= for a bound on the time."
            )
        if every_steps is not None:
            Every(every_steps)
        elif budget is not None:
            Budget(budget)
        if not is_one_of(samples, ("auto",)) and (not is_whole(samples) or samples < 1):
            raise ValueError(
                f'{name} expects samples to be "auto" or a number of samples, >= 1. Received samples={samples!r}. '
                "Leave it out to look at as many as are cheap."
            )
        self.every_steps = every_steps
        self.budget = DEFAULT_BUDGET if every_steps is None and budget is None else budget
        self.samples = samples
        self.log_dir = log_dir
        self.strict = strict
        self._hub: Hub | None = None
        self._record: Record | None = None
        self._failed, self._tensorboard = False, None
        if log_dir is not None:
            optional(f"{name}(log_dir=)", "tensorboard", "TensorBoard", "tensorboard")
            self.quantities = self.quantities | {"histograms"}

    @property
    def record(self) -> "Record | None":
        """The `recipes.probe.Record` of this fit, shared by its monitors; None before the first fit."""
        return self._record

    def on_train_begin(self, logs: Logs = None) -> None:
        from recipes.probe import Hub  # noqa: PLC0415 - brings the adapter of the backend

        self._failed, self._tensorboard = False, None
        self._hub = Hub.join(self, before=self._hub)
        self._record = self._hub.record
        self.reset()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self._hub.leads(self):
            self._hub.epoch_begin(epoch)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        if self._hub.leads(self):
            self._hub.batch_begin(batch)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._hub_ends_epoch()
        logs = {} if logs is None else logs
        logs.update(self._guarded(self.summarize, epoch) or dict.fromkeys(self.keys, float("nan")))

    def on_train_end(self, logs: Logs = None) -> None:
        if self._hub.leads(self):
            self._hub.leave()
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None

    def leave(self) -> None:
        """Detach from the model after a `fit` that an exception ended."""
        if self._hub is not None and self._hub.leads(self):
            self._hub.leave()

    def receive(self, probe: "Probe") -> None:
        """Take one probe from the hub."""
        self._guarded(self.on_probe, probe)
        if self.log_dir is not None:
            self._guarded(self._write, probe)

    def checked(self, values: dict[str, Any]) -> None:
        """Take the raw finiteness checks of one step, for a monitor that `checks_every_step`."""

    def take_examples(self, labels: Any, outputs: Any) -> None:
        """Take the labels and outputs of the step that was made, tensors, for a monitor that `takes_examples`."""

    def call_begins(self) -> None:
        """Called before the train function, for a monitor that `times_calls`."""

    def call_ends(self, waited: float | None) -> None:
        """Called after the train function, with the seconds that it waited for its batch, or None where unknown."""

    def act(self) -> None:
        """Do what the last probe calls for; unlike `on_probe` it may stop the training by an exception."""

    # The methods that a monitor overrides.

    def reset(self) -> None:
        """Forget an earlier fit."""

    def on_probe(self, probe: "Probe") -> None:
        """Look at one probe; they come in order, at the latest at the end of their epoch."""

    def summarize(self, epoch: int) -> dict[str, float]:
        """Return `{key: float}` for the logs of this epoch, the same `keys` each time."""
        return {}

    def logged_values(self, probe: "Probe") -> "tuple[dict[str, float], dict[str, np.ndarray]]":
        """Return `(scalars, histograms)` for `log_dir`, by tag: numbers, and rows `(lowest, highest, 30 counts)`."""
        return {}, {}

    # State, for runs that are interrupted and resumed.

    def get_state(self) -> dict[str, Any]:
        """What a resumed run needs, as a dictionary that JSON can hold; the leading monitor keeps the record."""
        if self._hub is not None:
            self._hub.flush()  # the monitors see what was measured in this epoch before they tell their states
        state = {"monitor": self.monitor_state(), "layers": self._layers()}
        if self._hub is not None and (self._hub.leads(self) or not self._hub.monitors):
            record = base64.b64encode(self._record.to_bytes()).decode()
            state |= {"record": record, "step": self._hub.step}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; call it after `on_train_begin`."""
        from recipes.probe import Record  # noqa: PLC0415 - brings the adapter of the backend

        now = self._layers()
        before = state.get("layers", now)
        names = {old: new for (old, _), (new, _) in zip(before, now, strict=False) if old != new}
        if _unnumbered(before) == _unnumbered(now):  # with resume="force" the model may be another
            self.set_monitor_state(_renamed(state["monitor"], names))
        else:
            names = {}
            self.set_state_of_another_model(state["monitor"])
        if "record" in state:
            record = Record.from_bytes(base64.b64decode(state["record"]))
            record.rename(lambda name: _renamed(name, names))
            self._hub.resume(record, state["step"])

    def monitor_state(self) -> dict[str, Any]:
        """The monitor's own part of `get_state`."""
        return {}

    def set_monitor_state(self, state: dict[str, Any]) -> None:
        """Restore what `monitor_state` gave."""

    def set_state_of_another_model(self, state: dict[str, Any]) -> None:
        """Take what applies to any model from a `monitor_state` of another one."""

    def _layers(self):
        return [
            [layer.name, [list(weight.shape) for weight in layer.weights]] for layer in layers_of(self.model)
        ]

    def _hub_ends_epoch(self):
        if self._hub.leads(self):
            self._hub.epoch_end()

    def _guarded(self, method: Callable[..., Any], *args: Any) -> Any:
        if self._failed:
            return None
        try:
            return method(*args)
        except Exception as error:
            if self.strict or isinstance(error, Warning):  # a warning that the user has turned into an error
                raise
            self._failed = True
            warnings.warn(
                f"{type(self).__name__} expects a step that it can look into. Received {type(error).__name__} in epoch "
                f"{self._hub.epoch + 1}: {first_line(error)}. Training goes on without this monitor; strict=True "
                "raises the error with all of its lines.",
                stacklevel=2,
            )
            return None

    def _write(self, probe):
        from recipes.probe.log_writers import TensorBoardWriter  # noqa: PLC0415 - brings the adapter of the backend

        if self._tensorboard is None:
            self._tensorboard = TensorBoardWriter(self.log_dir, type(self).__name__)
        self._tensorboard.write(probe.step, *self.logged_values(probe))


def _unnumbered(layers):
    """Names and shapes of layers without the numbers of Keras: one model built twice in a process has the same."""
    return [[without_numbers(name), shapes] for name, shapes in layers]


def _renamed(value, names):
    """What JSON can hold, with new names of layers in `dense_1`, `dense_1#2`, `block/dense_1/kernel`."""
    if isinstance(value, str):
        return "".join(names.get(part, part) for part in re.split(r"([/#])", value))
    if isinstance(value, dict):
        return {_renamed(key, names): _renamed(entry, names) for key, entry in value.items()}
    return [_renamed(entry, names) for entry in value] if isinstance(value, (list, tuple)) else value


def first_line(error: Exception) -> str:
    """The first telling line of an error's message, without TensorFlow's heading, at most 160 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Graph execution error", "Detected at node"))]
    return told[0][:160].rstrip(".") if told else "no message"
