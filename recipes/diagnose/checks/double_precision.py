"""A copy of a model that computes in float64, for checks that need its precision."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from recipes.common.models import with_dtype
from recipes.common.traversal import layers_of

FLOATS = ("float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16")


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Inside the block, Keras makes layers, losses and variables in float64; afterwards the settings are restored."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    try:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def clone_to_float64(model: keras.Model, inputs: Any) -> keras.Model:
    """Copy a model and its weights, so that the copy computes in float64. Call it inside `double_precision`.

    Args:
        model: A built `keras.Model` of any kind; it is not changed.
        inputs: A batch of its inputs. The copy is built on it, and its outputs are compared with those of the model.

    Returns:
        The copy, not compiled.

    Raises:
        Exception: of any kind, when the model cannot be made from its configuration (a subclassed model without
            `get_config`), or when the copy gives other outputs.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    classes = {type(layer).__name__: type(layer) for layer in layers_of(model, include_self=True)}
    # Safe mode is not needed: the code in the Lambda layers of the user's own model has already run in this process.
    clone = keras.saving.deserialize_keras_object(_in_float64(config), classes, safe_mode=False)
    outputs = keras.tree.flatten(clone(inputs, training=False))
    clone.set_weights(model.get_weights())
    if any(keras.backend.standardize_dtype(output.dtype) in FLOATS for output in outputs):
        raise TypeError("the copy's outputs are not of float64")
    outputs = keras.tree.flatten(clone(inputs, training=False))
    for one, other in zip(outputs, keras.tree.flatten(model(inputs, training=False)), strict=True):
        one, other = keras.ops.convert_to_numpy(one), np.asarray(keras.ops.cast(other, "float64"))
        if not np.allclose(one, other, rtol=0.05, atol=0.05 * (np.abs(one).max() + 1e-6)):
            raise ValueError("the copy predicts something else")
    return clone


def losses_to_float64(losses: Any) -> Any:
    """The `loss` argument of a compiled model, with its loss objects replaced by ones that compute in float64."""

    def convert(loss):
        if isinstance(loss, keras.losses.Loss):
            return with_dtype(loss, "float64")
        return loss

    return keras.tree.map_structure(convert, losses)


def _in_float64(config):
    """The configuration with every float dtype in it, at any depth, replaced by float64."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": _wide(config["config"].get("name"))}}
        return {
            key: _wide(value) if key == "dtype" and isinstance(value, str) else _in_float64(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_in_float64(value) for value in config)
    return config


def _wide(dtype):
    return "float64" if dtype in FLOATS else dtype
