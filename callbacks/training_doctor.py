"""Say what is wrong with a run while it runs, once, with the remedy."""

from recipes.callbacks.monitor import Monitor
from recipes.common.validation import is_one_of

_FEWEST_STEPS = 25  # of an epoch, for a probe in each to cost little


class TrainingDoctor(Monitor):
    """Diagnose the run after every epoch, and before the first.

    Joins what the curves show, what the probes saw inside the steps, and what is known of model, loss and data,
    into findings with evidence and remedy (see `recipes.diagnose.diagnose`); causes come before symptoms.

    Args:
        act: "report" prints findings as they arise; "stop" also ends the training at the first error.
        train: Training data for the checks of data and initial weights, as given to `fit`: a `tf.data.Dataset` or
            arrays. A few batches are read, without moving it on. None leaves those checks out.
        validation: The same for validation data.
        facts: `recipes.diagnose.preflight(...).facts`, in place of `train` and `validation`.
        verbose: 0 prints nothing.
        **options: `every_steps`, `budget` (0.02 when neither is given), `samples`, `log_dir`, `strict`, see `Monitor`.

    Attributes:
        findings: list of `recipes.diagnose.Finding`, as of the last judgement.
        said: list of what was printed, or would have been, in order.

    Example:
        >>> doctor = TrainingDoctor(train=(images, labels))
        >>> model.fit(images, labels, epochs=5, callbacks=[doctor])
        >>> doctor.findings
    """

    quantities = frozenset({"variables", "activations", "finite"})

    def __init__(self, act="report", *, train=None, validation=None, facts=None, verbose=1, **options):
        if not is_one_of(act, ("report", "stop")):
            raise ValueError(
                f'TrainingDoctor expects act="report" or act="stop". Received act={act!r}. '
                "Use stop to end a run that cannot work at its first error."
            )
        if options.get("every_steps") is None and options.get("budget") is None:
            options["budget"] = 0.02
        super().__init__(**options)
        self._act = act
        self.verbose = verbose
        self._train, self._validation, self._given_facts = train, validation, facts
        self._book = None
        self._history = {}
        self._probes = 0

    @property
    def findings(self):
        return [] if self._book is None else list(self._book.findings)

    @property
    def said(self):
        return [] if self._book is None else list(self._book.said)

    def reset(self):
        self._history, self._probes = {}, 0
        self._book = None
        self._guarded(self._begin)

    def on_epoch_begin(self, epoch, logs=None):
        # Short runs afford few probes: see to one an epoch at least, where an epoch is long enough for that.
        if len(self.record) == self._probes and (self.params.get("steps") or 0) >= _FEWEST_STEPS:
            self._hub.probe_next()
        self._probes = len(self.record)
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self._guarded(self._judge, logs or {})

    def on_train_end(self, logs=None):
        self._guarded(self._finish)
        super().on_train_end(logs)

    def monitor_state(self):
        return {"history": self._history}

    def set_monitor_state(self, state):
        self._history = {name: list(values) for name, values in state["history"].items()}

    def _begin(self):
        from recipes.diagnose.rules.finding_log import Casebook
        from recipes.diagnose.rules.run_facts import describe

        facts = self._given_facts
        if facts is None:
            # A model without variables yet can be looked at after its first epoch; then initial weights are gone.
            facts = describe(self.model, self._train, self._validation) if self.model.built else {}
        self._book = Casebook(facts)
        found = self._book.update(None, None)
        self._say(found, printed=self._given_facts is not None)  # by preflight, which gave the facts

    def _judge(self, logs):
        epochs = max((len(values) for values in self._history.values()), default=0)
        for name, value in logs.items():
            self._history.setdefault(name, [float("nan")] * epochs).append(float(value))
        for values in self._history.values():
            values += [float("nan")] * (epochs + 1 - len(values))
        self._say(self._book.update(self._history, self.record, steps=self._steps_taken()))

    def _finish(self):
        from recipes.diagnose.rules.run_facts import idle_averages

        if self._history:
            self._say(
                self._book.update(
                    self._history,
                    self.record,
                    last=True,
                    idle_averages=idle_averages(self.model),
                    steps=self._steps_taken(),
                )
            )

    def _steps_taken(self):
        """Steps of this run so far, or None where `fit` does not know how long an epoch is."""
        steps = self.params.get("steps")
        return steps and steps * max(len(values) for values in self._history.values())

    def _say(self, findings, printed=False):
        if self.verbose and not printed:
            for finding in findings:
                print(f"\nTrainingDoctor: {finding.wrapped()}")
        if self._act == "stop" and any(finding.severity == "error" for finding in findings):
            self.model.stop_training = True
