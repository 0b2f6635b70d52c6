"""How `recipes.train` compiles a model: the loss its last activation asks for, an optimizer by name, weight decay."""

import keras
import tensorflow as tf

from recipes.common.models import output_activation


class DefaultString(str):
    """A default of `train`, told from the same value given by the reader by its type."""


class DefaultFloat(float):
    """As `DefaultString`."""


class DefaultTuple(tuple):
    """As `DefaultString`."""


def given(value):
    return not isinstance(value, (DefaultString, DefaultFloat, DefaultTuple))


def compile_model(model, source, label_spec, settings, strategy):
    """Compile with the arguments of `train`; True when the loss wants one-hot rows instead of class numbers."""
    loss, rows_wanted = settings["loss"], False
    if isinstance(loss, str) and loss == "auto":
        loss, rows_wanted = _loss(model, label_spec, settings["label_smoothing"])
    with (strategy or tf.distribute.get_strategy()).scope():
        optimizer = _optimizer(model, source, settings)
        model.compile(optimizer=optimizer, loss=loss, metrics=list(settings["metrics"]))
    return rows_wanted


def _loss(model, label_spec, smoothing):
    activation = output_activation(model)
    if activation not in ("softmax", "sigmoid", "linear"):
        raise ValueError(
            f"recipes.train picks a loss for softmax, sigmoid or linear outputs of a model whose graph it can read. "
            f"Received {model.name!r} with output activation {activation}. Give loss=, or compile the model."
        )
    logits = activation == "linear"
    width = model.outputs[0].shape[-1]
    class_numbers = label_spec.shape.rank == 1
    if width == 1 or activation == "sigmoid":
        rows = class_numbers and width > 1
        return keras.losses.BinaryCrossentropy(from_logits=logits, label_smoothing=float(smoothing)), rows
    if class_numbers and not smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=logits), False
    loss = keras.losses.CategoricalCrossentropy(from_logits=logits, label_smoothing=float(smoothing))
    return loss, class_numbers


def _optimizer(model, source, settings):
    optimizer, rate, decay = settings["optimizer"], settings["learning_rate"], settings["weight_decay"]
    if isinstance(optimizer, keras.optimizers.Optimizer):
        for name in ("learning_rate", "weight_decay"):
            if given(settings[name]):
                raise ValueError(
                    f"recipes.train leaves an optimizer object as it is. Received {name}={settings[name]} beside "
                    f"{type(optimizer).__name__}. Set it on the optimizer, or give the optimizer by name."
                )
        return optimizer
    name = str(optimizer).lower()
    if rate == "auto":
        batch = source.element_spec[1].shape[0] or settings["batch_size"]
        rate = 0.1 * batch / 256 if name == "sgd" else 1e-3
    if name == "sgd":
        momentum = 0.9
        made = keras.optimizers.SGD(
            rate, momentum=momentum, nesterov=True, weight_decay=float(decay) / (1 - momentum) or None
        )
    else:
        made = keras.optimizers.get(name)
        made.learning_rate = rate
        if not (name == "adamw" and not given(decay)):
            made.weight_decay = float(decay) or None
    # Kernels have two axes or more; biases, gains and offsets have one.
    spared = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
    if spared and made.weight_decay:
        made.exclude_from_weight_decay(var_list=spared)
    return made


def refuse_compile_arguments(settings):
    names = ("loss", "metrics", "optimizer", "learning_rate", "weight_decay", "label_smoothing")
    for name in names:
        if given(settings[name]):
            raise ValueError(
                f"recipes.train keeps the optimizer, loss and metrics of a compiled model. Received "
                f"{name}={settings[name]!r} for one. Leave {name} out, or hand over the model before compile()."
            )
