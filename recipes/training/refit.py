"""After early stopping: train once more, with the validation data included."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from recipes.callbacks.early_stopping import EarlyStopping
from recipes.common.datasets import as_batches, without_autotune
from recipes.common.models import rebuild
from recipes.common.types import Data, Verbose

_SHUFFLE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Refit:
    """What `refit_on_all_data` did.

    Attributes:
        model: The user's model, with the new weights.
        history: dict of lists, one entry per epoch: `loss`, metrics, and for `"continue"` `validation_loss`.
        strategy: `"restart"` or `"continue"`.
        epochs: Epochs trained.
        target: For `"continue"`: the training loss at the best weights, which the validation loss had to reach. Else
            None.
        reached: Whether the validation loss reached `target`. Always True for `"restart"`.
    """

    model: keras.Model
    history: dict[str, list[float]]
    strategy: Literal["restart", "continue"]
    epochs: int
    target: float | None
    reached: bool


def refit_on_all_data(
    stopper: EarlyStopping,
    train: Data,
    validation: Data,
    strategy: Literal["restart", "continue"] = "restart",
    *,
    match: Literal["epochs", "steps"] = "epochs",
    max_epochs: int | None = None,
    batch_size: int = 128,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: int = 0,
    verbose: Verbose = "auto",
) -> Refit:
    """Use the validation data for training too, once early stopping has said how long to train.

    Source: Goodfellow et al. 2016, section 7.8, https://www.deeplearningbook.org/contents/regularization.html.

    - `"restart"`, algorithm 7.2: go back to the weights the run began with (so a pretrained network begins pretrained)
      and to a new optimizer. Then train on both sets for as many epochs, or as many steps, as the best point took.
      There is no validation then; a schedule has to be given again in `callbacks`, and ends with this run.
    - `"continue"`, algorithm 7.3: go on from the best weights, with the optimizer as it is. Train on both sets, until
      the loss on the validation part has fallen to the loss that the best weights have on the training part. Both
      losses are measured as in `evaluate`. The book warns that this need not happen: after `max_epochs` training ends
      with a warning.

    Afterwards the stopper's model holds the refitted weights, and its optimizer the state at the end of this
    training. If this training is interrupted, both stay as they were at that moment; `stopper.best_weights` do not
    change.

    Args:
        stopper: The `callbacks.EarlyStopping` of the finished `fit` or `recipes.train`.
        train: The training data: `tf.data.Dataset` of (image, label), batched or not, or arrays (x, y). Apply the same
            augmentation again, if any.
        validation: The validation data, of the same kind. If it is to be augmented, map it through the augmentation
            yourself.
        strategy: `"restart"` or `"continue"`.
        match: For `"restart"`: `"epochs"`, as many passes (over more data, so more steps), or `"steps"`, one epoch of
            as many batches.
        max_epochs: For `"continue"`: largest number of epochs, >= 1. Default: as many epochs as the best point took.
        batch_size: Images per batch for data that comes un-batched.
        callbacks: Keras callbacks for this training.
        seed: Integer that fixes the order of the examples.
        verbose: As in `fit`.

    Returns:
        A `Refit`.

    Raises:
        TypeError: for a `stopper` that is not a `recipes.callbacks.EarlyStopping`.
        ValueError: before a weight is changed, when the stopper saw no training, kept no weights and the model cannot
            be rebuilt, or the optimizer cannot be made again (`"restart"`); kept no best weights (`"continue"`); or the
            two data sets do not fit together.
    """
    _check_arguments(stopper, strategy, match, max_epochs)
    model, epochs = stopper.model, stopper.best_epoch + 1
    beginning = _beginning(stopper, model) if strategy == "restart" else None
    parts = [
        _like_the_loss(
            as_batches(data, model, batch_size=batch_size, caller="refit_on_all_data", name=name), model
        )
        for data, name in ((train, "train"), (validation, "validation"))
    ]
    both = _together(*parts, seed)
    options = {"shuffle": False, "verbose": verbose}
    if strategy == "restart":
        _start_over(stopper, model, *beginning)
        if match == "steps":
            epochs, both = 1, both.repeat().take(stopper.best_steps)
        history = model.fit(both, epochs=epochs, callbacks=[*callbacks], **options).history
        return Refit(model, history, strategy, epochs, None, True)

    model.set_weights(stopper.best_weights)
    target = _loss(model, parts[0])
    until = _Until(model, parts[1], target)
    limit = epochs if max_epochs is None else max_epochs
    history = {}
    if not until.reached:
        history = model.fit(both, epochs=limit, callbacks=[until, *callbacks], **options).history
    if not until.reached:
        warnings.warn(
            f"refit_on_all_data expects the validation loss to fall to {target:.4g}, the training loss of the best "
            f"weights. After {limit} epochs it is {until.value:.4g}. Raise max_epochs, or take strategy='restart'.",
            stacklevel=2,
        )
    return Refit(model, history, strategy, len(history.get("loss", ())), target, until.reached)


class _Until(keras.callbacks.Callback):
    """Measures the loss on the validation part after each epoch; stops when it has reached the target."""

    def __init__(self, model, data, target):
        super().__init__()
        self.data, self.target = data, target
        self.value = _loss(model, data)
        self.reached = self.value <= target

    def on_epoch_end(self, epoch, logs=None):
        self.value = _loss(self.model, self.data)
        logs["validation_loss"] = self.value
        if self.value <= self.target:
            self.reached = True
            self.model.stop_training = True


def _loss(model, data):
    return float(model.evaluate(data, verbose=0, return_dict=True)["loss"])


def _together(train, validation, seed):
    """Both sets as one, in batches of the training set's size, in a new order every epoch."""
    if not _same_elements(train.element_spec, validation.element_spec):
        raise ValueError(
            "refit_on_all_data expects train and validation of one kind. Received elements "
            f"{train.element_spec} and {validation.element_spec}. Map both to the same shapes and dtypes."
        )
    sizes = [[tf.nest.flatten(batch)[0].shape for batch in data] for data in (train, validation)]
    examples = sum(shape[0] for shapes in sizes for shape in shapes)
    bytes_each = max(1, int(np.prod(sizes[0][0][1:])) * tf.nest.flatten(train.element_spec)[0].dtype.size)
    both = train.unbatch().concatenate(validation.unbatch())
    both = both.shuffle(min(examples, max(1024, _SHUFFLE_BYTES // bytes_each)), seed=seed)
    batch = max(shape[0] for shape in sizes[0])
    steps = -(-examples // batch)
    both = both.batch(batch).apply(tf.data.experimental.assert_cardinality(steps))
    return without_autotune(both.prefetch(2))


def _same_elements(first, second):
    first, second = (tf.nest.flatten(spec) for spec in (first, second))
    return [s.dtype for s in first] == [s.dtype for s in second] and all(
        a.shape[1:].is_compatible_with(b.shape[1:]) for a, b in zip(first, second, strict=True)
    )


def _like_the_loss(batches, model):
    """One-hot labels where the model was compiled for them, as `recipes.train` does for label smoothing."""
    labels = batches.element_spec[1] if len(batches.element_spec) > 1 else None
    if labels is None:
        raise ValueError(
            "refit_on_all_data expects labels in train and validation. Received images alone. Give (image, label)."
        )
    if (
        labels.dtype.is_integer
        and labels.shape.rank == 1
        and isinstance(model.loss, keras.losses.CategoricalCrossentropy)
    ):
        classes = model.output_shape[-1]
        return batches.map(lambda images, labels, *rest: (images, tf.one_hot(labels, classes), *rest))
    return batches


def _beginning(stopper, model):
    """The weights the run began with, or new ones; and a new optimizer. Changes nothing yet."""
    weights = stopper.initial_weights
    if weights is None:
        try:
            weights = rebuild(model).get_weights()
        except ValueError as error:
            raise ValueError(
                "refit_on_all_data(strategy='restart') expects the weights the run began with, or a model that Keras "
                f"can build again. {error}, and the stopper has no initial weights. "
                "Train with EarlyStopping(keep_initial_weights=True), or use strategy='continue'."
            ) from error
    optimizer = model.optimizer
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
        fresh.build(model.trainable_variables)
    except (KeyError, NotImplementedError, TypeError, ValueError) as error:
        wrong = str(error).strip().partition("\n")[0] or type(error).__name__
        raise _no_new_optimizer(optimizer, wrong) from error
    shapes = [[tuple(variable.shape) for variable in one.variables] for one in (optimizer, fresh)]
    if shapes[0] != shapes[1]:
        raise _no_new_optimizer(optimizer, f"{len(shapes[1])} variables in place of {len(shapes[0])}")
    return weights, fresh


def _no_new_optimizer(optimizer, wrong):
    return ValueError(
        "refit_on_all_data(strategy='restart') expects an optimizer that its get_config() can make again. "
        f"Received {type(optimizer).__name__}, where this fails ({wrong}). "
        "Let its get_config return every argument of __init__, or use strategy='continue'."
    )


def _start_over(stopper, model, weights, fresh):
    model.set_weights(weights)
    for variable, new in zip(model.optimizer.variables, fresh.variables, strict=True):
        variable.assign(new)
    if stopper.initial_rate is not None:
        model.optimizer.learning_rate = stopper.initial_rate


def _check_arguments(stopper, strategy, match, max_epochs):
    if not isinstance(stopper, EarlyStopping):
        raise TypeError(
            f"refit_on_all_data expects a recipes.callbacks.EarlyStopping. Received {type(stopper).__name__}. "
            "Keras' own does not keep what is needed; use ours in its place."
        )
    if strategy not in ("restart", "continue") or match not in ("epochs", "steps"):
        raise ValueError(
            "refit_on_all_data expects strategy='restart' or 'continue' and match='epochs' or 'steps'. "
            f"Received strategy={strategy!r}, match={match!r}. Take one of these."
        )
    if max_epochs is not None and max_epochs < 1:
        raise ValueError(
            f"refit_on_all_data expects max_epochs >= 1. Received {max_epochs}. Leave it out for as many as before."
        )
    if not stopper.best_steps:
        raise ValueError(
            "refit_on_all_data expects the stopper of a finished training. Received one that saw no epoch with "
            f"{stopper.monitor!r} in it. Give it to fit first, with validation data."
        )
    if strategy == "continue" and stopper.best_weights is None:
        raise ValueError(
            "refit_on_all_data(strategy='continue') expects the best weights. Received a stopper with "
            "restore_best_weights=False. Train with EarlyStopping(restore_best_weights=True)."
        )
