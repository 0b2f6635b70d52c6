"""What `recipes.train` takes, argument by argument, asked before anything is built."""

import keras

from recipes.common.validation import as_row, is_number, is_whole


def check_arguments(model, *, run_dir, resume, **settings):
    """Raise for the first argument of `recipes.train` that cannot be what its docstring says.

    Raises:
        TypeError: when the model is none.
        ValueError: for another argument.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"recipes.train expects a keras.Model. Received {type(model).__name__}. "
            "Build one, for example recipes.models.resnet((32, 32, 3), 10)."
        )
    for name, (fits, expected, remedy) in _WANTED.items():
        if not fits(settings[name]):
            raise ValueError(
                f"recipes.train expects {name}{expected}. Received {name}={settings[name]!r}. {remedy}"
            )
    if resume and run_dir is None:
        raise ValueError(
            "recipes.train expects run_dir= with resume=True, to find the interrupted run. Received run_dir=None. "
            "Give the folder of that run."
        )


def _counts(value):
    return is_whole(value) and 1 <= value < 2**31


def _is_rate(value):
    schedule = keras.optimizers.schedules.LearningRateSchedule
    return isinstance(value, schedule) or _is(value, "auto") or (is_number(value) and value > 0)


def _is_optimizer(value):
    if not isinstance(value, str):
        return isinstance(value, keras.optimizers.Optimizer)
    try:
        return keras.optimizers.get(value.lower()) is not None
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


#: What is asked of an argument; how the error goes on after its name; what to do.
_WANTED = {
    "epochs": (_counts, " >= 1", "Give a whole number."),
    "batch_size": (_counts, " >= 1", "Give a whole number."),
    "loss": (
        lambda value: callable(value) or (isinstance(value, (str, list, tuple, dict)) and len(value) > 0),
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
        " to be the name of a Keras optimizer or a keras.optimizers.Optimizer",
        "Write optimizer='sgd'.",
    ),
    "learning_rate": (_is_rate, ' above 0, or "auto"', "Leave it out for a rate that suits the batch size."),
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
        lambda value: value is None or _is(value, "ema", "swa"),
        " to be None, 'ema' or 'swa'",
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
    "steps_per_epoch": (
        lambda value: value is None or _counts(value),
        " >= 1",
        "Leave it out for a whole pass.",
    ),
}
