"""Search settings as the lectures teach it: coarse and random first, then finer around the best."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from recipes.callbacks import TrainingDoctor
from recipes.common.memory import forget_train_functions
from recipes.common.optional import optional
from recipes.common.types import Data
from recipes.common.validation import check_seed, is_whole
from recipes.tune.space import parse

if TYPE_CHECKING:
    import optuna


def search(
    build: Callable[..., keras.Model],
    train: Data,
    validation: Data,
    space: Mapping[str, tuple[float, float] | tuple[float, float, Literal["log", "linear"]] | list[Any]],
    *,
    coarse: Mapping[str, int] | None = None,
    fine: Mapping[str, int] | None = None,
    metric: str = "val_accuracy",
    storage: str | PathLike[str] | optuna.storages.BaseStorage | None = None,
    name: str = "search",
    seed: int = 0,
    batch_size: int = 128,
    verbose: int = 1,
) -> optuna.Study:
    """Find good settings: many short random trials in log space, then longer ones in a narrower range.

    Random trials cover each setting better than a grid of as many (Bergstra & Bengio 2012, section 1 and figure 1,
    https://www.jmlr.org/papers/v13/bergstra12a.html). The coarse stage trains few epochs; trials that are worse than
    the median after an epoch are pruned (from their second epoch on). A trial also ends as soon as `TrainingDoctor`
    finds an error - a loss that is NaN, dead layers - because waiting will not repair it. The fine stage spans the
    range of the best quarter of coarse trials, widened by an eighth of the whole range at either end, and trains
    longer. Source: steps 4 to 7 of the lecture "Training Neural Networks II" of Stanford's CS231n,
    https://cs231n.github.io/neural-networks-3/#hyper.

    Args:
        build: function `(**settings) -> compiled keras.Model`, one keyword per name in `space`.
        train: `tf.data.Dataset` of batches, or arrays `(x, y)`.
        validation: The same.
        space: dict: `(low, high)` in log space, `(low, high, "linear")`, whole numbers for two ints, or a list of
            choices.
        coarse: dict `{"trials": 20, "epochs": 3}`; what is left out takes these values.
        fine: dict `{"trials": 10, "epochs": 10}`; `{"trials": 0}` leaves the stage out.
        metric: Name in the history to judge by; the best epoch counts. Names that end in "loss" or "error" are
            minimized, others maximized.
        storage: Where the study is kept: None (memory), an Optuna storage, an `sqlite:///` or other
            database URL, or the path of a journal file. Several processes or machines that call `search` with one
            storage and name share the trials. A process that dies leaves its trial behind; the others do it again.
        name: Name of the study in the storage. A study of that name is continued.
        seed: Integer that fixes the random trials and, plus the number of the trial, its initial weights.
        batch_size: Examples per batch, >= 1, for arrays.
        verbose: 0 is silent, 1 prints a line per trial.

    Returns:
        The `optuna.Study`, with `study.best_params`; each trial's `user_attrs` hold "stage", "history", "findings" and,
        where it ended early, "ended". `recipes.plot.search_trials(study)` draws it.

    Raises:
        ImportError: without Optuna, the extra "tune".
        ValueError: for a space, stage or metric of another form, or a `build` that does not take the settings or does
            not return a compiled model.
    """
    optuna = optional("recipes.tune", "optuna", "Optuna", "tune")
    ranges = parse(space)
    check_seed("tune.search", seed)
    if not is_whole(batch_size) or batch_size < 1:
        raise ValueError(
            f"tune.search expects batch_size to be a whole number, at least 1. Received {batch_size!r}. It is used "
            "only for arrays."
        )
    if not isinstance(metric, str):
        raise ValueError(
            f"tune.search expects metric to be a name in the history. Received {metric!r}. Write 'val_accuracy'."
        )
    try:
        inspect.signature(build).bind(**ranges)
    except TypeError as error:
        raise ValueError(
            f"tune.search expects build to take the settings of space as arguments. Received space with "
            f"{', '.join(ranges)} ({error}). Write def build({', '.join(ranges)}): ..."
        ) from error
    coarse = _stage("coarse", coarse, {"trials": 20, "epochs": 3})
    fine = _stage("fine", fine, {"trials": 10, "epochs": 10})
    direction = "minimize" if metric.endswith(("loss", "error")) else "maximize"
    if verbose < 2:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=name,
        storage=_storage(optuna, storage),
        direction=direction,
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )
    task = _Task(build, train, validation, metric, direction, seed, batch_size, verbose)
    _run_stage(optuna, study, "coarse", coarse, ranges, None, task)
    if fine["trials"]:
        _run_stage(optuna, study, "fine", fine, ranges, lambda: _narrowed(optuna, study, ranges), task)
    return study


class _Task:
    """One trial: build, fit with a doctor, report each epoch."""

    def __init__(self, build, train, validation, metric, direction, seed, batch_size, verbose):
        self.build, self.train, self.validation = build, train, validation
        self.metric, self.sign = metric, 1 if direction == "maximize" else -1
        self.seed, self.batch_size, self.verbose = seed, batch_size, verbose

    def __call__(self, optuna, trial, settings, epochs):
        keras.backend.clear_session()
        forget_train_functions()
        keras.utils.set_random_seed(self.seed + trial.number)
        model = self.build(**settings)
        if not isinstance(model, keras.Model) or not model.compiled:
            raise ValueError(
                f"tune.search expects build to return a compiled keras.Model. Received {type(model).__name__}"
                f"{', not compiled' if isinstance(model, keras.Model) else ''}. Call model.compile(...) in build."
            )
        doctor = TrainingDoctor("stop", verbose=0)
        reporter = _Reporter(optuna, trial, self.metric)
        arrays = isinstance(self.train, (tuple, list))
        data = (
            {"x": self.train[0], "y": self.train[1], "batch_size": self.batch_size}
            if arrays
            else {"x": self.train, "shuffle": False}
        )
        validation = tuple(self.validation) if isinstance(self.validation, list) else self.validation
        history = model.fit(
            **data, validation_data=validation, epochs=epochs, callbacks=[doctor, reporter], verbose=0
        ).history
        trial.set_user_attr("history", {key: [_plain(v) for v in values] for key, values in history.items()})
        trial.set_user_attr("findings", [finding.to_dict() for finding in doctor.findings])
        errors = [finding for finding in doctor.findings if finding.severity == "error"]
        if errors and len(history["loss"]) < epochs:
            trial.set_user_attr("ended", str(errors[0].title))
            raise optuna.TrialPruned(str(errors[0]))
        if reporter.pruned:
            trial.set_user_attr("ended", "pruned")
            raise optuna.TrialPruned
        values = np.asarray(self._values(history), "float64")
        if not np.isfinite(values).any():
            trial.set_user_attr("ended", "not finite")
            raise optuna.TrialPruned
        return float(np.nanmax(self.sign * values) * self.sign)

    def _values(self, history):
        if self.metric not in history:
            raise ValueError(
                f"tune.search expects metric to be one of the history's {sorted(history)}. Received {self.metric!r}. "
                "Compile the model with metrics=['accuracy'], or give metric='val_loss'."
            )
        return history[self.metric]


class _Reporter(keras.callbacks.Callback):
    """Tell Optuna each epoch's value, and stop where it says so."""

    def __init__(self, optuna, trial, metric):
        super().__init__()
        self.optuna, self.trial, self.metric, self.pruned = optuna, trial, metric, False

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.metric)
        if value is None or not math.isfinite(value):
            return
        self.trial.report(float(value), epoch)
        if epoch + 1 < self.params["epochs"] and self.trial.should_prune():
            self.pruned = self.model.stop_training = True


def _run_stage(optuna, study, stage, settings, ranges, narrow, task):
    """Do trials of a stage until it has as many as asked for, counting the trials of other processes."""
    done_states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    while True:
        trials = study.get_trials(deepcopy=False)
        if (
            sum(t.state in done_states and t.user_attrs.get("stage") == stage for t in trials)
            >= settings["trials"]
        ):
            return
        trial = study.ask()
        trial.set_user_attr("stage", stage)
        draw = np.random.default_rng((task.seed, trial.number))
        values = {name: entry.draw(draw) for name, entry in (narrow() if narrow else ranges).items()}
        study.sampler = _given(optuna, values)
        # Asked for within the whole range, which must stay the same all through a study.
        chosen = {name: entry.suggest(trial, name) for name, entry in ranges.items()}
        try:
            value = task(optuna, trial, chosen, settings["epochs"])
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except BaseException:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        else:
            study.tell(trial, value)
        if task.verbose:
            print(_line(study.get_trials(deepcopy=False)[trial.number], chosen))


def _given(optuna, values):
    """An Optuna sampler that gives the values drawn for one trial."""

    class Given(optuna.samplers.BaseSampler):
        def infer_relative_search_space(self, study, trial):
            return {}

        def sample_relative(self, study, trial, search_space):
            return {}

        def sample_independent(self, study, trial, param_name, param_distribution):
            return values[param_name]

    return Given()


def _narrowed(optuna, study, ranges):
    """The ranges that the best quarter of coarse trials spans; the same for every process once these trials are
    done."""
    complete = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if trial.user_attrs.get("stage") == "coarse"
    ]
    if not complete:
        return ranges
    downwards = study.direction == optuna.study.StudyDirection.MAXIMIZE
    complete.sort(key=lambda trial: trial.value, reverse=downwards)
    best = complete[: max(2, -(-len(complete) // 4))]
    return {name: entry.around([trial.params[name] for trial in best]) for name, entry in ranges.items()}


def _stage(which, given, defaults):
    given = {} if given is None else given
    known = isinstance(given, dict) and set(given) <= set(defaults)
    stage = {**defaults, **(given if known else {})}
    fewest = {"trials": 0 if which == "fine" else 1, "epochs": 1}
    if not known or any(not is_whole(stage[key]) or stage[key] < fewest[key] for key in stage):
        raise ValueError(
            f"tune.search expects {which} to be a dict with whole numbers of trials and epochs. Received {given!r}. "
            f"The default is {defaults}."
        )
    return stage


def _storage(optuna, storage):
    if storage is None or not isinstance(storage, (str, bytes)) and not hasattr(storage, "__fspath__"):
        return storage
    if "://" in str(storage):
        return str(storage)
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415 - an optional library

    _cut_off_half_a_line(str(storage))
    return optuna.storages.JournalStorage(JournalFileBackend(str(storage)))


def _cut_off_half_a_line(path):
    """Remove what a crash or a full disk left after the journal's last whole line, which Optuna cannot read past."""
    from optuna.storages.journal import JournalFileSymlinkLock  # noqa: PLC0415 - an optional library

    if not os.path.exists(path) or _ends_with_a_line(path):
        return
    lock = JournalFileSymlinkLock(path)
    lock.acquire()  # as Optuna's writers do, so that a line being written is not taken for half a one
    try:
        if not _ends_with_a_line(path):
            with open(path, "rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()


def _ends_with_a_line(path):
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return size == 0 or file.read() == b"\n"


def _plain(value):
    value = float(value)
    return value if math.isfinite(value) else None


def _line(trial, settings):
    shown = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in settings.items())
    value = f"{trial.value:.4g}" if trial.value is not None else trial.user_attrs.get("ended", "pruned")
    return f"{trial.user_attrs['stage']} {trial.number}: {value} ({shown})"
