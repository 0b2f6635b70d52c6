"""The inputs and outputs of a model, read from its graph; its configuration, and a second model built from it."""

import contextlib
import copy
import os
import random
import types
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from recipes.common.optimizers import build_for
from recipes.common.patching import wrapped
from recipes.common.processes import process_count
from recipes.common.traversal import has_graph, layers_of, producer_of


def model_input_rank(model: keras.Model) -> int | None:
    """Rank of the model's first input with its batch axis, or None for a subclassed model."""
    inputs = getattr(model, "inputs", None)
    return len(inputs[0].shape) if inputs else None


def output_activation(model: keras.Model) -> str | None:
    """ "softmax", "sigmoid", "linear", another name, or None where the graph cannot be read."""
    layer = _output_layer(model)
    if layer is None:
        return None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", "linear") if activation is not None else "linear"


def output_layers(model: keras.Model) -> list[Any]:
    """The layers that decide what each output means; empty where the graph cannot be read."""
    found = [_deciding(tensor) for tensor in getattr(model, "outputs", None) or ()]
    return [layer for layer in found if layer is not None and hasattr(layer, "trainable_variables")]


def serialized(model: keras.Model) -> dict[str, Any]:
    """The configuration of a model without its optimizer, loss and metrics, which may not serialize."""
    with wrapped([(model, "get_compile_config", lambda method: lambda: None)]):
        return keras.saving.serialize_keras_object(model)


def save_with_values(
    model: keras.Model, path: str | os.PathLike[str], values: Sequence[tuple[keras.Variable, Any]]
) -> None:
    """Write a `.keras` file of a model with other values of its variables, in this thread, while others use the model.

    Args:
        model: A built `keras.Model`.
        path: The file.
        values: `(variable, array)` pairs, for the variables of the model and its optimizer.
    """
    # To see which attributes every layer, optimizer, ... has, Keras makes one of each, with variables, which it may not
    # do inside the scope. It keeps what it found under another name than it looks for: so put it where it looks.
    for kind in ("Operation", "Layer", "Functional", "Sequential", "Metric", "Optimizer", "Loss"):
        attributes = keras.src.saving.saving_lib.get_attr_skipset(kind)
        keras.src.backend.common.global_state.set_global_attribute(f"saving_attr_skiplist_{kind}", attributes)
    with keras.StatelessScope(values):
        model.save(path)


def build_metrics(model: keras.Model, batch: tuple[Any, ...]) -> None:
    """Make the variables of a compiled model's metrics and losses, which `fit` makes at its first step.

    Args:
        model: Built and compiled.
        batch: Inputs, labels and perhaps weights, of which only shapes and dtypes are used.
    """
    with scope_of(model):
        model._symbolic_build(data_batch=batch)


def build_for_training(model: keras.Model, batch: tuple[Any, ...]) -> None:
    """Make the variables of optimizer, metrics and losses, so that the training step is traced once.

    `tf.function` traces a function a second time when the first trace made variables, as the first trace of a plain
    `fit` does. A model with a training step of its own, or whose graph cannot be read, is left to make them itself.

    Args:
        model: Compiled.
        batch: Inputs, labels and perhaps weights, of which only shapes and dtypes are used.
    """
    plain = type(model).train_step is keras.Model.train_step and "train_step" not in vars(model)
    known = has_graph(model) or isinstance(model, keras.Sequential)
    if not (plain and known and model.built and model.trainable_variables):
        return
    build_optimizer(model)
    build_metrics(model, batch)


def build_optimizer(model: keras.Model) -> None:
    """Make the optimizer's variables as the first step of `fit` would: by the same names, in the model's strategy."""
    optimizer = model.optimizer
    if not optimizer.built:
        with scope_of(model), keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(model.trainable_variables)


def build_optimizer_for(model: keras.Model, variables: Sequence[keras.Variable]) -> None:
    """Make the optimizer of a compiled model update these variables, keeping its state for those that it knew."""
    with scope_of(model):
        build_for(model.optimizer, variables)


def scope_of(model: keras.Model) -> AbstractContextManager:
    """The scope of the TensorFlow strategy that a model was made in; on another backend one that does nothing."""
    strategy = getattr(model, "distribute_strategy", None)  # on the TensorFlow backend alone
    return strategy.scope() if strategy else contextlib.nullcontext()


def of_backend(batch: Any) -> Any:
    """A batch that tf.data has read, in a form that Keras' backend takes: as it is, or as arrays."""
    if keras.backend.backend() == "tensorflow":
        return batch
    return keras.tree.map_structure(np.asarray, batch)


def predict_batch(model: keras.Model, images: Any) -> np.ndarray:
    """The outputs of a model for one batch, which tf.data may have read.

    Args:
        model: Built, of one output.
        images: `(batch, ...)`, an array or a tensor, or a structure of such.

    Returns:
        `(batch, ...)` of the output's dtype.
    """
    if keras.backend.backend() == "tensorflow" and process_count() > 1:
        # Keras' own would wait for the other workers, although perhaps only the first one writes a report.
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, images)
        return keras.ops.convert_to_numpy(model(inputs, training=False))
    return keras.ops.convert_to_numpy(model.predict_on_batch(of_backend(images)))


def predict_array(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """The outputs of a model for an array of images, without waiting for other workers of a TensorFlow run.

    Args:
        model: Built, of one input and one output.
        images: `(n, ...)`, n >= 1.
        batch_size: Images per batch, >= 1.

    Returns:
        `(n, ...)` of the output's dtype.
    """
    if process_count() == 1 or keras.backend.backend() != "tensorflow":
        return model.predict(images, batch_size=batch_size, verbose=0)
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return np.concatenate([predict_batch(model, part) for part in parts])


def rebuild(model: keras.Model, dtype: str | None = None) -> keras.Model:
    """A second model from the configuration of a built one, with new weights and uncompiled.

    The classes of the model's own layers, functions, initializers, regularizers and constraints need not be registered
    with Keras, and its Lambda layers are trusted: they have run in this process already. A model with a graph whose
    class takes other arguments than its configuration is cloned as `keras.models.clone_model` does. Random numbers
    drawn afterwards are the same as if nothing had been built.

    Args:
        model: Built.
        dtype: Dtype policy of every layer of the second model, such as "float32" or "mixed_bfloat16"; None keeps those
            of the model.

    Raises:
        ValueError: for a model that Keras cannot build again, such as a subclassed one without `get_config`.
    """
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's own
    try:
        twin = _second(model, dtype)
    except (AttributeError, ImportError, NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"Keras cannot build {model.name!r} again from its configuration ({reason})"
        ) from error
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
    shapes = [[tuple(weight.shape) for weight in one.weights] for one in (model, twin)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Keras builds another model from the configuration of {model.name!r}, with {len(shapes[1])} weights "
            f"in place of {len(shapes[0])} or of other shapes"
        )
    return twin


def _second(model, dtype):
    config = serialized(model) if dtype is None else _in_dtype(serialized(model), dtype)
    try:
        twin = keras.saving.deserialize_keras_object(config, _own_objects(model), safe_mode=False)
    except TypeError:
        # A subclass whose `__init__` makes the graph itself, from arguments that the configuration does not tell.
        if dtype is not None or not has_graph(model):
            raise
        return keras.models.clone_model(model)
    if not twin.built:
        twin.build(model.input_shape)
    return twin


def _own_objects(model):
    """The classes and functions that the configuration of a model names, found in the model itself."""
    layers = layers_of(model, include_self=True)
    found = {type(layer).__name__: type(layer) for layer in layers}
    parts = (keras.initializers.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint)
    for value in [value for layer in layers for value in vars(layer).values()]:
        named = value if isinstance(value, types.FunctionType) else type(value)
        known = named.__module__.split(".")[0] == "keras"
        if (isinstance(value, parts) or named is value) and not known:
            found.setdefault(named.__name__, named)
    return found


def value_of(variable: keras.Variable) -> Any:
    """The present value of a variable as a tensor, in the variable's own dtype also where Keras would cast it."""
    with keras.src.backend.AutocastScope(None):
        return keras.ops.convert_to_tensor(variable)


def loss_weights_of(model: keras.Model) -> Any:
    """The `loss_weights` a model was compiled with, or None."""
    compiled = getattr(model, "_compile_loss", None)
    return getattr(compiled, "_user_loss_weights", None)


def with_dtype(loss: keras.losses.Loss, dtype: str) -> keras.losses.Loss:
    """A copy of a loss that computes in another dtype."""
    loss = copy.copy(loss)
    loss._dtype_policy = keras.DTypePolicy(dtype)
    loss._dtype = dtype
    return loss


def set_kernel_regularizer(layer: keras.layers.Layer, regularizer: keras.regularizers.Regularizer) -> None:
    """Change the argument from which an attention layer makes its inner layers, as when it is loaded."""
    name = "_kernel_regularizer" if hasattr(layer, "_kernel_regularizer") else "kernel_regularizer"
    setattr(layer, name, regularizer)


def begin_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Make the `fit` that begins start at this epoch; None undoes that. Call it in `on_train_begin`."""
    model._initial_epoch = epoch


def _in_dtype(config, dtype):
    """A configuration with another dtype policy wherever one stands."""
    if isinstance(config, dict):
        if str(config.get("class_name", "")).endswith("DTypePolicy"):
            return dtype
        if config.get("class_name") == "InputLayer" and dtype.startswith("mixed_"):
            return config  # it takes no policy; the layers behind it cast
        return {
            key: dtype if key == "dtype" and isinstance(value, str) else _in_dtype(value, dtype)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_in_dtype(value, dtype) for value in config)
    return config


def _output_layer(model):
    """The layer that decides what the first output means, or None where the graph cannot be read."""
    outputs = getattr(model, "outputs", None)
    return _deciding(outputs[0]) if outputs else None


def _deciding(tensor):
    while True:
        layer = producer_of(tensor)
        if isinstance(layer, keras.Model):
            return _output_layer(layer)
        shape_only = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity, keras.layers.Dropout)
        passes_on = isinstance(layer, shape_only) or (
            isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
        )
        if not passes_on:
            return layer
        tensor = layer.input
