"""The checks that `recipes.train` makes before the first step, and the time they may take."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from recipes import diagnose
from recipes.common.types import Data
from recipes.training.compiling import compile_model
from recipes.training.settings import Settings, check_arguments
from recipes.training.training_data import TrainingData, open_data
from recipes.training.unfreezing import stages_of, with_unfreezing

if TYPE_CHECKING:
    import tensorflow as tf

    from recipes.diagnose import Finding, Preflight, Trials

_SECONDS = 5.0  # for all checks together
_TRIAL_SECONDS = 30.0  # for the remedies of preflight="try"


@dataclass(frozen=True)
class BeforeTraining:
    """What was learned before the first step.

    Attributes:
        done: The `recipes.diagnose.Preflight`, or None where the checks were left out or could not run.
        trials: The `recipes.diagnose.Trials` of `preflight="try"` at an error, or None.
        kept: The description of an earlier part of this run, which had its checks then, or None.
    """

    done: Preflight | None = None
    trials: Trials | None = None
    kept: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any] | None:
        """What the checks learned about model and data."""
        return None if self.done is None else self.done.facts

    def describe(self) -> dict[str, Any]:
        """As values that JSON can hold, under "before_training"; empty where nothing was looked at."""
        if self.done is None:
            return {"before_training": self.kept} if self.kept else {}
        tried = [] if self.trials is None else self.trials.results
        enough = self.done.enough_seconds
        return {
            "before_training": {
                "skipped": list(self.done.skipped),
                **({"enough_seconds": enough} if enough else {}),
                "tried": [
                    {"remedy": one.name, "type": one.code, "outcome": one.outcome, "gain": one.told_gain}
                    for one in tried
                ],
            }
        }

    def told(self, findings: list[Finding]) -> list[Finding]:
        """The findings of the run, with what the trials showed of their remedies."""
        return findings if self.trials is None else self.trials.apply(findings)


def before_training(model: keras.Model, data: TrainingData, settings: Settings) -> BeforeTraining:
    """Run the checks for a few seconds; with `preflight="try"` also try the remedies of an error for half a minute."""
    if not settings.preflight:
        return BeforeTraining()
    train, validation, verbose = data.preview(), data.validation_preview(), int(settings.verbose != 0)
    training = settings.preflight != "data"
    if verbose:
        what = "data, model and a few training steps" if training else "data and model"
        print(f"recipes.train: checking {what}.", flush=True)
    try:
        options = {"seconds": _SECONDS, "training": training, "verbose": verbose}
        done = diagnose.preflight(model, train, validation, **options)
    except Exception as error:
        # A check that fails on an unusual model must not keep it from being trained.
        warnings.warn(
            "recipes.train expects a model and data that its checks before training can look at. Received "
            f"{type(error).__name__}: {error}. Training goes on without these checks, and stops if it meets the same "
            "error; preflight=False leaves the checks out.",
            stacklevel=3,
        )
        return BeforeTraining()
    if done.severity != "error":
        return BeforeTraining(done)
    if settings.preflight == "try":
        return BeforeTraining(done, _tried(model, train, done.findings, verbose))
    if verbose:
        print(
            'preflight="try" first tries these remedies on copies of the model, for at most '
            f"{_TRIAL_SECONDS:.0f} s.",
            flush=True,
        )
    return BeforeTraining(done)


def as_trained(
    model: keras.Model, train: Data, validation: Data | None, options: dict[str, Any]
) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
    """Compile a model as `recipes.train` would, for checks of what it would train.

    Layers that `unfreeze=` lets learn from the beginning do learn, and the optimizer has the rates of `rates=`.

    Args:
        model: An uncompiled `keras.Model`; it is compiled in place.
        train: Training data, as `recipes.train` takes it.
        validation: Validation data, or None.
        options: Arguments of `recipes.train` by name.

    Returns:
        `(train, validation)`: batches of the images as they came, not augmented, with the labels that the loss takes;
        None for no validation data.

    Raises:
        ValueError, TypeError: for arguments or data that `recipes.train` refuses.
    """
    # That module imports this one.
    from recipes.training.train import train as declaration  # noqa: PLC0415 - see above

    settings = Settings.of(declaration, options)
    check_arguments(model, settings)
    settings = with_unfreezing(model, settings.for_backend(keras.backend.backend()))
    data = open_data(model, train, validation, settings)
    data = data.for_loss(compile_model(model, data.source, data.label_spec, settings))
    stages = stages_of(settings)
    if stages is not None:
        stages.begin_with_first(model)
    return data.unaugmented(), data.validation_preview()


def _tried(model, train, findings, verbose):
    serious = [finding for finding in findings if finding.severity != "info"]
    try:
        return diagnose.try_remedies(model, train, serious, seconds=_TRIAL_SECONDS, verbose=verbose)
    except (ValueError, NotImplementedError) as error:  # a model that cannot be copied: only say so
        if verbose:
            print(f"no remedy was tried: {error}", flush=True)
        return None
