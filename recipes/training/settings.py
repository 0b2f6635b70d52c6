"""What `recipes.train` takes: every argument in one frozen object, checked in one table before anything is built."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar

import keras
import numpy as np

from recipes.callbacks import Backup
from recipes.checkpoints.backup_timetable import backup_interval
from recipes.checkpoints.kept_backups import Keep, KeepOptions
from recipes.common.argument_names import check_names
from recipes.common.notebooks import in_notebook
from recipes.common.types import Verbose
from recipes.common.validation import as_row, is_number, is_whole
from recipes.training.mended_labels import check_files, labels_to_set, numbers_to_drop

if TYPE_CHECKING:
    import tensorflow as tf

    from recipes.augment import Pipeline
    from recipes.data.load import DatasetInfo
    from recipes.diagnose import LabelIssues

P = ParamSpec("P")
R = TypeVar("R")

#: What `compile` takes for a loss or a metric.
LossLike: TypeAlias = "str | keras.losses.Loss | Callable[..., Any] | Sequence[Any] | Mapping[str, Any]"
MetricsLike: TypeAlias = "Sequence[str | keras.metrics.Metric | Callable[..., Any] | Sequence[Any] | None]"
OptimizerName: TypeAlias = Literal[
    "auto",
    "muon_sgd",
    "sgd",
    "adam",
    "adamw",
    "nadam",
    "adamax",
    "rmsprop",
    "adagrad",
    "adadelta",
    "adafactor",
    "ftrl",
    "lion",
    "muon",
    "schedulefreeadamw",
]
ScheduleName: TypeAlias = Literal["cosine", "linear", "step", "inverse_sqrt"]

# What compile() decides: a compiled model has these already.
_COMPILE_ARGUMENTS = ("loss", "metrics", "optimizer", "learning_rate", "weight_decay", "label_smoothing")

#: What may differ from the interrupted run on `resume=True`: where and how a run is kept and watched, not what it
#: computes.
FREE_ON_RESUME = frozenset(
    {"run_dir", "resume", "verbose", "epochs", "keep", "backup_every", "preflight", "monitor", "callbacks"}
)


@dataclass(frozen=True)
class Settings:
    """The arguments of one call of `recipes.train`, whose docstring says what each means.

    Attributes:
        given: Names of the arguments that the user wrote: a default does not contradict a compiled model, but the same
            value written by the user does.
    """

    epochs: int
    batch_size: int
    loss: LossLike
    metrics: MetricsLike
    class_weight: Mapping[int, float] | None
    optimizer: OptimizerName | keras.optimizers.Optimizer
    learning_rate: float | Literal["auto"] | keras.optimizers.schedules.LearningRateSchedule
    rates: float | Mapping[str, float] | None
    unfreeze: Literal["auto"] | int | Mapping[int, str | Sequence[str]] | None
    schedule: ScheduleName | keras.optimizers.schedules.LearningRateSchedule | None
    warmup: float
    weight_decay: float
    label_smoothing: float
    augment: Literal["standard"] | Pipeline | None
    average: Literal["auto", "ema", "swa"] | None
    snapshots: int
    early_stopping: int | keras.callbacks.EarlyStopping | None
    callbacks: Sequence[keras.callbacks.Callback]
    preflight: Literal["data", "try"] | bool
    monitor: bool
    strategy: tf.distribute.Strategy | None
    run_dir: str | PathLike[str] | None
    resume: bool | Literal["force"]
    keep: int | KeepOptions
    backup_every: str | int | None
    seed: int
    steps_per_epoch: int | None
    drop: LabelIssues | Sequence[int] | None
    relabel: LabelIssues | Mapping[int, int] | None
    info: DatasetInfo | None
    verbose: Verbose
    given: frozenset[str] = frozenset()

    @classmethod
    def of(cls, declaration: Callable[..., Any], options: Mapping[str, Any]) -> Settings:
        """The options of a call, and for the rest the defaults of the function's declaration.

        Args:
            declaration: A function whose keyword-only parameters have the names of the fields.
            options: The keyword arguments it was called with.
        """
        parameters = inspect.signature(declaration).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        values = {**defaults, **options}
        if values["verbose"] == "auto" and in_notebook():
            values["verbose"] = 2  # a notebook keeps every state of a progress bar, thousands in a run
        values["drop"], values["relabel"] = numbers_to_drop(values["drop"]), labels_to_set(values["relabel"])
        return cls(**values, given=frozenset(options))

    def for_backend(self, backend: str) -> Settings:
        """On another backend, the same settings without those that need TensorFlow; a line says so unless `verbose=0`.

        Raises:
            ValueError: when the user wrote such an argument.
        """
        if backend == "tensorflow":
            return self
        if backend == "jax":
            wanted = ["strategy"] if self.strategy else []
            wanted += ["preflight"] if self.preflight == "try" else []
        else:
            wanted = [name for name in ("monitor", "preflight", "strategy") if getattr(self, name)]
        for name in wanted:
            if name in self.given:
                raise ValueError(
                    f"recipes.train expects {name}={getattr(self, name)!r} only on the TensorFlow backend. Received it "
                    f"on {backend!r}. {_ELSEWHERE[name]}"
                )
        if wanted and self.verbose != 0:
            print(
                f"recipes.train: no {' and no '.join(wanted)} on the {backend} backend, only on TensorFlow's."
            )
        return self if backend == "jax" else replace(self, monitor=False, preflight=False)

    def arguments(self) -> dict[str, Any]:
        """Every argument by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "given"}


def carried_out_by(plan: Callable[..., R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function of a declaration: it calls `plan(*positional arguments, settings)`.

    The declaration is the one place of names, types and defaults, and tools read it as it stands; the plan gets one
    `Settings`, which also knows what was given.

    Args:
        plan: function `(model, train, validation, settings)`.
    """

    def of(declaration: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(declaration)

        @functools.wraps(declaration)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            check_names(f"recipes.{declaration.__name__}", kwargs, signature.parameters)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            options = {
                name: value for name, value in kwargs.items() if name not in ("model", "train", "validation")
            }
            for name in ("drop", "relabel"):
                check_files(name, options.get(name), bound.arguments["train"])
            return plan(*bound.args, Settings.of(declaration, options))

        return call

    return of


_ELSEWHERE = {
    "monitor": "Leave it out: the curves are judged at the end.",
    "preflight": "Leave it out; on JAX preflight=True runs all checks, without trials of remedies.",
    "strategy": "Call keras.distribution.set_distribution before building the model.",
}


def check_arguments(model: Any, settings: Settings) -> None:
    """Raise for the first argument of `recipes.train` that cannot be what its docstring says.

    Raises:
        TypeError: when `model` is not a `keras.Model`.
        ValueError: for another argument; for one that a compiled model has already.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"recipes.train expects a keras.Model. Received {type(model).__name__}. "
            "Build one, for example recipes.models.resnet((32, 32, 3), 10)."
        )
    for name, (fits, expected, remedy) in _WANTED.items():
        value = getattr(settings, name)
        if not fits(value):
            raise ValueError(f"recipes.train expects {name}{expected}. Received {name}={value!r}. {remedy}")
    if settings.resume and settings.run_dir is None:
        raise ValueError(
            "recipes.train expects run_dir= with resume=True, to find the interrupted run. Received run_dir=None. "
            "Give the folder of that run."
        )
    backup_interval(settings.backup_every)
    Keep.of(settings.keep)
    _refuse_other_backups(settings.callbacks)
    if model.compiled:
        _refuse_compile_arguments(settings)


def _refuse_other_backups(callbacks):
    """A second one would put back weights of another moment than the data and the schedule go on from."""
    for callback in callbacks:
        if isinstance(callback, (keras.callbacks.BackupAndRestore, Backup)):
            raise ValueError(
                f"recipes.train expects to be the only one that resumes a run. Received {type(callback).__name__} in "
                "callbacks. Leave it out, and give run_dir= with resume=True, and backup_every= for backups within "
                "an epoch."
            )


def _refuse_compile_arguments(settings):
    for name in _COMPILE_ARGUMENTS:
        if name in settings.given:
            raise ValueError(
                f"recipes.train keeps the optimizer, loss and metrics of a compiled model. Received "
                f"{name}={getattr(settings, name)!r} for one. Leave {name} out, or hand over the model before "
                "compile()."
            )


def _counts(value):
    return is_whole(value) and 1 <= value < 2**31


def _is_rate(value):
    schedule = keras.optimizers.schedules.LearningRateSchedule
    return isinstance(value, schedule) or _is(value, "auto") or (is_number(value) and value > 0)


def _is_optimizer(value):
    if not isinstance(value, str):
        return isinstance(value, keras.optimizers.Optimizer)
    if value.lower() in ("auto", "muon_sgd"):
        return True
    try:
        return keras.optimizers.get(value.lower()) is not None
    except ValueError:
        return False


def _is_loss(value):
    """A `Loss`, a function or a name that Keras knows; for several outputs a list or dict of them, None for none."""
    if isinstance(value, dict):
        if "class_name" in value:  # the configuration of one
            return True
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return all(one is None or _is_loss(one) for one in value)
    if not isinstance(value, str):
        return callable(value)
    try:
        return value == "auto" or callable(keras.losses.get(value))
    except ValueError:
        return False


def _is_schedule(value):
    schedule = keras.optimizers.schedules.LearningRateSchedule
    return value is None or isinstance(value, (str, schedule))


def _are_metrics(value):
    """Strings that Keras knows by name, `Metric`s and functions; a list for each output of several."""
    if not isinstance(value, (list, tuple)):
        return False
    return all(one is None or _is_metric(one) or _are_metrics(one) for one in value)


def _is_metric(value):
    if not isinstance(value, str):
        return callable(value)
    try:
        return value in ("accuracy", "acc", "crossentropy", "ce") or callable(keras.metrics.get(value))
    except ValueError:
        return False


def _weighs_classes(value):
    known = isinstance(value, dict) and all(is_whole(key) and is_number(value[key]) for key in value)
    return value is None or (known and all(weight >= 0 for weight in value.values()))


def _stops(value):
    whole = is_whole(value) and value >= 0
    return value is None or whole or isinstance(value, keras.callbacks.Callback)


def _are_callbacks(value):
    row = as_row(value)
    return row is not None and all(isinstance(one, keras.callbacks.Callback) for one in row)


def _is(value, *names):
    return isinstance(value, str) and value in names


#: For each argument: the condition on its value; the error's words after its name; the remedy.
_WANTED = {
    "epochs": (_counts, " >= 1", "Give a whole number."),
    "batch_size": (_counts, " >= 1", "Give a whole number."),
    "loss": (
        lambda value: _is_loss(value) and (callable(value) or len(value) > 0),
        " to be a Keras loss or its name",
        "Leave it out for the one that the last activation asks for.",
    ),
    "metrics": (
        _are_metrics,
        " as a list of Keras metrics or their names, as in compile",
        "Write metrics=['accuracy'].",
    ),
    "class_weight": (
        _weighs_classes,
        " as a dict from class number to weight, or None",
        "Write class_weight={0: 1.0, 1: 2.5}.",
    ),
    "optimizer": (
        _is_optimizer,
        " to be 'auto', 'muon_sgd', the name of a Keras optimizer or a keras.optimizers.Optimizer",
        "Leave it out for MuonSGD, or write optimizer='sgd'.",
    ),
    "learning_rate": (_is_rate, ' above 0, or "auto"', "Leave it out for a rate that suits the batch size."),
    "rates": (
        lambda value: value is None or isinstance(value, Mapping) or (is_number(value) and 0 < value <= 1),
        " as factors by layer, a decay in (0, 1] or None",
        "Write rates={'head': 1.0, 'backbone': 0.1} or rates=0.75.",
    ),
    "unfreeze": (
        lambda value: value is None or _is(value, "auto") or is_whole(value) or isinstance(value, Mapping),
        " as callbacks.Unfreeze takes it, 'auto' or None",
        "Write unfreeze={3: 'backbone'}, or None to train only what is trainable now.",
    ),
    "schedule": (
        _is_schedule,
        " to be a name, a LearningRateSchedule or None",
        "Write schedule='cosine', or None for a constant rate.",
    ),
    "weight_decay": (
        lambda value: is_number(value) and value >= 0,
        " >= 0",
        "Use 0 to turn it off, 5e-4 as Zagoruyko 2016 does.",
    ),
    "label_smoothing": (
        lambda value: is_number(value) and 0 <= value < 1,
        " in [0, 1)",
        "The paper's value is 0.1.",
    ),
    "average": (
        lambda value: value is None or _is(value, "auto", "ema", "swa"),
        " to be None, 'auto', 'ema' or 'swa'",
        "For other settings pass the callback itself: callbacks=[recipes.callbacks.ExponentialMovingAverage(0.99)].",
    ),
    "snapshots": (
        lambda value: is_whole(value) and value >= 0,
        ", a number of cycles, to be 0 or more",
        "Leave it out for none.",
    ),
    "early_stopping": (
        _stops,
        " to be a number of epochs, 0 or more, an EarlyStopping or None",
        "Write early_stopping=10.",
    ),
    "callbacks": (_are_callbacks, " as a list of keras callbacks", "Write callbacks=[CSVLogger('log.csv')]."),
    "seed": (
        lambda value: is_whole(value) and 0 <= value < 2**31,
        " to be a whole number from 0 to 2147483647",
        "Leave it out for 0.",
    ),
    "resume": (
        lambda value: isinstance(value, (bool, np.bool_)) or _is(value, "force"),
        " to be True, False or 'force'",
        "Write resume=True to go on with the run in run_dir.",
    ),
    "preflight": (
        lambda value: isinstance(value, (bool, np.bool_)) or _is(value, "data", "try"),
        " to be 'data', 'try', True or False",
        "Leave it out for the checks of data, model and first loss; 'try' also tries the remedies of an error.",
    ),
    "steps_per_epoch": (
        lambda value: value is None or _counts(value),
        " >= 1",
        "Leave it out for a whole pass.",
    ),
}
