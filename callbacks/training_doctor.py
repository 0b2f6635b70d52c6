"""Say what is wrong with a run while it runs, once, with the remedy."""

import warnings
from typing import TYPE_CHECKING, Any, Literal

from recipes.callbacks.epoch_clock import EpochClock
from recipes.callbacks.monitor import Monitor, first_line
from recipes.callbacks.rate_driver import Logs
from recipes.common.epoch_times import parts_of_epoch
from recipes.common.validation import is_number, is_one_of

if TYPE_CHECKING:
    from recipes.diagnose.finding import Finding

_FEWEST_STEPS = 25  # steps per epoch from which one probe per epoch costs little
_LONG = 0.3  # share of an epoch's time from which one cause is worth a message
_LONG_EPOCH = 2.0  # seconds; in shorter epochs it does not matter where the time goes
_FEWEST_LOOKS = 5  # steps in which the waiting was measured, before the doctor speaks of it


class TrainingDoctor(Monitor):
    """Diagnose the run after every epoch, and before the first.

    It joins what the curves show, what the probes saw inside the steps, and what is known about model, loss and data
    into findings with evidence and remedy (see `recipes.diagnose.diagnose`); causes come before symptoms.

    Where something is missing (no loss in the logs of a custom `train_step`, no compiled loss, labels that the loss
    cannot take), only the rules that need it are silent. A finding that no longer holds is withdrawn, and the doctor
    says so.

    Args:
        act: "report" prints findings as they arise; "stop" also ends the training at the first error; "try" also
            tries its remedies on copies of the model, see `recipes.diagnose.try_remedies`, and prints which of them
            help; `findings` then hold the results. "try" needs `train`.
        train: Training data for the checks of data and initial weights, as given to `fit`: a `tf.data.Dataset` or
            arrays. A few batches are read, without moving it on. None leaves those checks out.
        validation: The same for validation data.
        facts: `recipes.diagnose.preflight(...).facts`, used instead of looking at `train` and `validation`.
        seconds: With act="try", time for the trials, in seconds, > 0.
        verbose: 0 prints nothing.
        **options: `every_steps`, `budget` (0.02 when neither is given), `samples`, `log_dir`, `strict`, see `Monitor`.

    Attributes:
        findings: list of `recipes.diagnose.Finding`, as of the last judgement; what was said and withdrawn comes last.
        said: list of what was printed, or would have been, in order; `Finding.withdrawn` tells what was taken back.
        tried: The `recipes.diagnose.Trials` of act="try", or None.
        times: Seconds of the last epoch, empty before: {"steps", "input", "first", "callbacks", "validation",
            "garbage", "epoch"}. "input" is waiting for batches, measured in the steps that are looked into, which stand
            for all. "first" is how much longer the first step took than a usual one. "callbacks" is the time of all
            callbacks and of Keras' loop, "garbage" that of Python's collector. "input" is left out where no step
            measured it: in XLA, with steps_per_execution, in epochs of one step. On JAX "callbacks" is left out too,
            because a call returns before its step is done.
        epoch_times: list of the same, one per epoch.

    Raises:
        ValueError: for another `act`, act="try" without `train`, `seconds` of 0 or less, or options that `Monitor`
            refuses.

    Example:
        >>> doctor = TrainingDoctor(train=(images, labels))
        >>> model.fit(images, labels, epochs=5, callbacks=[doctor])
        >>> doctor.findings
    """

    quantities = frozenset({"variables", "activations", "finite"})
    times_calls = True

    def __init__(
        self,
        act: Literal["report", "stop", "try"] = "report",
        *,
        train: Any = None,
        validation: Any = None,
        facts: dict | None = None,
        seconds: float = 30.0,
        verbose: int = 1,
        **options: Any,
    ) -> None:
        if not is_one_of(act, ("report", "stop", "try")):
            raise ValueError(
                f'TrainingDoctor expects act="report", "stop" or "try". Received act={act!r}. '
                'Use "stop" to end the training at the first error, "try" to try the remedies as well.'
            )
        if act == "try" and train is None:
            raise ValueError(
                'TrainingDoctor(act="try") expects train=, to try remedies on. Received none. '
                "Give the data that fit is given: train=(x, y) or a tf.data.Dataset."
            )
        if not is_number(seconds) or seconds <= 0:
            raise ValueError(
                f"TrainingDoctor expects seconds to be a number above 0. Received seconds={seconds!r}. "
                "Leave it out for 30 seconds of trials."
            )
        if options.get("every_steps") is None and options.get("budget") is None:
            options["budget"] = 0.02
        super().__init__(**options)
        self._act, self._seconds = act, seconds
        self.verbose = verbose
        self.tried = None
        self._train, self._validation, self._given_facts = train, validation, facts
        self._book = None
        self._history = {}
        self._probes = 0
        self._extended_after: int | None = None  # epochs, of a finished run that was given more
        self._earlier = 0  # epochs before the history begins, such as those of another model
        self._clock, self._told = EpochClock(), False
        self._learning: int | None = None  # variables, at the end of an epoch
        self._usual_epoch = False  # whether nothing was traced in the last epoch

    @property
    def findings(self) -> "list[Finding]":
        found = [] if self._book is None else list(self._book.findings)
        return found if self.tried is None else self.tried.apply(found)

    @property
    def said(self) -> "list[Finding]":
        return [] if self._book is None else list(self._book.said)

    @property
    def times(self) -> dict[str, float]:
        return self._clock.epochs[-1] if self._clock.epochs else {}

    @property
    def epoch_times(self) -> list[dict[str, float]]:
        return list(self._clock.epochs)

    def on_train_begin(self, logs: Logs = None) -> None:
        if self.model.built and not self.model.trainable_variables:
            self._failed, self._tensorboard = False, None
            self._hub = _NoProbes()
            self._record = self._hub.record
            self.reset()
        else:
            super().on_train_begin(logs)

    def reset(self) -> None:
        self._history, self._probes, self._earlier = {}, 0, 0
        self._book, self._extended_after = None, None
        self.tried = None
        self._clock, self._told, self._learning, self._usual_epoch = EpochClock(), False, None, False
        self._guarded(self._begin)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        # The budget of a short run allows few probes: ask for at least one per epoch, where an epoch is long enough for
        # that. In the first epoch the budget itself allows one after the first step.
        seen, long = self._hub.has_run, (self.params.get("steps") or 0) >= _FEWEST_STEPS
        if seen and long and len(self.record) == self._probes:
            self._hub.probe_next()
        self._probes = len(self.record)
        self._earlier = max(0, epoch - self._seen)
        super().on_epoch_begin(epoch, logs)
        self._clock.epoch_begins()
        self._say_where_the_time_goes()  # with what callbacks did at the end of the epoch before

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._clock.step_begins()
        super().on_train_batch_begin(batch, logs)

    def call_begins(self) -> None:
        self._clock.call_begins()

    def call_ends(self, waited: float | None) -> None:
        self._clock.call_ends(waited)

    def on_test_begin(self, logs: Logs = None) -> None:
        self._clock.validation_begins()

    def on_test_end(self, logs: Logs = None) -> None:
        self._clock.validation_ends()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._clock.epoch_ends()
        super().on_epoch_end(epoch, logs)
        self._guarded(self._judge, logs or {})
        # The first epoch traces, and so does one in which other layers begin to learn.
        before, self._learning = self._learning, len(self.model.trainable_variables)
        self._usual_epoch = self._learning == before
        self._say_where_the_time_goes()

    def on_train_end(self, logs: Logs = None) -> None:
        self._clock.training_goes_on()
        self._guarded(self._finish)
        if self.verbose and not self._told:
            self._say_how_long_it_took()
        super().on_train_end(logs)

    def monitor_state(self) -> dict[str, Any]:
        book = {} if self._book is None else {"book": self._book.state()}
        plan = {"planned": self.params.get("epochs"), "extended_after": self._extended_after}
        seen = {"history": self._history, "earlier": self._earlier, "times": self._clock.epochs}
        return {**seen, **plan, **book}

    def set_monitor_state(self, state: dict[str, Any]) -> None:
        self._history = {name: list(values) for name, values in state["history"].items()}
        self._earlier = state.get("earlier", 0)  # which an earlier version does not tell
        self._clock.epochs = list(state.get("times", ()))
        self._extended_after, planned = state.get("extended_after"), state.get("planned")
        done = self._earlier + self._seen
        if planned is not None and done >= planned and (self.params.get("epochs") or 0) > planned:
            self._extended_after = done
        if self._book is not None and "book" in state:
            self._book.take_up(state["book"])

    def set_state_of_another_model(self, state: dict[str, Any]) -> None:
        self._clock.epochs = list(state.get("times", ()))

    def _begin(self):
        # Looks into layers, and needs TensorFlow, as all monitors do; the callbacks load on any backend.
        from recipes.diagnose.rules.finding_log import Casebook  # noqa: PLC0415 - needs TensorFlow, which other backends do without
        from recipes.diagnose.rules.run_facts import describe  # noqa: PLC0415 - needs TensorFlow, which other backends do without

        facts = self._given_facts
        if facts is None:
            try:
                facts = self._describe(describe)
            except Exception as error:
                if self.strict or isinstance(error, Warning):
                    raise
                facts = {}
                warnings.warn(
                    "TrainingDoctor expects to look at model and data before training. Received "
                    f"{type(error).__name__}: {first_line(error)}. It goes on without them, and judges only curves "
                    "and steps; recipes.diagnose.data_check(model, train) shows the whole error.",
                    stacklevel=2,
                )
        self._book = Casebook(facts)
        found = self._book.update(None, None)
        self._say(found, printed=self._given_facts is not None)  # preflight has printed them

    def _describe(self, describe):
        # A model without variables yet can be looked at after its first epoch; then initial weights are gone.
        if self.model.built:
            return describe(self.model, self._train, self._validation)
        if not self.model.variables and self._train is None:
            return {}
        from recipes.diagnose.checks.output_task import task_of  # noqa: PLC0415 - needs TensorFlow, which other backends do without
        from recipes.diagnose.checks.sample import MOST_BYTES, read_sample  # noqa: PLC0415 - needs TensorFlow, which other backends do without
        from recipes.diagnose.rules.run_facts import describe_model, describe_samples  # noqa: PLC0415 - needs TensorFlow, which other backends do without

        options = {"batch_size": 64, "batches": 64, "seconds": 2.0, "most_bytes": MOST_BYTES}
        task_of(self.model)
        if self._train is None:
            return describe_model(self.model)
        train = read_sample(self._train, self.model, **options)
        held_out = None
        if self._validation is not None:
            held_out = read_sample(self._validation, self.model, name="validation", **options)
        return {**describe_model(self.model), "data": describe_samples(self.model, train, held_out)}

    @property
    def _seen(self):
        """The epochs in the history."""
        return max(map(len, self._history.values()), default=0)

    def _judge(self, logs):
        epochs = self._seen
        for name, value in logs.items():
            self._history.setdefault(name, [float("nan")] * epochs).append(float(value))
        for values in self._history.values():
            values += [float("nan")] * (epochs + 1 - len(values))
        self._update()

    def _finish(self):
        from recipes.diagnose.rules.run_facts import idle_averages  # noqa: PLC0415 - needs TensorFlow, which other backends do without

        if self._history:
            more = {**self._recall(), **self._accuracy()}
            self._update(last=True, idle_averages=idle_averages(self.model), **more)

    def _recall(self):
        """The recall of each class where one is rare; for several labels, how the rare ones are found."""
        from recipes.diagnose.rules.class_recall import class_recall, positives  # noqa: PLC0415 - needs TensorFlow, which other backends do without
        from recipes.diagnose.rules.recall_rules import has_rare_ones, is_imbalanced  # noqa: PLC0415 - beside the former

        if self._train is not None and has_rare_ones(self._book.facts):
            return {"positives": positives(self.model, self._train, self._validation)}
        if self._train is None or not is_imbalanced(self._book.facts):
            return {}
        return {"recall": class_recall(self.model, self._train, self._validation)}

    def _accuracy(self):
        """The accuracy on validation data, computed only where the logs have no score to judge overfitting by."""
        from recipes.diagnose.rules.class_recall import class_recall  # noqa: PLC0415 - needs TensorFlow, which other backends do without
        from recipes.diagnose.rules.curve_rules import is_score  # noqa: PLC0415 - beside the former

        asked = any("overfitting" in finding.code for finding in self._book.findings)
        if not asked or self._validation is None or any(map(is_score, self._history)):
            return {}
        classes = class_recall(self.model, self._validation).values()
        examples = sum(one["examples"] for one in classes)
        return {"validation_accuracy": sum(one["right"] for one in classes) / examples} if examples else {}

    def _update(self, **facts):
        if self._extended_after is not None:
            facts["extended_after"] = self._extended_after
        planned = self.params.get("epochs")
        found = self._book.update(
            self._history,
            self.record,
            steps=self._steps_taken(),
            planned=None if planned is None else planned - self._earlier,
            earlier=self._earlier,
            **facts,
        )
        self._say(found)

    def _steps_taken(self):
        """Steps of this run so far, or None where `fit` does not know how long an epoch is."""
        steps = self.params.get("steps")
        return steps and steps * self._seen

    def _say(self, findings, printed=False):
        if self.verbose and not printed:
            for finding in findings:
                print(f"\nTrainingDoctor: {finding.wrapped()}")
        errors = [finding for finding in findings if finding.severity == "error"]
        if errors and self._act == "stop":
            self.model.stop_training = True
        if errors and self._act == "try" and self.tried is None:
            self._try(errors)

    def _say_where_the_time_goes(self):
        times = self.times
        if not (self._usual_epoch and self.verbose) or self._told:
            return
        named = {
            "validation": ("validation", "Validate less often, fit(validation_freq=5)."),
            "input": (
                "waiting for input",
                "Write .map(f, num_parallel_calls=tf.data.AUTOTUNE), and .cache() what fits into memory.",
            ),
            "callbacks": (
                "callbacks and Keras' loop",
                "Let callbacks work only every hundredth batch or fifth epoch; steps_per_execution= shortens the loop.",
            ),
            "first": (
                "waiting for its first batch",
                "Shuffle the names of the files, not the images read from them; move what a generator does at its "
                "start out of it, so that it is done once.",
            ),
            "garbage": (
                "Python's garbage collector",
                "Call gc.freeze() before fit, and look for callbacks that make many objects.",
            ),
        }
        for name, (words, remedy) in named.items():
            known = name != "input" or self._clock.looks >= _FEWEST_LOOKS
            if known and times["epoch"] > _LONG_EPOCH and times.get(name, 0.0) > _LONG * times["epoch"]:
                self._told = True
                print(
                    f"\nTrainingDoctor: {times[name]:.3g} of the {times['epoch']:.3g} s of an epoch are spent on "
                    f"{words}. {remedy} recipes.diagnose.throughput(model, train, validation) says more."
                )

    def _say_how_long_it_took(self):
        """Print one line on where the time of a usual epoch went, where epochs are long enough for that to matter."""
        usual = self._clock.usual()
        if usual.get("epoch", 0.0) <= _LONG_EPOCH:
            return
        words = {
            "steps": "steps" if "input" in usual else "steps with their input",
            "input": f"waiting for input (as seen in {self._clock.looks} steps)",
            "first": "the first batch",
            "callbacks": "callbacks",
            "validation": "validation",
            "garbage": "garbage collection",
        }
        parts = [
            f"{said} {seconds:.3g} s ({percent}%)" for said, seconds, percent in parts_of_epoch(usual, words)
        ]
        # The whole epochs are compared: a first epoch of one step has no other step to compare it with.
        longer = self._clock.epochs[0]["epoch"] - usual["epoch"]
        first = (
            f"; the first one took {longer:.3g} s more, mostly to trace"
            if longer > 0.01 * usual["epoch"]
            else ""
        )
        print(
            f"\nTrainingDoctor: an epoch takes {usual['epoch']:.3g} s: {', '.join(parts)}{first}. If the steps take "
            "too long, recipes.diagnose.throughput(model, train, validation) shows where their time goes."
        )

    def _try(self, errors):
        from recipes.diagnose.remedies.try_remedies import try_remedies  # noqa: PLC0415 - needs TensorFlow, which other backends do without

        try:
            self.tried = try_remedies(
                self.model, self._train, errors, seconds=self._seconds, verbose=self.verbose
            )
        except (ValueError, NotImplementedError) as error:  # a model that cannot be copied: only say so
            if self.verbose:
                print(f"\nTrainingDoctor: no remedy was tried. {error}")


class _NoProbes:
    """Stands in for the hub where nothing is trained, so that there is no step to look into."""

    monitors = (None,)
    epoch = 0
    has_run = False

    def __init__(self):
        from recipes.probe import Record  # noqa: PLC0415 - needs TensorFlow, which other backends do without

        self.record = Record()

    def leads(self, monitor):
        return False

    def probe_next(self):
        """Nothing is probed."""

    def flush(self):
        """Nothing was measured."""
